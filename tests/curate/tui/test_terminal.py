"""The terminal is given back, whatever ends the app: seen on a real pty, byte by byte."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from curate.base.record import Exit
from tests import commands

GIVEN_BACK = (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?1003l", b"\x1b[?2004l")
FAULTY = (
    "from curate.tui.screens.home import HomeScreen as H\n"
    "def fail(*a, **k): raise ValueError('\\x1b[31mboom')\nH.reread = fail\n"
)
BUSY = (
    "import time\nfrom curate.tui.screens.home import HomeScreen as H\n"
    "def slow(self): self.app.background(lambda: time.sleep(60), print, group='slow')\nH.reread = slow\n"
)


def _program(root: Path, before: str = "", options: str = "") -> list[str]:
    return [sys.executable, "-P", "-c", f"{before}\nimport sys\nsys.argv = ['curate', {str(root)!r}, {options}]\n"
            "from curate.cli import main\nmain()"]  # fmt: skip


@pytest.mark.ci
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_gives_the_terminal_back(pty_session, tmp_path: Path, number: int, code: int) -> None:
    session = pty_session(_program(tmp_path))
    session.wait_for(b"no workspace")
    before = session.modes_at_start
    os.kill(session.pid, number)
    assert session.end() == code
    stream = session.output
    for sequence in GIVEN_BACK:
        assert stream.rfind(sequence) > stream.rfind(sequence[:-1] + (b"l" if sequence.endswith(b"h") else b"h"))
    assert session.modes() == before


@pytest.mark.ci
def test_leaving_gives_the_terminal_back(pty_session, tmp_path: Path) -> None:
    session = pty_session(_program(tmp_path))
    session.wait_for(b"no workspace")
    session.send(b"q")
    assert session.end() == Exit.OK
    assert all(sequence in session.output for sequence in GIVEN_BACK)


@pytest.mark.ci
def test_a_mistake_of_ours_gives_the_terminal_back_and_exits_2(pty_session, tmp_path: Path) -> None:
    session = pty_session(_program(tmp_path, FAULTY))
    session.wait_for(b"no workspace")
    session.send(b"r")
    assert session.end() == Exit.USAGE
    left = session.output.rfind(b"\x1b[?1049l")
    assert left > 0
    told = session.output[left:]
    assert b"E991 internal-error" in told
    assert b"boom" in told, "the traceback is shown after the screen is gone"
    assert b"\x1b[31mboom" not in told, "and it is made visible like all else"


@pytest.mark.ci
@pytest.mark.parametrize("key", [b"q", b""])
def test_threads_that_still_work_are_not_waited_for(pty_session, tmp_path: Path, key: bytes) -> None:
    session = pty_session(_program(tmp_path, BUSY))
    session.wait_for(b"no workspace")
    session.send(b"r")
    time.sleep(0.3)
    if key:
        session.send(key)
    else:
        os.kill(session.pid, signal.SIGTERM)
    assert session.end(timeout=10) == (Exit.OK if key else Exit.TERMINATED)


# What follows leads no session that has a terminal, so the kernel sends it no SIGHUP.
DETACHED = ["sh", "-c", "trap '' HUP; setsid --wait \"$@\"", "sh"]


@pytest.mark.ci
@pytest.mark.parametrize("before", [[], DETACHED], ids=["told by a signal", "without a signal"])
def test_a_terminal_that_is_gone_ends_the_app(pty_session, tmp_path: Path, before: list[str]) -> None:
    session = pty_session([*before, *_program(tmp_path)])
    session.wait_for(b"no workspace")
    session.hang_up()
    assert session.end(timeout=10) == Exit.HUNG_UP


def test_without_a_terminal_it_says_so(tmp_path: Path) -> None:
    for arguments in ([str(tmp_path)], []):
        done = commands.run("curate", *arguments)
        assert done.returncode == Exit.USAGE
        assert "E990 no-terminal" in done.stderr
        assert not done.stdout
