"""Preferences that compare nothing, contradict one another, or could be told by length alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from curate.base.intervals import wilson
from curate.base.record import Problem, Record
from curate.checks import DatasetProblem, Sketches, check, dataset_check, repeats
from curate.schema.settings import Settings
from curate.schema.shape import answer_keys

# Pairs from which a share of them says something.
_FEWEST = 100
# The longer answer is the better one in this share of the pairs at least, or at most in what is left of it.
_BIAS = 0.65


@check(
    "Q216",
    "no-preference",
    severity="warning",
    good=[
        {"prompt": "Add 2 and 3.", "chosen": "5", "rejected": "6"},
        {"prompt": "Add 2 and 3.", "answers": [{"content": "5", "rating": 1}, {"content": "five", "rating": 1},
                                               {"content": "6", "rating": 0}]},
        {"prompt": "Add 2 and 3.", "completion": "6", "liked": False},
        {"instruction": "Add 2 and 3.", "output": "5"},
    ],
    bad=[
        {"prompt": "Add 2 and 3.", "chosen": "5", "rejected": "5"},
        {"prompt": "Say hi.", "chosen": "Hello  there.", "rejected": "hello there."},
        {"prompt": "Add 2 and 3.", "answers": [{"content": "5", "rating": 1}, {"content": "6", "rating": 1}]},
    ],
)  # fmt: skip
def no_preference(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report a preference in which no answer is better: the chosen one is the rejected one, or all ratings are equal.

    Answers are equal that differ in letter case, white space or character width only. Nothing can be learnt from such a
    record. Write a better or a worse answer, rate them again, or drop the record.
    """
    keys = answer_keys(record)
    if keys and len(record.answers) > 1 and keys.chosen == keys.rejected:
        what = "all answers have the same rating" if not keys.chosen else "the better answer is also the worse one"
        yield Problem(what, next((f"/{key}" for key in ("rejected", "answers") if key in record.data), ""))


