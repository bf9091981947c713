"""What tests of screens share: driving an app through Pilot, and comparing what is seen with a text file."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import textual.app
import textual.pilot
from textual._compositor import Compositor
from textual._context import active_app
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.message_pump import MessagePump
from textual.pilot import Pilot, WaitForScreenTimeout
from textual.worker import WorkerCancelled

from curate.base.record import missing_extra
from curate.checks.quality.suspects import Classifier
from curate.project.data import ProjectData
from curate.project.labels import Suggestions, to_suggestions
from curate.tui.app import CurateApp
from tests.curate.tui.asking import TWO_QUESTIONS

SNAPSHOTS = Path(__file__).parent / "snapshots"
OWN_WAYS = ("NO_COLOR", "SSH_CONNECTION", "LC_ALL", "LC_CTYPE", "COLORTERM", "CURATE_ANNOTATOR", "FORCE_COLOR")
"""Variables by which whoever runs the tests would have it otherwise."""

Story = Callable[[Pilot[Any]], Awaitable[None]]


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test the same terminal, whatever runs the tests."""
    for name in OWN_WAYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")


async def _wait_for_living_widgets(pilot: Pilot[Any], timeout: float = 60.0) -> bool:
    """Wait until each widget of the screen has handled the messages that it has; return False after an error.

    Pilot's own waits for every widget that was there at the start. One that the app removes meanwhile never
    answers, and Pilot gives up after 30 seconds; this one waits for those that are not closed, or not started yet.
    It looks at their queues: a message to each of them was half of all messages, and a tenth of the CPU time.
    """
    waiting = {widget for widget in (pilot.app, *pilot.app.screen.walk_children(with_self=True)) if not widget._closing}
    deadline = time.monotonic() + timeout
    # What came from outside is in their queues after one turn of the loop.
    await asyncio.sleep(0)
    # All at once: one that rests may get a message from another that does not.
    while busy := [widget for widget in waiting if not _is_at_rest(widget)]:
        if pilot.app._exception is not None:
            return False
        if time.monotonic() > deadline:
            raise WaitForScreenTimeout(f"still busy: {busy}")
        await asyncio.sleep(0.001)
    return True


def _is_at_rest(widget: MessagePump) -> bool:
    """Return whether a widget waits for its next message, or takes none any more."""
    filled = widget._message_queue.ready_event
    waits = not filled.is_set() and bool(filled._waiters)
    return waits or widget._closed or (widget._closing and not widget.is_running)


FRAME = 0.02
"""Seconds within which a worker that takes no CPU time waits for somebody else."""
REST = 0.1
"""Seconds for which a screen waits for one more key at most before it goes on."""


async def _until_idle(min_sleep: float = 0, max_sleep: float = 1, within: float = 2 * FRAME) -> None:
    """Wait until nothing is left to run: no callback, no timer due ``within`` seconds, no worker that computes.

    Textual's own sleeps two frames and more at each key and calls that idle: two thirds of the time of these tests.
    """
    loop: Any = asyncio.get_running_loop()
    begun, num_idle = loop.time(), 0
    while num_idle < 3 and loop.time() < begun + max_sleep:
        await asyncio.sleep(0)
        num_idle += 1
        if loop._ready:
            num_idle = 0
        elif any(not timer.cancelled() and timer.when() < begun + within for timer in loop._scheduled):
            await asyncio.sleep(FRAME / 10)
            num_idle = 0
        elif any(not worker.is_finished for worker in active_app.get().workers):
            computed = time.process_time()
            await asyncio.sleep(FRAME)
            if time.process_time() - computed > FRAME / 20:
                num_idle = 0


@pytest.fixture(autouse=True)
def _wait_for_what_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every ``pilot.pause`` and ``pilot.press`` wait for the widgets that still run."""
    monkeypatch.setattr(Pilot, "_wait_for_screen", _wait_for_living_widgets)
    for module in (textual.app, textual.pilot):
        monkeypatch.setattr(module, "wait_for_idle", _until_idle)


@pytest.fixture(autouse=True)
def _problems_are_sought_here(problems_sought_here: None) -> None:
    """Search for problems in a thread."""


class ThreadTrainer:
    """Learns in the thread that asks, where a `Trainer` starts a process that imports for as long as a test takes."""

    def __init__(self, texts: Sequence[str], clusters: Sequence[str]) -> None:
        self._classifier = Classifier(texts, clusters)

    def learn(self, labels: Sequence[str]) -> Suggestions:
        return to_suggestions(self._classifier.judge(labels))

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture(autouse=True)
def _labels_are_learnt_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn labels in a thread, but where a test is marked `child`."""
    if request.node.get_closest_marker("child") is None:
        monkeypatch.setattr("curate.sessions.labelling.queue.Trainer", ThreadTrainer)


