"""Whatever a power cut leaves on the disk: what was said to be saved is there, and everything can be read."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from pathlib import Path

import pytest

from curate.base.events import Assign, Event
from curate.project.fold import RecordState
from curate.project.integrity import check, recover
from curate.project.journal import read_journal
from tests.curate.deciding import changed, decide
from tests.curate.folding import fold
from tests.curate.journal.mistakes import MISTAKES, plant
from tests.curate.journal.people import Opener, Person, Summary, apply_edits, make, summary
from tests.curate.journal.power import Disk, Recorder
from tests.effort import EFFORT

STATES = 400 * EFFORT
"""How many disks are made."""
STORIES = 20


@dataclass
class Story:
    """What was recorded, and how to judge what a cut leaves of it."""

    recorder: Recorder
    opened: Opener
    saved: list[tuple[int, list[Event]]]
    """Where in the recording each batch was said to be saved."""
    begun: list[int]
    base: list
    rewrites: list[Event]

    def moment(self, cut: int) -> tuple[int, bool]:
        """Return how many batches are said to be saved by a cut, and whether the next one has begun."""
        number = sum(place < cut for place, _ in self.saved)
        return number, len(self.begun) > number and self.begun[number] < cut

    def allowed(self, moment: tuple[int, bool]) -> list[Summary]:
        """Return what the records may be: all that is saved, and any of what was being saved."""
        number, is_begun = moment
        safe = [event for _, events in self.saved[:number] for event in events]
        flying = self.saved[number][1] if is_begun else []
        subsets = [some for size in range(len(flying) + 1) for some in combinations(flying, size)]
        return [self.expected([*safe, *some]) for some in subsets]

    def expected(self, events: list[Event]) -> Summary:
        # The lines are as they were in the beginning: what was decided later is about them as well.
        about = [changed(event, text="") for event in [*events, *self.rewrites]]
        return said(list(fold(self.base, about, self.opened.shape).states.values()))


def said(states: Sequence[RecordState]) -> Summary:
    """Return what the records are; that applied edits have rewritten their lines is nothing that was decided."""
    return {name: row[:-1] for name, row in summary(states).items()}


def told(root: Path, seed: int) -> Story:
    """Return a story: sittings of one or two people, who apply their edits, also while the other one is deciding."""
    chance = random.Random(seed)
    make(root)
    opened = Opener(root)
    base = opened(root).records()
    recorder = Recorder(root)
    person = Person(root, opened, recorder.ack)
    with recorder.recording():
        for number in range(5):
            meanwhile = person.apply_edits if chance.random() < 0.3 else None
            person.sit(chance.randint(1, 3), chance.choice(["ana", "bo"]), meanwhile)
            if number in (1, 3) or chance.random() < 0.3:
                person.apply_edits()
    notes = [(place, *op.note) for place, op in enumerate(recorder.ops) if op.kind == "ack"]
    saved = [(place, events) for place, what, events in notes if what == "saved"]
    begun = [place for place, what, _ in notes if what == "begin"]
    rewrites = [event for event in read_journal(root)[0] if event.op == "rewrite"]
    return Story(recorder, opened, saved, begun, base, rewrites)


def bad_states(
    story: Story, folder: Path, number: int, seed: int, after: Callable[[Path], bool] | None = None
) -> tuple[list[str], int]:
    """Make ``number`` disks and return what is wrong with some of them, and how many were different ones."""
    chance = random.Random(seed)
    root, before = folder / "disk", Disk({}, set())
    wrong: list[str] = []
    known: set[tuple[int, tuple[int, bool]]] = set()
    allowed: dict[tuple[int, bool], list[Summary]] = {}
    for _ in range(number):
        cut = chance.randrange(len(story.recorder.ops) + 1)
        disk, moment = story.recorder.disk(cut, chance), story.moment(cut)
        if (disk.key(), moment) in known:
            continue
        known.add((disk.key(), moment))
        if moment not in allowed:
            allowed[moment] = story.allowed(moment)
        disk.put_at(root, before)
        before = disk
        if why := fault_of(story, root, allowed[moment]):
            wrong.append(f"cut before {cut} ({story.recorder.ops[cut - 1].kind}): {why}")
        elif after is not None and after(root):
            shutil.rmtree(root)
            before = Disk({}, set())
    shutil.rmtree(root, ignore_errors=True)
    return wrong, len(known)


def fault_of(story: Story, root: Path, wanted: list[Summary]) -> str:
    """Return what is wrong with the workspace in ``root``, "" if nothing is."""
    workspace = story.opened(root)
    try:
        found = said(workspace.states())
        errors = [finding for finding in workspace.findings() if finding.severity == "error"]
    except Exception as error:  # noqa: BLE001  whatever it is, it is a fault
        return f"unreadable: {error!r}"
    if errors:
        return f"broken lines: {errors[0]}"
    return "" if found in wanted else "lost"


def resume(story: Story, root: Path) -> None:
    """Go on where the power was cut: set aside what is torn, apply edits, decide. Nothing else changes."""
    before = said(story.opened(root).states())
    recover(root)
    assert check(root) == []
    assert said(story.opened(root).states()) == before
    apply_edits(story.opened(root))
    assert said(story.opened(root).states()) == before
    workspace = decide(story.opened(root), [Assign("r0", "test")])
    assert workspace.states()[0].record.split == "test"


@pytest.mark.ci
@pytest.mark.parametrize("seed", range(STORIES))
def test_nothing_that_was_saved_is_lost(tmp_path, seed):
    story = told(tmp_path / "ws", seed)
    numbers = count()

    def after(root: Path) -> bool:
        is_chosen = next(numbers) % 20 == 0
        if is_chosen:
            resume(story, root)
        return is_chosen

    wrong, num_different = bad_states(story, tmp_path, STATES // STORIES, seed, after)
    print(f"{STATES // STORIES} states, {num_different} different")  # noqa: T201  the figure, with -s
    assert not wrong, wrong[:3]
    assert num_different > min(150, STATES // STORIES // 10)


@pytest.mark.ci
@pytest.mark.parametrize("name", MISTAKES)
def test_every_seeded_mistake_is_seen(tmp_path, monkeypatch, name):
    plant(name, monkeypatch.setattr)
    story = told(tmp_path / "ws", seed=1)
    wrong, num_different = bad_states(story, tmp_path, 600, seed=2)
    print(f"{name}: {len(wrong)} bad of {num_different}")  # noqa: T201  the figure, with -s
    assert wrong
