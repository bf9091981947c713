"""How far annotators agree: the formulas, and counts that keep up with the answers of a label session.

Only what is light is here: a screen that shows agreement after each answer loads no numpy for it. Intervals, and all
else that is said of a whole question, come from `curate.sessions.agreement_measure`.

In all formulas chance is what the measure takes out: 1 is perfect, 0 is what guessing by the observed shares gives, and
below 0 annotators agree less than that. Each is written once for numbers and for arrays of resamples.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import accumulate, combinations
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from curate.base.record import Json, canonical

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

# By record id, what each annotator answered to one question; who has not answered is not there, or has None.
Answers = Mapping[str, Mapping[str, Json]]

Number = TypeVar("Number", "float", "NDArray[numpy.float64]")
Grade = Literal["ok", "warn", "error", ""]

# Krippendorff 2004, Content Analysis, p. 241: rely on what reaches 0.8, conclude tentatively from 0.667.
RELIABLE, TENTATIVE = 0.8, 0.667


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two values that were given to the same records, how many pairs of answers say so, and some of the records."""

    left: Json
    right: Json
    num_pairs: int
    records: tuple[str, ...] = ()


def key_of(value: Json) -> Hashable:
    """Return what is equal for answers that are the same JSON value, and for no others: 1, true and "1" differ."""
    return value if type(value) is str else canonical(value)


def order_of(value: Json) -> tuple[bool, bytes]:
    """Return the sort key of a value: texts in the order of their code points, then everything else."""
    return (False, value.encode("utf-8", "surrogatepass")) if type(value) is str else (True, canonical(value))


def alpha_rate(apart: Number, num: Number, squares: Number) -> Number:
    """Return Krippendorff's alpha for nominal data, with missing answers allowed.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability" (https://repository.upenn.edu/asc_papers/43), C.
    Only records with at least two answers count. ``num`` is the number of their answers, ``squares`` the sum over the
    values of the squared number of answers that gave it, and ``apart`` the sum over the records of the ordered pairs of
    different answers, divided by the answers of the record less one. Undefined (division by zero) where all answers are
    one value.
    """
    return 1 - (num - 1) * apart / (num * num - squares)


def midranks(totals: Number, running: Number) -> Number:
    """Return where values of a scale stand: the answers below each, and half of its own.

    ``totals`` are the answers of each value, and ``running`` their sums up to and with it. The ordinal metric of
    Krippendorff's alpha is the square of the difference of two such places (Krippendorff 2011, as `alpha_rate`).
    """
    return running - totals / 2


def ordinal_rate(apart: Number, num: Number, spread: Number) -> Number:
    """Return Krippendorff's alpha for ordinal data, with missing answers allowed.

    ``apart`` is the sum over the records of the squared distances of ordered pairs of answers, by `midranks`, divided
    by the answers of the record less one; ``spread`` that of all ordered pairs of answers, whatever their record.
    """
    return 1 - (num - 1) * apart / spread


def kappa_rate(agreed: Number, chance: Number, num: Number) -> Number:
    """Return a kappa: what was agreed beyond chance, as a share of what could have been.

    Cohen 1960, Educational and Psychological Measurement 20:37; Fleiss 1971, Psychological Bulletin 76:378. Of ``num``
    pairs of answers ``agreed`` are the same and ``chance`` would be by chance. Undefined where chance alone agrees on
    everything.
    """
    return (agreed - chance) / (num - chance)


def grade(value: float | None) -> Grade:
    """Return how an alpha, or a kappa, is to be shown: "ok" from 0.8, "warn" from 0.667, else "error"; "" is unknown.

    The limits are Krippendorff's, and customs, not laws: what is at stake decides how much is enough.
    """
    if value is None:
        return ""
    return "ok" if value >= RELIABLE else "warn" if value >= TENTATIVE else "error"


@dataclass(slots=True)
class _PairTable:
    """The records that two annotators have both answered: what each of them answered, and how often the same."""

    num: int = 0
    agreed: int = 0
    # Over the values, the answers of the one that gave it times those of the other: num times what chance gives.
    products: int = 0
    left: Counter[Hashable] = field(default_factory=Counter)
    right: Counter[Hashable] = field(default_factory=Counter)

    def count(self, answer: Hashable, other_answer: Hashable, sign: int) -> None:
        # A record is counted in with the sign 1, and out with -1.
        self.num += sign
        self.agreed += sign * (answer == other_answer)
        self.products += sign * self.right[answer]
        _add(self.left, answer, sign)
        self.products += sign * self.left[other_answer]
        _add(self.right, other_answer, sign)

    def as_peer(self, name: str) -> Peer:
        # Compared as whole numbers: that chance agrees on everything must not hang on a rounding.
        is_defined = self.products < self.num * self.num
        kappa = kappa_rate(float(self.agreed), self.products / self.num, float(self.num)) if is_defined else None
        return Peer(name, self.num, self.agreed, kappa)


