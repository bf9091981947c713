"""What reaches the terminal, byte by byte, while every screen shows hostile records: what the app itself orders."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from curate.base.record import strings_of
from curate.tui.screens import TABS

# All that Textual itself tells the terminal: colours, places, and switching modes on and off.
ORDERS = re.compile(
    r"\x1b\[[0-9;]*m|\x1b\[\d+;\d+H|\x1b\[\?(?:1049|1000|1003|1015|1006|1004|1016|2004|2026|2048|25|7)[hl]"
    r"|\x1b\]22;[a-z-]+\x07|\x1b\[\?20(?:26|48)\$p|\x1b\[>\d+u|\x1b\[<u|\x1b\]52;c;[A-Za-z0-9+/=]*\x07"
)
STEERING = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")
# Without the last look that the app takes at every line: then each screen must have passed the display border itself.
BARE = "import curate.tui.themes as t\nt.Harmless.apply = lambda self, segments, background: segments"
OWN = ["\x1b[31mred\x1b[0m", "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "\x9b31mC1", "\u202eevil\u202c",
       "\U000e0068\U000e0069", "a\u200bb\u2060", "\x1b]52;c;aGk=\x07", "\ufe0f\ufe01", "\x07\x08\x7f\x00"]  # fmt: skip


def hostile_strings(shared: Path) -> Iterator[str]:
    files = sorted((shared / "badinputs" / "text").glob("*.jsonl"))
    assert files
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            value = json.loads(line)
            value.pop("id")
            yield from (text for text in strings_of(value) if not text.startswith(("Question", "Answer")))
    yield from OWN


def hostile_workspace(root: Path, texts: list[str]) -> None:
    """Make a workspace in which a record's every part is hostile, and the file's name and the settings are too."""
    lines = [
        {"id": f"r{number:03} {text[:40]}", "instruction": f"{text} tell me about number {number}", "output": text,
         "category": text[:60], "meta": {"source": text[:60], "note": text}}
        for number, text in enumerate(texts)
    ]  # fmt: skip
    lines += [{**lines[0], "id": "copy \x1b[31m"}, {"id": "\x1b]0;t\x07", "instruction": "q"}]
    (root / "data").mkdir(parents=True)
    name = "a \x1b[31mred\u202e [b].jsonl"
    (root / "data" / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    settings = '[split]\nseed = 1\n[about]\ntitle = "\\u001b]0;title\\u0007 [/foo]"\n'
    (root / "curate.toml").write_text(settings, encoding="utf-8")


def watched(session, keys: list[bytes], moves: Sequence[bytes] = ()) -> str:
    """Type ``moves`` on every screen and then ``keys``, one by one, wait after each until nothing more is drawn, and
    return all that was written."""
    session.wait_for(b"CATEGORY")
    for tab in TABS if moves else ():
        for _ in range(20):
            session.send(f"g{tab.key}".encode())
            session.quiet()
            # On a busy machine an esc and the key after it are read as one.
            if f"[{tab.title}]" in ORDERS.sub("", session.output.decode("utf-8", "ignore")):
                break
        for key in moves:
            session.send(key)
            session.quiet()
    for key in keys:
        session.send(key)
        session.quiet()
    session.send(b"\x11")
    session.quiet()
    session.send(b"y")
    assert session.end() == 0, session.output[-3000:].decode()
    return session.output.decode("utf-8")


@pytest.mark.ci
@pytest.mark.parametrize(("size", "before"), [((100, 30), BARE), ((80, 24), "")], ids=["border-alone", "as-shipped"])
def test_nothing_of_the_data_steers_the_terminal(shared, tmp_path, pty_session, size, before) -> None:
    texts = list(hostile_strings(shared))
    hostile_workspace(tmp_path / "ws", texts)
    # With the last look taken away every widget must do it alone; with it, one way through each screen will do.
    moves = [b"j", b"j", b"G", b"gg", b" ", b"\r", b"jjj", b"\x1b"] if before else [b"jG", b"\r", b"\x1b"]
    keys = [b"gh", b"?", b"\x1b", b"@", b"\x1b", b":", b"r0", b"\x1b"]
    arguments = ["curate", str(tmp_path / "ws"), "--by", "ana \x1b]0;by\x07\u202e"]
    code = f"{before}\nimport sys\nsys.argv = {arguments!r}\nfrom curate.cli import main\nmain()"
    program = [sys.executable, "-P", "-c", code]
    stream = watched(pty_session(program, size), keys, moves)

    plain = ORDERS.sub("", stream)
    assert "␛[31mred" in plain, "the hostile records were on the screen"
    assert all(f"[{tab.title}]" in plain for tab in TABS), "every screen was"
    for text in [*texts, "\x1b]0;t\x07", "\x1b]0;title\x07", "\x1b]0;by\x07"]:
        for payload in re.findall("[\x1b\x9b\x9d\x90][^\x1b]{2,}", text):
            if not ORDERS.fullmatch(payload):
                assert payload[:12] not in stream, f"{payload!r} was passed on raw"
    rest = ORDERS.sub("", stream)
    begin, end = stream.find("\x1b[?1049h"), stream.rfind("\x1b[?1049l")
    assert 0 <= begin < end
    odd = {one for one in rest if unicodedata.category(one) in STEERING and one not in "\r\n"}
    around = [rest[max(0, found.start() - 60) : found.end() + 60] for one in odd for found in re.finditer(one, rest)]
    assert not odd, around[:3]
    assert not UNSEEN.search(rest)
    assert not re.search("\r(?!\n)", rest)


def test_the_check_itself_sees_what_it_looks_for() -> None:
    assert ORDERS.sub("", "\x1b[1;31mx\x1b[3;4Hy\x1b[?25l") == "xy"
    for bad in ("\x1b[2J", "\x1b]0;t\x07", "\x1bP+q\x1b\\", "\x9b2J", "\x1b[6n", "\x1b]8;;x\x1b\\"):
        rest = ORDERS.sub("", bad)
        assert any(unicodedata.category(one) in STEERING for one in rest), bad
