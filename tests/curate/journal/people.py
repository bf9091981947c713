"""People who decide on a small workspace and apply their edits, told what is saved; and what the records are then."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from curate.base.events import Add, Assign, Decision, Edit, Label
from curate.project.applied import plan_edits, write_edits
from curate.project.data import ProjectData
from curate.project.fold import RecordState
from curate.project.journal import JournalWriter
from curate.schema import Shape, load_shape
from curate.schema.settings import read_settings

Ack = Callable[[Any], None]
Summary = dict[str, Any]


def make(root: Path, num_records: int = 4) -> None:
    """Make a workspace with the records r0, r1 and so on, in two files."""
    (root / "data").mkdir(parents=True)
    (root / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    for name, numbers in (("a", range(num_records - 1)), ("b", range(num_records - 1, num_records))):
        lines = [{"id": f"r{n}", "instruction": f"Ask {n}.", "output": "Not yet.", "category": "old"} for n in numbers]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (root / "data" / f"{name}.jsonl").write_text(text, encoding="utf-8")


class Opener:
    """Opens the same workspace again and again, at whatever path; its settings and schema are read once."""

    def __init__(self, root: Path) -> None:
        self.settings = read_settings(root)
        self.shape: Shape = load_shape(self.settings.schema_, root)

    def __call__(self, root: Path) -> ProjectData:
        return ProjectData(root, self.settings, self.shape)


def summary(states: Sequence[RecordState]) -> Summary:
    """Return what the records are, whatever file they are in, and whether or not their lines say their ids."""
    return {state.record.id: _summary(state) for state in states}


def _summary(state: RecordState) -> tuple[Any, ...]:
    record = state.record
    data = {key: value for key, value in record.data.items() if key != "id"}
    heads = tuple(sorted(state.heads))
    return data, state.dropped, state.is_wanted, record.split, dict(record.labels), record.category, heads


def batches() -> Iterator[list[Decision]]:
    """Return decisions that leave every record in, without end, each of them on what the last one has left."""
    for number in count():
        name = f"r{number % 4}"
        yield [Edit(name, {"output": f"answer {number}" * (1 + number % 3)})]
        yield [
            Label(name, "category", f"new {number}"),
            Assign(name, "test" if number % 2 else "train"),
        ]
        if number % 3 == 0:
            line = {"instruction": f"Added {number}.", "output": "yes"}
            yield [Add(f"added{number}", line)]


class Person:
    """Decides in sittings of a few batches each, and says what was saved."""

    def __init__(self, root: Path, opened: Opener, ack: Ack) -> None:
        self.root, self.opened, self.ack = root, opened, ack
        self.seen: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.waiting = batches()

    def sit(self, number: int, by: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Decide so many times; before the last time ``meanwhile`` happens."""
        states = {state.record.id: state for state in self.opened(self.root).states()}
        self.seen = {name: (state.text, state.heads) for name, state in states.items()}
        with JournalWriter(self.root, by) as sitting:
            for place in range(number):
                if meanwhile and place == number - 1:
                    meanwhile()
                decisions = next(self.waiting)
                seen = [self.seen.get(one.id, ("", ())) for one in decisions]
                named = [
                    replace(one, text=text, parents=parents)
                    for one, (text, parents) in zip(decisions, seen, strict=True)
                ]
                self.ack(("begin", named))
                events = sitting.append(named)
                self.seen.update({event.id: (event.decision.text, (event.event,)) for event in events})
                self.ack(("saved", events))

    def apply_edits(self) -> None:
        apply_edits(self.opened(self.root))


def apply_edits(data: ProjectData) -> None:
    write_edits(data, plan_edits(data))
