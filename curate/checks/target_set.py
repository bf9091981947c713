"""What trainers refuse in a data set as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.record import Problem
from curate.base.tables import counted
from curate.checks import DatasetProblem, Sketch, dataset_check
from curate.schema.settings import Settings

_OPENAI_FEWEST = 10


def _records(count: int, **more: str) -> list[dict[str, str]]:
    return [{"instruction": f"Question {n}?", "output": f"Answer {n}."} | more for n in range(count)]


@dataset_check(
    "T911",
    "target-too-few",
    severity="error",
    settings=Settings(target="openai"),
    good=[_records(10), _records(10) + _records(2, split="test")],
    bad=[_records(9), _records(9) + _records(20, split="test")],
)
class TargetTooFew:
    """There are fewer records to train on than the target accepts.

    ``openai``: a fine-tuning file holds at least ten examples, and improvement is said to begin at 50 to 100
    (developers.openai.com, supervised fine-tuning). Records that declare another split than train are not counted.
    """

    def __init__(self, settings: Settings) -> None:
        self._fewest = _OPENAI_FEWEST if settings.target == "openai" else 0
        self._count = 0

    def see(self, sketch: Sketch) -> None:
        """Count one record."""
        self._count += sketch.split in ("", "train")

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield the count where it is too low."""
        if self._count < self._fewest:
            has = f"has {counted(self._count, 'record')} to train on"
            yield DatasetProblem(Problem(f"{has}; OpenAI accepts {self._fewest} or more"))


@dataset_check(
    "T912",
    "target-mixed-forms",
    severity="error",
    settings=Settings(target="together"),
    good=[_records(2), [{"text": "A page."}, {"text": "Another page."}]],
    bad=[[*_records(1), {"text": "A page of a manual."}]],
)
class TargetMixedForms:
    """Conversations and raw texts stand in one data set, and the target takes one form a file.

    ``together``: a file in which two forms are possible, such as ``text`` beside ``messages``, is rejected
    (docs.together.ai, data preparation). Train on them one after the other, from two data sets.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_wanted = settings.target == "together"
        self._first: dict[bool, Sketch] = {}

    def see(self, sketch: Sketch) -> None:
        """Take note of the first record of each form."""
        if self._is_wanted:
            self._first.setdefault(not sketch.prompt, sketch)

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield the first raw text where there are conversations too."""
        if len(self._first) > 1:
            text, talk = self._first[True], self._first[False]
            message = f"is raw text, and {talk.file}:{talk.line} is a conversation; Together takes one form a file"
            yield DatasetProblem(Problem(message), text.file, text.line, text.id)