@dataclass(frozen=True, slots=True)
class Peer:
    """Another annotator, for the one who labels: the records that both have answered, and how far they agree on them.

    ``kappa`` is Cohen's, None where both gave one and the same value only.
    """

    name: str
    num_records: int
    num_agreed: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class AgreementGlance:
    """What the annotator who labels may see of agreement; nothing of it tells another's answer to an open record.

    ``alpha``, ``num_shared`` (records with two answers or more) and ``num_pairs`` (of answers to the same record) are
    of everybody; ``peers`` and ``confused`` only of records that the annotator has answered. ``alpha`` is None where
    it is undefined: no record has two answers, or all answers are one value.
    """

    num_shared: int
    num_pairs: int
    alpha: float | None
    peers: tuple[Peer, ...]
    confused: tuple[Confusion, ...]


class LiveAgreement:
    """The answers to one question, counted so that agreement can be told after each of them.

    The figures are those of `curate.sessions.agreement_measure`, without intervals.
    """

    def __init__(self, answers: Answers | None = None, scale: Sequence[str] = ()) -> None:
        """``scale`` are the values of a rating, from worst to best."""
        self._scale = scale
        self._given: dict[str, dict[str, Hashable]] = {}
        self._values: dict[Hashable, Json] = {}
        self._totals: Counter[Hashable] = Counter()
        self._squares = 0
        self._sizes: Counter[int] = Counter()
        # Ordered pairs of different answers, which these are, by the answers of the record: whole numbers, so that
        # nothing drifts.
        self._apart: Counter[tuple[int, Hashable, Hashable]] = Counter()
        self._tables: dict[str, dict[str, _PairTable]] = defaultdict(dict)
        self._confused: dict[str, Counter[tuple[Hashable, ...]]] = defaultdict(Counter)
        for name, given in (answers or {}).items():
            self.put(name, given)

    def put(self, name: str, answers: Mapping[str, Json]) -> None:
        """Take ``answers``, by annotator, for all that is answered on the record ``name``, in place of what was.

        None is no answer, and so is an annotator who is not there.
        """
        before = self._given.pop(name, {})
        after = {by: self._key(value) for by, value in answers.items() if value is not None}
        if after:
            self._given[name] = after
        self._count(before, -1)
        self._count(after, 1)

    def glance(self, by: str, *, most: int = 5) -> AgreementGlance:
        """Return what the annotator ``by`` may see, with the ``most`` confused pairs of values of their own answers."""
        num, values = self._totals.total(), self._values
        alpha = self._alpha(float(num)) if num * num > self._squares else None
        num_pairs = sum(size * (size - 1) // 2 * count for size, count in self._sizes.items())
        tables = sorted(self._tables.get(by, {}).items())
        peers = tuple(table.as_peer(name) for name, table in tables if table.num)
        counts = self._confused.get(by, Counter()).items()
        commonest = nsmallest(most, counts, key=lambda item: (-item[1], *map(self._order, item[0])))
        confused = tuple(Confusion(values[left], values[right], count) for (left, right), count in commonest)
        return AgreementGlance(self._sizes.total(), num_pairs, alpha, peers, confused)

    def _alpha(self, num: float) -> float:
        if not self._totals.keys() <= {*self._scale}:
            apart = sum(pairs / (size - 1) for (size, *_), pairs in self._apart.items())
            return alpha_rate(apart, num, float(self._squares))
        totals = [float(self._totals[value]) for value in self._scale]
        ranks = dict(zip(self._scale, map(midranks, totals, accumulate(totals)), strict=True))
        apart = sum(
            pairs * (ranks[str(left)] - ranks[str(right)]) ** 2 / (size - 1)
            for (size, left, right), pairs in self._apart.items()
        )
        squares = sum(total * ranks[value] ** 2 for value, total in zip(self._scale, totals, strict=True))
        mean = sum(total * ranks[value] for value, total in zip(self._scale, totals, strict=True))
        return ordinal_rate(apart, num, 2 * (num * squares - mean**2))

    def _key(self, value: Json) -> Hashable:
        key = key_of(value)
        self._values.setdefault(key, value)
        return key

    def _order(self, key: Hashable) -> tuple[bool, bytes]:
        return order_of(self._values[key])

    def _count(self, given: Mapping[str, Hashable], sign: int) -> None:
        size = len(given)
        # One answer alone says nothing of agreement.
        if size < 2:
            return
        self._sizes[size] += sign
        for key in given.values():
            self._squares += 2 * sign * self._totals[key] + 1
            _add(self._totals, key, sign)
        for (left, answer), (right, other_answer) in combinations(given.items(), 2):
            self._tables[left].setdefault(right, _PairTable()).count(answer, other_answer, sign)
            self._tables[right].setdefault(left, _PairTable()).count(other_answer, answer, sign)
            if answer != other_answer:
                _add(self._apart, (size, answer, other_answer), 2 * sign)
                pair = tuple(sorted((answer, other_answer), key=self._order))
                _add(self._confused[left], pair, sign)
                _add(self._confused[right], pair, sign)


def _add(counts: Counter[Any], key: Any, sign: int) -> None:
    counts[key] += sign
    # What is at nought goes, so that a long session does not fill the memory.
    if not counts[key]:
        del counts[key]
