"""Preferences that compare nothing, contradict one another, or could be told by length alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence

from curate.base.intervals import wilson
from curate.base.record import Problem, Record
from curate.checks import DatasetProblem, EqualKeys, Sketches, check, dataset_check
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


class _AnswerComparison:
    """Answers of records by a key, each with a mark and a number, which are compared where keys are equal."""

    def __init__(self, settings: Settings) -> None:
        self._equal = EqualKeys()
        self._marks, self._numbers = array("B"), array("Q")

    def _add(self, sketches: Sketches, compared: Iterable[tuple[int, Sequence[int], bool, int]]) -> None:
        """Take note of (row, what is compared beside the prompt, mark, number)."""
        prompts = sketches.prompts
        if known := [entry for entry in compared if prompts[entry[0]]]:
            rows, parts, marks, numbers = zip(*known, strict=True)
            keys = [_key(prompts[row], *part) for row, part in zip(rows, parts, strict=True)]
            self._equal.add(array("Q", keys), sketches, rows)
            self._marks.extend(marks)
            self._numbers.extend(numbers)

    def _differing(self) -> Iterator[tuple[int, int]]:
        """Yield the index of each record that is marked otherwise than most with its key, and that of one of those.

        Records with the same number, other than 0, are not compared.
        """
        groups: dict[int, list[int]] = {}
        for index, first in self._equal.pairs():
            groups.setdefault(first, [first]).append(index)
        for group in groups.values():
            worse, better = ([index for index in group if self._marks[index] == mark] for mark in (0, 1))
            sides = filter(None, (self._opposed(worse, better), self._opposed(better, worse)))
            # A baseline counts these, so that their number must not hang on the order of the records; of as many on
            # both sides the later ones are told.
            yield from min(sides, key=lambda side: (len(side), -side[0][0]), default=[])

    def _opposed(self, rows: Sequence[int], others: Sequence[int]) -> list[tuple[int, int]]:
        """Return each of ``rows`` with one of ``others`` that it is compared with; those without one are left out."""
        numbers = self._numbers
        firsts = {numbers[other]: other for other in reversed(others)}
        comparable = (
            (row, next((other for number, other in firsts.items() if number != numbers[row] or not number), -1))
            for row in rows
        )
        return [(row, other) for row, other in comparable if other >= 0]


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
class OppositePreference(_AnswerComparison):
    """Two records prefer opposite ones of the same two answers to the same question.

    One of them is a mistake, or the columns were swapped somewhere, or people disagree; together they teach nothing.
    Decide which answer is better and drop the other record. Question and answers are compared apart from letter case,
    white space and character width. Of several answers with ratings the best and the worst are compared.
    """

    def see_all(self, sketches: Sketches) -> None:
        """Take note of the records that have two answers."""
        pairs = enumerate(sketches.answers)
        self._add(sketches, ((row, sorted(two), two[0] > two[1], 0) for row, (*two, _, _) in pairs if all(two)))

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield each record that has another opinion than most with its answers."""
        for index, other in self._differing():
            yield self._equal.problem(index, other, f"prefers the opposite of the record at {self._equal.spot(other)}")


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
class RejectedAndChosen(_AnswerComparison):
    """An answer is rejected in one record and chosen, and so trained, in another one of the same question.

    It may be right: of three answers the middle one is better than one and worse than the other. Who trains on chosen
    answers alone learns the middle one as well. Where that is not meant, write it as one record with ratings, or drop
    one of the two. Records that are the very opposite of one another are D304.
    """

    def see_all(self, sketches: Sketches) -> None:
        """Take note of both answers of each record."""
        # Record by record, so that which of two comes first does not hang on how many are shown at once.
        sides = (
            (row, [keys[not is_chosen]], is_chosen, keys[is_chosen])
            for row, keys in enumerate(sketches.answers)
            for is_chosen in (True, False)
        )
        self._add(sketches, (side for side in sides if all(side[1])))

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield each record of which an answer is judged in another way than in most with it."""
        for index, other in self._differing():
            mine, theirs = ("better", "worse") if self._marks[index] else ("worse", "better")
            message = f"its {mine} answer is the {theirs} one of the record at {self._equal.spot(other)}"
            yield self._equal.problem(index, other, message)


def _pairs(num_longer: int, num_shorter: int) -> list[dict[str, str]]:
    longer, shorter = _pair("Where is it?", "It is on its way.", "No."), _pair("Will it come?", "Yes.", "I cannot say.")
    return [longer] * num_longer + [shorter] * num_shorter


@dataset_check("B804", "length-bias", severity="info", good=[_pairs(65, 55), _pairs(40, 0)], bad=[_pairs(110, 20)])
class LengthBias:
    """The longer answer, or the shorter one, is nearly always the better one.

    Who learns from such pairs learns to write more (or less), whatever it says. The effect is the share of pairs whose
    better answer is the longer one (the common language effect size: McGraw and Wong 1992, Psychological Bulletin 111);
    pairs of equal length are not counted. It is reported from 100 pairs on where its 95 % interval lies beyond 65 % or
    below 35 %. Add pairs in which the better answer is the other one, or train with a penalty on length.
    """

    def __init__(self, settings: Settings) -> None:
        self._chosen, self._rejected = array("Q"), array("Q")
        self._num_longer = 0

    def see_all(self, sketches: Sketches) -> None:
        """Count some pairs."""
        for chosen, rejected, num_chosen, num_rejected in sketches.answers:
            if chosen and rejected and num_chosen != num_rejected:
                self._num_longer += num_chosen > num_rejected
                self._chosen.append(num_chosen)
                self._rejected.append(num_rejected)

    def finish(self) -> Iterator[DatasetProblem]:
        """Yield one problem if length alone tells the better answer too often."""
        num = len(self._chosen)
        if num < _FEWEST:
            return
        low, high = wilson(self._num_longer, num)
        if low <= _BIAS and high >= 1 - _BIAS:
            return
        chosen, rejected = (sorted(lengths)[num // 2] for lengths in (self._chosen, self._rejected))
        which, share = "longer", self._num_longer / num
        if high < 0.5:
            which, share, low, high = "shorter", 1 - share, 1 - high, 1 - low
        message = f"the {which} answer is the better one in {share:.0%} of {num:,} pairs (95 % interval {low:.0%} to "
        message += f"{high:.0%}); median {chosen:,} characters against {rejected:,}"
        yield DatasetProblem(Problem(message))