_PARSED_RULES: dict[tuple[Any, ...], list[RuleSet]] = {}


@pytest.fixture(autouse=True)
def _parse_css_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share the parsed CSS between all apps: a seventh of the CPU time of these tests went into parsing it anew."""
    parse = Stylesheet._parse_rules

    def parse_once(sheet: Stylesheet, css: str, *place: Any, **named: Any) -> list[RuleSet]:
        key = (css, place, *named.values(), *sheet._variables.items())
        if key not in _PARSED_RULES:
            _PARSED_RULES[key] = parse(sheet, css, *place, **named)
        return _PARSED_RULES[key]

    monkeypatch.setattr(Stylesheet, "_parse_rules", parse_once)


@pytest.fixture(autouse=True)
def _draw_when_looked_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing for a terminal that is not there: a quarter of the CPU time of these tests.

    `drive` draws each screen at the end of its story, and `screen_text` and `snapshot` draw what they look at. A test
    that counts what is drawn is marked ``draws``.
    """
    if request.node.get_closest_marker("draws") is None:
        monkeypatch.setattr(Compositor, "render_update", lambda self, **_: self._dirty_regions.clear())


def _screen_text(app: CurateApp) -> str:
    """Return what is seen, line by line, without colours and without blanks at the end of lines."""
    # Half private in Textual, and the one place where we use it.
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips()) + "\n"


async def _settled(pilot: Pilot[Any]) -> None:
    """Wait until every worker is done and what it changed is drawn."""
    num_idle = 0
    while num_idle < 3:
        await pilot.pause()
        # A cursor that rests, or a filter without a further key, is followed after a pause.
        await _until_idle(within=REST)
        working = [worker for worker in pilot.app.workers if not worker.is_finished]
        num_idle = 0 if working else num_idle + 1
        # One that a newer one has taken the place of is done as well.
        with suppress(WorkerCancelled):
            await pilot.app.workers.wait_for_complete(working)


@pytest.fixture
def screen_text() -> Callable[[CurateApp], str]:
    """Return the function that returns what is seen."""
    return _screen_text


@pytest.fixture
def settled() -> Callable[[Pilot[Any]], Awaitable[None]]:
    """Return the function that waits until nothing is under way."""
    return _settled


@pytest.fixture
def make_app() -> Callable[..., CurateApp]:
    """Return a function that makes the app on a workspace; it never looks for others' decisions by itself."""

    def make(workspace: ProjectData, by: str = "ana", **options: Any) -> CurateApp:
        from curate.project.project import open_project

        project = open_project(workspace.root, by)
        return CurateApp(workspace.root, project=project, **{"poll": None, **options})

    return make


@pytest.fixture
def drive() -> Callable[..., None]:
    """Return a function that runs an app headless and tells a story through its Pilot once it has settled."""

    def run(app: CurateApp, story: Story, size: tuple[int, int] = (100, 30)) -> None:
        async def main() -> None:
            async with app.run_test(size=size) as pilot:
                await _settled(pilot)
                await story(pilot)
                await _settled(pilot)
                _screen_text(app)

        asyncio.run(main())

    return run


@pytest.fixture
def snapshot() -> Callable[[CurateApp, str], None]:
    """Return a function that compares what is seen with ``snapshots/<name>-<columns>x<lines>.txt``.

    CURATE_UPDATE_SNAPSHOTS=1 writes the file instead.
    """

    def compare(app: CurateApp, name: str) -> None:
        path = SNAPSHOTS / f"{name}-{app.size.width}x{app.size.height}.txt"
        seen = _screen_text(app)
        if os.environ.get("CURATE_UPDATE_SNAPSHOTS"):
            path.write_text(seen, encoding="utf-8")
        assert path.is_file(), f"no snapshot {path.name} yet; run with CURATE_UPDATE_SNAPSHOTS=1 and look at it"
        assert seen == path.read_text(encoding="utf-8")

    return compare


