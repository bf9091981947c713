"""Repeated records, and one question with several answers."""

from __future__ import annotations

from collections.abc import Iterator

from curate.checks import DatasetProblem, Sketches, dataset_check, repeats
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
def exact_duplicate(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """A record says the same as an earlier one, apart from letter case, white space and character width.

    Repeats weigh their content twice in training and, divided between splits, make the score a test of memory. What is
    compared are the texts, each with its role, and tools and their calls; ids and metadata never count. `curate dedupe`
    finds the same ones and resolves them.
    """
    for row, first in repeats(sketches.contents):
        message = f"repeats the record at {sketches.spot(first)}"
        yield sketches.problem(row, message, other=first, group=sketches.contents[row])


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
def same_prompt_other_answer(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """The same question, with the same tools, is answered in different ways.

    Another question about the same passage is no such case: every part of the prompt must be equal, apart from letter
    case, white space and character width. `curate dedupe` shows the same ones as conflicts. Where one answer is right,
    the others teach a mistake; where many are, keep them on purpose and switch this check off for them. Review the
    group and drop, merge or tell the prompts apart. Preferences, which compare answers to one question, are left alone.
    """
    contents = sketches.contents
    prompts = (0 if answers else prompt for prompt, answers in zip(sketches.prompts, sketches.answers, strict=True))
    known: dict[int, set[int]] = {}
    for row, first in repeats(prompts):
        given = known.setdefault(first, {contents[first]})
        if contents[row] not in given:
            given.add(contents[row])
            message = f"answers the prompt of {sketches.spot(first)} differently"
            yield sketches.problem(row, message, other=first, group=sketches.prompts[row])
