"""Killed at any system call: nothing that was said to be saved is lost, everything can be read and gone on with."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from curate.base.events import AnyEvent
from curate.base.record import CurateError
from curate.project.compact import fold_journal
from curate.project.fold import fold
from curate.project.fsck import check, recover
from curate.project.journal import FOLDER, read_frames, read_journal
from tests.curate.journal.people import Opener, make, summary
from tests.effort import EFFORT

POINTS = 8 * EFFORT
"""How many people are killed."""


def everything(root: Path) -> dict[str, AnyEvent]:
    events = {event.event: event for event in read_journal(root)[0]}
    for path in (root / FOLDER / "retired").glob("*/*/*.log"):
        events |= {event.event: event for event in read_frames(path.read_bytes(), path)}
    return events


class Server:
    def __init__(self, *mistake: str) -> None:
        script = Path(__file__).with_name("killed.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), *mistake], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def ask(self, root: Path, seed: int, call: str = "", when: int = 0) -> dict:
        self.process.stdin.write(json.dumps({"root": str(root), "seed": seed, "call": call, "when": when}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            pytest.skip(f"strace may not look into other processes here: {answer['error']}")
        return answer

    def points(self, root: Path, seed: int) -> list[tuple[str, int]]:
        """Return the system calls of a story at which one can be killed."""
        make(root)
        whole = self.ask(root, seed)
        assert not whole["is_killed"]
        return [(call, when) for call, number in whole["calls"].items() for when in range(1, number + 1)]


class Judge:
    """Says what is wrong with the workspace that somebody who was killed has left."""

    def __init__(self, root: Path) -> None:
        make(root)
        self.opened = Opener(root)
        self.base = self.opened(root).records()

    def fault_of(self, root: Path, saved: list[list[str]]) -> str:
        events = everything(root)
        told = {name for batch in saved for name in batch}
        if not told <= events.keys():
            return "lost"
        # Whoever is killed cannot say so of the last batch any more.
        if len(events.keys() - told) > 2:
            return "saved more than anybody has decided"
        if summary(self.opened(root).states()) != self.wanted(root):
            return "the records are others"
        return "; ".join(one.message for one in self.opened(root).findings() if one.severity == "error")

    def wanted(self, root: Path) -> dict:
        return summary(list(fold(self.base, everything(root).values(), self.opened.shape).states.values()))

    def resume(self, root: Path) -> None:
        """Go on with what was cut off."""
        wanted = self.wanted(root)
        recover(root)
        assert check(root).damage == []
        fold_journal(self.opened(root))
        assert summary(self.opened(root).states()) == wanted
        assert fold_journal(self.opened(root)).is_empty


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (apt-get install strace)")


@pytest.mark.ci
@needs_strace
def test_nothing_that_was_saved_is_lost(tmp_path):
    judge, chance, seeds = Judge(tmp_path / "first"), random.Random(1), count()
    num_killed = num_done = 0
    with Server() as server:
        while num_done < POINTS:
            seed = next(seeds)
            points = server.points(tmp_path / f"count{seed}", seed)
            # Every point of one story would take all the time there is.
            number = min(len(points), max(20, POINTS // 20), POINTS - num_done)
            for call, when in chance.sample(points, number):
                num_done += 1
                root = tmp_path / f"killed{num_done}"
                make(root)
                answer = server.ask(root, seed, call, when)
                num_killed += answer["is_killed"]
                assert not judge.fault_of(root, answer["saved"]), f"{call} {when} of story {seed}"
                if num_done % 10 == 0:
                    judge.resume(root)
                shutil.rmtree(root)
    print(f"{num_done} points of {next(seeds)} stories, {num_killed} killed")  # noqa: T201  the figure, with -s
    assert num_killed > num_done * 0.8


@pytest.mark.ci
@needs_strace
def test_a_file_rewritten_in_its_place_is_seen(tmp_path):
    # The other mistakes are not seen here: what a process has written outlives it, synced or not.
    judge, faults = Judge(tmp_path / "first"), []
    with Server("a file rewritten in its place") as server:
        points = [point for point in server.points(tmp_path / "count", 0) if point[0] == "fsync" or point[0] == "write"]
        for number, (call, when) in enumerate(points[::2]):
            root = tmp_path / f"killed{number}"
            make(root)
            answer = server.ask(root, 0, call, when)
            try:
                faults.append(judge.fault_of(root, answer["saved"]))
            except CurateError as error:
                faults.append(error.code)
            if faults[-1]:
                break
    print(f"{sum(map(bool, faults))} bad of {len(faults)}")  # noqa: T201  the figure, with -s
    assert any(faults)
