"""The tour of the terminal UI on real data, in a real terminal: what an expert does in a sitting is there the next day.

Eight thousand records: filter, mend one, answer ten questions, settle a cluster of duplicates, split, quit, open again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.project.data import load_data
from curate.project.init import make_workspace
from curate.project.journal import read_journal

pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]
_TIMEOUT = 60


class Terminal:
    """A terminal of 100 columns and 30 lines in tmux, on a server of its own."""

    def __init__(self, command: list[str], record: Path) -> None:
        self._server = f"tour-{uuid.uuid4().hex[:12]}"
        self._record = record
        # Textual believes these before it asks the terminal.
        words = shlex.join(["env", "-u", "COLUMNS", "-u", "LINES", *command])
        self._tmux("new-session", "-d", "-x", "100", "-y", "30", f"{words}; echo; echo ended with $?; sleep 600")

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-f", "/dev/null", "-L", self._server, *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout

    def seen(self) -> str:
        """Return what is on the screen."""
        return self._tmux("capture-pane", "-p")

    def until(self, *texts: str) -> str:
        """Wait until all of ``texts`` are seen, and keep the picture as a part of the recording."""
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            seen = self.seen()
            if all(text in seen for text in texts):
                with self._record.open("a", encoding="utf-8") as file:
                    file.write(f"{'=' * 100}\n{seen}")
                return seen
            time.sleep(0.1)
        raise AssertionError(f"{texts} did not come:\n{self.seen()}")

    def press(self, *keys: str) -> None:
        """Press keys by their names in tmux."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type ``text`` in one go, as a quick hand does."""
        self._tmux("send-keys", "-l", text)

    def close(self) -> None:
        """End the server."""
        subprocess.run(["tmux", "-L", self._server, "kill-server"], capture_output=True, check=False, timeout=30)


@pytest.fixture
def dolly(shared: Path, tmp_path: Path) -> Path:
    files = sorted((shared / "data/dolly-15k-v0").glob("*.jsonl"))
    root = tmp_path / "dolly"
    make_workspace(root, files=files)
    settings = root / "curate.toml"
    asked = 'questions = [{ name = "quality", ask = "Is the answer good?", values = ["good", "poor"] }]'
    settings.write_text(settings.read_text(encoding="utf-8").replace("questions = []", asked), encoding="utf-8")
    return root


@pytest.fixture
def open_terminal(dolly: Path, tmp_path: Path) -> Iterator[list[Terminal]]:
    terminals: list[Terminal] = []
    yield terminals
    for terminal in terminals:
        terminal.close()


def test_what_was_done_in_a_sitting_is_there_in_the_next(
    dolly: Path, tmp_path: Path, open_terminal: list[Terminal]
) -> None:
    record = Path(os.environ.get("CURATE_TOUR", tmp_path / "tour.txt"))
    command = [sys.executable, "-m", "curate", str(dolly), "--by", "ana"]
    first = Terminal(command, record)
    open_terminal.append(first)
    first.until("8,000 records", "NEXT: press")

    first.type("gb/category:closed_qa tokens:>300")
    first.until("[Browse]", "384 of 8,000")
    first.press("Enter")
    first.press("e")
    first.until("[Edit]", "PREVIEW")
    first.press("Tab", "Tab")
    first.type("Mended. ")
    first.until("Mended. ")
    first.press("C-s")
    first.until("saved", "output")

    # What follows an escape at once is another key to a terminal; a person sees the screen first.
    first.press("Escape")
    first.until("i type", "[Edit]")
    first.type("gl")
    first.until("[Label]", "Is the answer good?")
    for number, key in enumerate("1121112111", start=1):
        first.type(key)
        first.until(f"done {number} ")

    first.type("gd")
    first.until("[Dedupe]", "cluster 1/")
    first.type("a")
    first.until("staged")
    first.type("W")
    first.until("written", "1 record dropped")

    first.type("gs")
    first.until("[Split]", "RESULT")
    first.type("W")
    first.until("journal ok")
    time.sleep(1)
    first.press("C-q")
    first.until("ended with 0")

    second = Terminal(command, record)
    open_terminal.append(second)
    second.until("8,000 records", "RECENT ACTIVITY", "ana")
    second.type("gl")
    # Ten are answered and one is dropped.
    second.until("[Label]", "7,989 left")
    second.press("C-q")
    second.until("ended with 0")

    workspace = load_data(dolly)
    states = workspace.states()
    assert len(states) == 8_000
    mended = [state for state in states if state.record.completion.startswith("Mended. ")]
    assert [state.record.category for state in mended] == ["closed_qa"]
    answers = [state.answers["quality"]["ana"] for state in states if state.answers]
    assert sorted(answers) == ["good"] * 8 + ["poor"] * 2
    (reason,) = workspace.dropped().values()
    assert reason.startswith("D301: repeats ")
    events, damages = read_journal(dolly)
    assert damages == []
    assert {event.by for event in events} == {"ana"}