def _pair(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _key(*parts: int) -> int:
    # The hash of numbers is the same in every process.
    return hash(parts) & (1 << 64) - 1


# What is compared of a record: its row, what is compared beside its prompt, a mark, and a number.
_Side = tuple[int, Sequence[int], bool, int]


def _differing(sketches: Sketches, compared: Iterable[_Side]) -> Iterator[tuple[int, int, bool, int]]:
    """Yield (row, row of one with the other mark, own mark, their key) where most with a key have the other mark.

    Records with the same number, other than 0, are not compared.
    """
    rows, keys, marks, numbers = array("Q"), array("Q"), array("B"), array("Q")
    for row, parts, mark, number in compared:
        if sketches.prompts[row]:
            rows.append(row)
            keys.append(_key(sketches.prompts[row], *parts))
            marks.append(mark)
            numbers.append(number)

    def opposed(some: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
        """Return each of ``some`` with one of ``others`` that it is compared with; those without one are left out."""
        firsts = {numbers[other]: other for other in reversed(others)}
        comparable = (
            (index, next((other for number, other in firsts.items() if number != numbers[index] or not number), -1))
            for index in some
        )
        return [(index, other) for index, other in comparable if other >= 0]

    groups: dict[int, list[int]] = {}
    for index, first in repeats(keys):
        groups.setdefault(first, [first]).append(index)
    for group in groups.values():
        worse, better = ([index for index in group if marks[index] == mark] for mark in (0, 1))
        sides = filter(None, (opposed(worse, better), opposed(better, worse)))
        # A baseline counts these, so that their number must not hang on the order of the records; of as many on both
        # sides the later ones are told.
        for index, other in min(sides, key=lambda side: (len(side), -side[0][0]), default=[]):
            yield rows[index], rows[other], bool(marks[index]), keys[index]


@dataset_check(
    "D304",
    "opposite-preference",
    severity="warning",
    good=[
        [_pair("Add 2 and 3.", "5", "6"), _pair("Add 2 and 4.", "6", "5")],
        [_pair("Add 2 and 3.", "5", "6"), _pair("Add 2 and 3.", "5", "7"), _pair("Add 2 and 3.", "five", "6")],
    ],
    bad=[[_pair("Is tea better?", "Yes.", "No."), _pair("is tea better?", "No.", "yes.")]],
)
def opposite_preference(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """Two records prefer opposite ones of the same two answers to the same question.

    One of them is a mistake, or the columns were swapped somewhere, or people disagree; together they teach nothing.
    Decide which answer is better and drop the other record. Question and answers are compared apart from letter case,
    white space and character width. Of several answers with ratings the best and the worst are compared.
    """
    pairs = ((row, keys[:2]) for row, keys in enumerate(sketches.answers) if keys and all(keys[:2]))
    compared = ((row, sorted(two), two[0] > two[1], 0) for row, two in pairs)
    for row, other, _, key in _differing(sketches, compared):
        message = f"prefers the opposite of the record at {sketches.spot(other)}"
        yield sketches.problem(row, message, other=other, group=key)


@dataset_check(
    "D305",
    "rejected-and-chosen",
    severity="warning",
    good=[
        [_pair("Add 2 and 3.", "5", "6"), _pair("Add 2 and 4.", "6", "5")],
        [_pair("Add 2 and 3.", "5", "6"), _pair("Add 2 and 3.", "6", "5")],
        [_pair("Add 2 and 3.", "5", "6"), _pair("Add 2 and 3.", "5", "7")],
    ],
    bad=[
        [_pair("Say hi.", "Hello.", "Hi."), _pair("Say hi.", "Hi.", "Go away.")],
        [
            {"prompt": "Say hi.", "completion": "Hello.", "liked": True},
            {"prompt": "Say hi.", "completion": "hello.", "liked": False},
        ],
    ],
)
def rejected_and_chosen(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """An answer is rejected in one record and chosen, and so trained, in another one of the same question.

    It may be right: of three answers the middle one is better than one and worse than the other. Who trains on chosen
    answers alone learns the middle one as well. Where that is not meant, write it as one record with ratings, or drop
    one of the two. Records that are the very opposite of one another are D304.
    """
    compared = (
        (row, [keys[not is_chosen]], is_chosen, keys[is_chosen])
        for row, keys in enumerate(sketches.answers)
        for is_chosen in (True, False)
        if keys and keys[not is_chosen]
    )
    for row, other, is_better, key in _differing(sketches, compared):
        mine, theirs = ("better", "worse") if is_better else ("worse", "better")
        message = f"its {mine} answer is the {theirs} one of the record at {sketches.spot(other)}"
        yield sketches.problem(row, message, other=other, group=key)


def _pairs(num_longer: int, num_shorter: int) -> list[dict[str, str]]:
    longer, shorter = _pair("Where is it?", "It is on its way.", "No."), _pair("Will it come?", "Yes.", "I cannot say.")
    return [longer] * num_longer + [shorter] * num_shorter


@dataset_check("B804", "length-bias", severity="info", good=[_pairs(65, 55), _pairs(40, 0)], bad=[_pairs(110, 20)])
def length_bias(sketches: Sketches, settings: Settings) -> Iterator[DatasetProblem]:
    """The longer answer, or the shorter one, is nearly always the better one.

    Who learns from such pairs learns to write more (or less), whatever it says. The effect is the share of pairs whose
    better answer is the longer one (the common language effect size: McGraw and Wong 1992, Psychological Bulletin 111);
    pairs of equal length are not counted. It is reported from 100 pairs on where its 95 % interval lies beyond 65 % or
    below 35 %. Add pairs in which the better answer is the other one, or train with a penalty on length.
    """
    pairs = [keys for keys in sketches.answers if keys and all(keys[:2]) and keys[2] != keys[3]]
    num = len(pairs)
    if num < _FEWEST:
        return
    num_longer = sum(num_chosen > num_rejected for *_, num_chosen, num_rejected in pairs)
    low, high = wilson(num_longer, num)
    if low <= _BIAS and high >= 1 - _BIAS:
        return
    chosen, rejected = (sorted(keys[side] for keys in pairs)[num // 2] for side in (2, 3))
    which, share = "longer", num_longer / num
    if high < 0.5:
        which, share, low, high = "shorter", 1 - share, 1 - high, 1 - low
    message = f"the {which} answer is the better one in {share:.0%} of {num:,} pairs (95 % interval {low:.0%} to "
    message += f"{high:.0%}); median {chosen:,} characters against {rejected:,}"
    yield DatasetProblem(Problem(message))
