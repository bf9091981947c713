"""A disk that is full or read-only, and folders without rights: refused in one line, and nothing there suffers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from curate.base.record import CurateError
from curate.project.integrity import check
from curate.project.journal import JournalWriter
from tests.curate.folding import fold
from tests.curate.journal.people import Opener, batches, make, summary

PUTS = 4000


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@pytest.fixture(params=["64k"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, or of what is asked for."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={request.param}", "none", str(place))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system in memory")
    yield place
    subprocess.run(["umount", str(place)], check=True)


class Puts:
    """Decisions one after the other, some of which find no room."""

    def __init__(self, root: Path) -> None:
        make(root)
        self.root, self.opened = root, Opener(root)
        self.base = self.opened(root).records()
        self.saved: list = []
        self.refused: list[CurateError] = []

    def wanted(self) -> dict:
        return summary(list(fold(self.base, self.saved, self.opened.shape).states.values()))

    def put(self, sitting: JournalWriter, decisions: list, heads: dict) -> None:
        try:
            events = sitting.append([replace(one, **heads.get(one.id, {})) for one in decisions])
        except CurateError as error:
            self.refused.append(error)
        else:
            self.saved += events
            heads.update({event.id: {"parents": (event.event,), "text": event.decision.text} for event in events})


def test_a_write_that_takes_less_than_it_is_given_is_seen(small, monkeypatch):
    """Without the loop a nearly full disk would cut a record file, as it did to our first prototype."""
    from curate.base import storage

    write = os.write

    def claiming_all(handle: int, data) -> int:
        write(handle, data)
        return len(data)

    puts = Puts(small / "ws")
    filler = small / "filler"
    free = os.statvfs(small).f_bavail * 4096
    filler.write_bytes(bytes(free - 8192))
    monkeypatch.setattr(os, "write", claiming_all)
    data = puts.root / "data/a.jsonl"
    before = data.read_bytes()
    with pytest.raises(CurateError, match=r"No space left|not what was written"):
        storage.write_atomic(data, [before * 200])
    assert data.read_bytes() == before


@pytest.mark.ci
@pytest.mark.parametrize("what", ["read-only", "no rights"])
def test_refused_in_one_line(small, what, capfd):
    import sys

    puts = Puts(small / "ws")
    with JournalWriter(puts.root, "ana") as sitting:
        puts.put(
            sitting,
            [one for one in next(batches()) if one.id == "r0"],
            {"r0": {"parents": (), "text": puts.opened(puts.root).states()[0].text}},
        )
    if what == "read-only":
        mount("-o", "remount,ro", str(small))
    else:
        (puts.root / "journal/ana").chmod(0o555)
        (puts.root / "journal").chmod(0o555)
    try:
        for words in (["drop", "r1", str(puts.root), "--reason", "wrong"], ["undo", str(puts.root), "--by", "ana"]):
            done = subprocess.run(
                [*powerless(), sys.executable, "-m", "curate", *words], capture_output=True, text=True, check=False
            )
            assert done.returncode in (2, 3), done.stderr
            assert len([line for line in done.stderr.splitlines() if line.startswith("error[")]) == 1
            assert "Traceback" not in done.stderr
            assert "denied" in done.stderr or "Read-only" in done.stderr
    finally:
        (puts.root / "journal").chmod(0o755) if what != "read-only" else mount("-o", "remount,rw", str(small))
    assert summary(puts.opened(puts.root).states()) == puts.wanted()
    assert check(puts.root) == []


def powerless() -> list[str]:
    """Return what a command begins with that is held to the rights of files, also where root runs the tests."""
    return (
        ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", "--inh-caps", "-all"]
        if os.getuid() == 0
        else []
    )
