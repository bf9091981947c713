"""`curate serve`: who is let in, and that a browser shows the app and drives it."""

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import commands

pytest.importorskip("textual_serve", reason="the extra [web] is not installed")

from aiohttp import ClientSession, CookieJar, WSServerHandshakeError

from curate.cli.serve import guarded
from curate.project.journal import read_journal

TOKEN = "correct-horse"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def running(command="echo", token=TOKEN):
    from aiohttp import web

    port = free_port()
    server = guarded(command, host="127.0.0.1", port=port, token=token, title="curate: a <b>")
    runner = web.AppRunner(await server._make_app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


def test_without_the_token_nobody_is_let_in():
    async def story():
        async with running() as url, ClientSession() as session:
            for path in (
                "/",
                "/?token=wrong",
                "/?token=\udcff".encode("utf-8", "replace").decode(),
                "/static/",
                "/download/x",
            ):
                async with session.get(f"{url}{path}", allow_redirects=False) as answer:
                    assert answer.status == 401, path
                    assert TOKEN not in await answer.text()
            with pytest.raises(WSServerHandshakeError) as refused:
                await session.ws_connect(f"{url}/ws")
            assert refused.value.status == 401

    asyncio.run(story())


def test_another_name_or_another_site_is_refused():
    async def story():
        async with running() as url, ClientSession() as session:
            cookie = {"Cookie": f"{url.rpartition(':')[2]}_curate_token={TOKEN}"}
            async with session.get(f"{url}/", headers={"Host": "evil.example"}) as answer:
                assert answer.status == 403
            async with session.get(
                f"{url}/?token={TOKEN}", headers={"Host": "evil.example"}, allow_redirects=False
            ) as answer:
                assert answer.status == 403
            for origin in ("http://evil.example", "null", url.replace("http:", "https:"), f"{url}.evil.example"):
                with pytest.raises(WSServerHandshakeError) as refused:
                    await session.ws_connect(f"{url}/ws", headers={**cookie, "Origin": origin})
                assert refused.value.status == 403

    asyncio.run(story())


def test_the_link_gives_a_cookie_and_the_token_leaves_the_address(monkeypatch):
    started = []
    shell = asyncio.create_subprocess_shell

    async def noted(*command, **more):
        started.append(await shell(*command, **more))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_shell", noted)

    async def story():
        async with running() as url, ClientSession() as session:
            async with session.get(f"{url}/?token={TOKEN}", allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (302, "/")
                cookie = answer.headers["Set-Cookie"]
                assert "HttpOnly" in cookie
                assert "SameSite=Strict" in cookie
            headers = {"Cookie": f"{url.rpartition(':')[2]}_curate_token={TOKEN}"}
            async with session.get(f"{url}/", headers=headers) as answer:
                assert answer.status == 200
                assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
                page = await answer.text()
                assert "<title>curate: a &lt;b&gt;</title>" in page
                assert "field.focus()" in page, "its keys are alive before the first click"
                page = await answer.text()
            assert TOKEN not in page
            # Nothing on the page comes from another machine.
            assert not re.findall(r"""(?:src|href)=["']https?://(?!127\.0\.0\.1)[^"']+""", page)
            socket_ = await session.ws_connect(f"{url}/ws", headers={**headers, "Origin": url})
            await socket_.close()
        # The command is no app and ends by itself; an event loop that ends before it would leave it unreaped.
        for process in started:
            await process.wait()
        await asyncio.sleep(0.05)

    asyncio.run(story())


def test_two_servers_of_one_machine_keep_each_other_apart():
    # A browser keeps cookies by host, whatever the port: the second link must not lock the first page out.
    async def story():
        async with (
            running() as first,
            running(token="battery-staple") as second,
            ClientSession(cookie_jar=CookieJar(unsafe=True)) as session,
        ):
            for url, token in ((first, TOKEN), (second, "battery-staple")):
                async with session.get(f"{url}/?token={token}", allow_redirects=False) as answer:
                    assert answer.status == 302
            for url in (first, second):
                async with session.get(f"{url}/") as answer:
                    assert answer.status == 200

    asyncio.run(story())


def run(*words, **more):
    return commands.run("curate", "serve", *words, **more)


def test_an_address_that_others_reach_needs_a_second_word(tmp_path):
    found = run(str(tmp_path), "--host", "0.0.0.0")
    assert found.returncode == 2
    assert "ssh -L" in found.stderr
    assert run(str(tmp_path)).returncode == 2


@pytest.fixture
def served(tmp_path):
    """`curate serve` on a small workspace, as a user starts it: the link that it printed, and its process."""
    (tmp_path / "ws/data").mkdir(parents=True)
    (tmp_path / "ws/curate.toml").write_text('schema = "instruction"\n', encoding="utf-8")
    line = {"id": "r1", "instruction": "Name a bird.", "output": "Wren.", "category": "birds"}
    (tmp_path / "ws/data/a.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "curate", "serve", str(tmp_path / "ws"), "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        link = process.stdout.readline().strip()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        yield link, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.mark.ci
@pytest.mark.server
def test_a_taken_port_is_said(served, tmp_path):
    port = re.search(r":(\d+)/", served[0])[1]
    found = run(str(tmp_path / "ws"), "--port", port)
    assert (found.returncode, "E973" in found.stderr) == (2, True)


class Page:
    """A page of headless Chromium, driven over its debugging socket."""

    def __init__(self, socket_) -> None:
        self._socket, self._number = socket_, 0

    async def call(self, method, **parameters):
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        async for message in self._socket:
            answer = json.loads(message.data)
            if answer.get("id") == self._number:
                return answer["result"]
        raise AssertionError("the browser has gone")

    async def key(self, key, code=0):
        text = {"text": key} if len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    async def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def picture(self) -> bytes:
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


@contextlib.asynccontextmanager
async def browser(url, folder):
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder}", f"--remote-debugging-port={port}", "--window-size=1000,700", url,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with ClientSession() as session:
            # The first start on a machine reads hundreds of megabytes.
            for _ in range(1200):
                with contextlib.suppress(OSError):
                    async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                        pages = [one for one in await answer.json() if one["type"] == "page"]
                    if pages:
                        async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket_:
                            yield Page(socket_)
                        return
                await asyncio.sleep(0.1)
        raise AssertionError("the browser did not start")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@pytest.mark.server
@pytest.mark.ci
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian package chromium)")
def test_a_browser_shows_the_app_and_drives_it(served, tmp_path):
    async def story():
        async with browser(served[0], tmp_path / "profile") as page:
            for _ in range(300):
                shown = await page.call(
                    "Runtime.evaluate", expression="document.querySelectorAll('.xterm, canvas').length"
                )
                if shown["result"]["value"]:
                    break
                await asyncio.sleep(0.1)
            assert shown["result"]["value"]
            address = await page.call("Runtime.evaluate", expression="location.href")
            assert "token" not in address["result"]["value"]
            home = await _settled(page)
            # To Browse by its tab, and drop the one record: what the page's keys decide is in the journal.
            await page.click(98, 27)
            browse = await _settled(page, other_than=home)
            await page.key("d", 68)
            dropped = await _settled(page, other_than=browse)
            assert [(event.op, event.id) for event in read_journal(tmp_path / "ws")[0]] == [("drop", "r1")]
            # The app ends, and the page says that it is over.
            await page.key("q", 81)
            await _settled(page, other_than=dropped)

    asyncio.run(story())


async def _settled(page, other_than: bytes = b"") -> bytes:
    """Return the picture once it is another one, two in a row are the same, and it shows more than a blank page."""
    last = b""
    for _ in range(100):
        picture = await page.picture()
        if picture == last and picture != other_than and len(picture) > 8_000:
            return picture
        last = picture
        await asyncio.sleep(0.5)
    raise AssertionError("the page does not come to rest")
