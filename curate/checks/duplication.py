"""Repeated records, and one question with several answers."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from curate.checks import DatasetProblem, EqualKeys, Sketches, dataset_check
from curate.schema.settings import Settings


@dataset_check(
    "D301",
    "exact-duplicate",
    severity="warning",
    good=[[{"instruction": "Add 2 and 3.", "output": "5"}, {"instruction": "Add 2 and 4.", "output": "6"}]],
    bad=[
        [{"instruction": "Add 2 and 3.", "output": "5"}, {"instruction": "Add 2 and 3.", "output": "5"}],
        [
            {"id": "a", "instruction": "Add 2 and 3.", "output": "5"},
            {"id": "b", "instruction": "add 2  and 3.", "output": "5"},
        ],
    ],
)
class ExactDuplicate:
    """A record says the same as an earlier one, apart from letter case, white space and character width.

    Repeats weigh their content twice in training and, divided between splits, make the score a test of memory. What is
    compared are the texts, each with its role, and tools and their calls; ids and metadata never count. `curate dedupe`
    finds the same ones and resolves them.
    """

    def __init__(self, settings: Settings) -> None:
        self._contents = EqualKeys()

    def see_all(self, sketches: Sketches) -> None:
        """Take note of some records."""
        self._contents.add(sketches.contents, sketches)

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield each record that repeats an earlier one."""
        for index, first in self._contents.pairs():
            yield self._contents.problem(index, first, f"repeats the record at {self._contents.spot(first)}")


@dataset_check(
    "D303",
    "same-prompt-other-answer",
    severity="warning",
    good=[
        [{"instruction": "Add 2 and 3.", "output": "5"}, {"instruction": "Add 2 and 4.", "output": "6"}],
        [{"instruction": "Add 2 and 3.", "output": "5"}, {"instruction": "Add 2 and 3.", "output": "5"}],
    ],
    bad=[[{"instruction": "Is it in stock?", "output": "Yes."}, {"instruction": "Is it in stock?", "output": "No."}]],
)
class SamePromptOtherAnswer:
    """The same question, with the same tools, is answered in different ways.

    Another question about the same passage is no such case: every part of the prompt must be equal, apart from letter
    case, white space and character width. `curate dedupe` shows the same ones as conflicts. Where one answer is right,
    the others teach a mistake; where many are, keep them on purpose and switch this check off for them. Review the
    group and drop, merge or tell the prompts apart. Preferences, which compare answers to one question, are left alone.
    """

    def __init__(self, settings: Settings) -> None:
        self._prompts = EqualKeys()
        self._contents = array("Q")

    def see_all(self, sketches: Sketches) -> None:
        """Take note of the records that have a prompt."""
        if sketches.answers:
            # Preferences compare answers to one question.
            return
        prompts, contents, rows = sketches.prompts, sketches.contents, None
        if 0 in prompts:
            rows = [row for row, key in enumerate(prompts) if key]
            prompts, contents = (array("Q", [keys[row] for row in rows]) for keys in (prompts, contents))
        self._prompts.add(prompts, sketches, rows)
        self._contents.extend(contents)

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield each record that gives a new answer to a prompt seen before."""
        answers: dict[int, set[int]] = {}
        for index, first in self._prompts.pairs():
            known = answers.setdefault(first, {self._contents[first]})
            if self._contents[index] not in known:
                known.add(self._contents[index])
                yield self._prompts.problem(
                    index, first, f"answers the prompt of {self._prompts.spot(first)} differently"
                )
