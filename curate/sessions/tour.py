"""The tour: eight steps on the samples, from a first look to a comparison; how far it is lies in the workspace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.base.events import Operation
from curate.base.file_guard import MOST_SETTINGS, read_file
from curate.base.storage import make_cache, write_atomic
from curate.project.project import Project
from curate.sessions.runs import runs_of

# Something to fix, to merge and to label: the samples have nothing of it.
_PRACTICE = (
    {"id": "practice-1", "instruction": "How long is a parcel kept for me?", "output": "", "category": "answer"},
    {"id": "practice-2", "instruction": "Where do I see what a parcel to the islands costs?",
     "output": "In the price list, under islands.", "category": "answer"},
    {"id": "practice-3", "instruction": "Where do I see what a parcel to the islands costs??",
     "output": "In the price list, under islands.", "category": "answer"},
    {"id": "practice-4", "instruction": "Name the problem in one word: the courier was late again.", "output": "delay"},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TourStep:
    """What to do and why. It is done by an act of the kind ``ends``, or by what is on ``screen``."""

    screen: str
    ends: Operation | Literal["look", "filter", "train", "compare"]
    text: str
    why: str


STEPS = (
    TourStep("browse", "look", "press g b, then j a few times", "Each record is one example to learn from."),
    TourStep("browse", "filter", "press /, type refund, press enter", "A filter finds a few among thousands."),
    TourStep("validate", "edit", "press g v, n to Q201, enter; type a text, ctrl+s", "A model learns mistakes, too."),
    TourStep("dedupe", "drop", "press esc, g d, a to keep A, W to write", "What comes twice is learnt too well."),
    TourStep("label", "label", "press g l, then the number that fits", "Labels say what is scored, and how."),
    TourStep("split", "assign", "press g s, F for the leaks, then W", "An exam must not be known before."),
    TourStep("train", "train", "press g t, then enter and y", "A tiny model learns from them, in a few minutes."),
    TourStep("compare", "compare", "press g c once the run has ended", "Did it help, category by category?"),
)


class Tour:
    """How far somebody is in the tour of the workspace ``root``."""

    def __init__(self, root: Path) -> None:
        self._path = root / ".curate" / "tour.json"
        self._root = root
        self.number = self._read()  # Of the step that is next, from 0; -1 where this is no workspace of the tour.

    @property
    def step(self) -> TourStep | None:
        """What is to be done; None after the last step."""
        return STEPS[self.number] if 0 <= self.number < len(STEPS) else None

    def _read(self) -> int:
        try:
            number = json.loads(read_file(self._path, self._root, most=MOST_SETTINGS))["step"]
            return number if isinstance(number, int) and 0 <= number <= len(STEPS) else 0
        except FileNotFoundError:
            return -1
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def begin(self) -> int:
        """Put the practice records beside the samples, begin with the first step, and return how many they are.

        Raises:
            CurateError: E906 where nothing can be written.
        """
        lines = [json.dumps(record).encode() + b"\n" for record in _PRACTICE]
        write_atomic(self._root / "data" / "practice.jsonl", lines)
        self.go_to(0)
        return len(lines)

    def go_to(self, number: int) -> None:
        """Go on with the step ``number``."""
        make_cache(self._root / ".curate")
        write_atomic(self._path, [json.dumps({"step": number}).encode()])
        self.number = number

    def is_done(self, project: Project, since: int) -> bool:
        """Whether the present step was done by a decision after the first ``since``, or by a run."""
        ends = self.step.ends if self.step else ""
        if ends in ("train", "compare"):
            return any(run.has_report or ends == "train" for run in runs_of(project.data))
        return any(event.op == ends for event in project.since(since))