class PtySession:
    """A program on a pseudo-terminal of its own, and all that it has written there."""

    def __init__(self, command: list[str], size: tuple[int, int], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        columns, lines = size
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.modes_at_start = termios.tcgetattr(slave)
        self._slave = slave
        self.output = b""
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.pid = self._process.pid

    def modes(self) -> list[Any]:
        """Return the modes that the terminal has now."""
        return termios.tcgetattr(self._slave)

    def send(self, keys: bytes) -> None:
        """Type ``keys``."""
        os.write(self._master, keys)

    def read(self, seconds: float) -> None:
        """Take what comes within ``seconds``."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0 and select.select([self._master], [], [], left)[0]:
            try:
                self.output += os.read(self._master, 1 << 16)
            except OSError:
                return

    def wait_for(self, wanted: bytes, timeout: float = 30) -> None:
        """Read until ``wanted`` has come."""
        ends = time.monotonic() + timeout
        while wanted not in self.output:
            assert time.monotonic() < ends, f"{wanted!r} did not come; last: {self.output[-2000:]!r}"
            self.read(0.1)

    def quiet(self, seconds: float = 0.25, timeout: float = 20) -> bool:
        """Read until nothing has come for ``seconds``; return whether that was so before ``timeout``."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            before = len(self.output)
            self.read(seconds)
            if len(self.output) == before:
                return True
        return False

    def hang_up(self) -> None:
        """Take the terminal away."""
        os.close(self._slave)
        os.close(self._master)
        self._slave = self._master = -1

    def end(self, timeout: float = 30) -> int:
        """Wait for the program's end and return its exit code."""
        ends = time.monotonic() + timeout
        while self._process.poll() is None:
            assert time.monotonic() < ends, f"did not end; last: {self.output[-2000:]!r}"
            if self._master >= 0:
                self.read(0.1)
            else:
                time.sleep(0.05)
        if self._master >= 0:
            self.read(0.2)
        return self._process.returncode

    def close(self) -> None:
        """End the program, if it still runs, and close the terminal."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for handle in (self._slave, self._master):
            if handle >= 0:
                os.close(handle)
        self._slave = self._master = -1


@pytest.fixture
def pty_session() -> Iterator[Callable[..., PtySession]]:
    """Return a function that starts a program on a pseudo-terminal of 100 columns and 30 lines."""
    sessions = []

    def start(command: list[str], size: tuple[int, int] = (100, 30), **environment: str) -> PtySession:
        plain = {name: value for name, value in os.environ.items() if name not in OWN_WAYS}
        session = PtySession(command, size, {**plain, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment})
        sessions.append(session)
        return session

    yield start
    for session in sessions:
        session.close()


@pytest.fixture
def label_workspace(make_workspace: Callable[..., ProjectData]) -> Callable[..., ProjectData]:
    """Return a function that makes a workspace with two questions; ``changes`` are made in its settings."""

    def make(*changes: tuple[str, str], settings: str = TWO_QUESTIONS, records: Any = None) -> ProjectData:
        for old, new in changes:
            assert old in settings
            settings = settings.replace(old, new)
        words = ["my invoice and the charge", "how to send it back"]
        lines = [
            {"id": f"r{n:03}", "instruction": f"Hello, {words[n % 2]}, case {n}?", "output": f"Answer {n}."}
            for n in range(30)
        ]
        workspace = make_workspace(lines if records is None else records, settings)
        (workspace.root / "guide.md").write_text("# Be fair\nRead all of it.\n", encoding="utf-8")
        return workspace

    return make


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Label without suggestions: what they are hangs on how fast a process is."""

    def absent(*_: object) -> None:
        raise missing_extra("suggesting labels", "quality")

    monkeypatch.setattr("curate.sessions.labelling.queue.Trainer", absent)


@pytest.fixture
def label_story(
    label_workspace: Callable[..., ProjectData],
    make_app: Callable[..., CurateApp],
    drive: Callable[..., None],
    settled: Callable[[Pilot[Any]], Awaitable[None]],
) -> Callable[..., ProjectData]:
    """Return a function that tells a story at the Label screen of one workspace and returns that."""

    def tell(
        script: Callable[..., Awaitable[None]],
        *,
        by: str = "ana",
        size: tuple[int, int] = (100, 30),
        workspace: ProjectData | None = None,
        **made: Any,
    ) -> ProjectData:
        workspace = workspace or label_workspace(**made)
        app = make_app(workspace, by=by)

        async def told(pilot: Pilot[Any]) -> None:
            await pilot.press("g", "l")
            await settled(pilot)
            await script(app, pilot)

        drive(app, told, size=size)
        return workspace

    return tell
