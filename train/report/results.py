"""The numbers of each split and category, computed from the scored records of both models and nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from train.evaluate.metrics import normalise
from train.evaluate.predictions import RIGHT_FROM, Scored, outcome
from train.evaluate.scoring import LONGEST_LABEL
from train.report import stats, wording
from train.report.model import (
    Behaviour,
    CategoryResult,
    Change,
    Estimate,
    Macro,
    SplitResult,
    Unscored,
)  # fmt: skip
from train.report.stats import seed_of as _seed

Pairs = Sequence[tuple[Scored, Scored]]

BITS = "bits_per_byte"
BITS_MARGIN = 0.01
"""The share by which bits per byte may rise before it counts as a loss."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How results are judged: the loss that counts as none, the fewest records, and the number of resamples.

    ``asks_not_worse``: whether a loss of the margin is ruled out is the question, and not whether anything changed.
    """

    margin: float = stats.MARGIN
    fewest: int = stats.MIN_CLUSTERS
    resamples: int = stats.REPLICATES
    is_judge_calibrated: bool = False
    asks_not_worse: bool = False


def split_results(pairs: Pairs, default_metric: Collection[str], rules: Rules) -> list[SplitResult]:
    """Return the results of validation and test, those that hold anything comparable; test comes last.

    Draws are seeded by the names of split and category, so the same records always give the same numbers.
    """
    results = [several_results([pairs], name, default_metric, rules)[0] for name in SPLITS]
    return [result for result in results if result is not None]


SPLITS: tuple[Literal["validation", "test"], ...] = ("validation", "test")
"""Those that are judged; test comes last."""


def several_results(
    sides: Sequence[Pairs], split: Literal["validation", "test"], default_metric: Collection[str], rules: Rules,
    others: Sequence[Sequence[Pairs]] = (),
) -> list[SplitResult | None]:  # fmt: skip
    """Return the results of one split for each of several comparisons, None where nothing can be compared.

    All p values are adjusted together: over the categories and over the comparisons. Those against the trivial answers
    are a second family, so that of either at most one report in forty calls something better that is not. A p value is
    the largest of those of ``sides`` and ``others``, which are what they may be as well.
    """
    trivial = [list(map(rivals, each)) for each in others]
    against = compared_results(list(map(rivals, sides)), split, (), rules, trivial)
    results = compared_results(sides, split, default_metric, rules, others)
    return [part and beside_trivial(part, rival) for part, rival in zip(results, against, strict=True)]


def rivals(pairs: Pairs) -> Pairs:
    """Return the second of each pair beside the trivial answer to it, where that can be scored."""

    def trivial(record: Scored) -> Scored:
        score = record.trivial_score
        metric = "" if score is None else record.metric
        return replace(record, metric=metric, scores={record.metric: score or 0.0}, num_bytes=0)

    return [(trivial(after), after) for _, after in pairs]


def beside_trivial(part: SplitResult, against: SplitResult | None) -> SplitResult:
    """Return ``part`` with nothing called improved that is not so ``against`` the trivial answers, too."""
    found = {row.category: row for row in against.categories} if against else {}
    rows = [_held(row, found[row.category]) if row.category in found else row for row in part.categories]
    macro, mean = part.macro, against and against.macro
    # Where a category has no trivial answer, the others' mean is another one.
    if macro and mean and macro.num_categories == mean.num_categories:
        macro = _held(macro, mean)
    return part.model_copy(update={"categories": rows, "macro": macro})


Row = TypeVar("Row", CategoryResult, Macro)


def _held(row: Row, rival: Row) -> Row:
    # What is better than a base at zero may still have learnt nothing.
    is_trivial = row.reason == "better" and rival.verdict != "improved"
    changed = {"verdict": "inconclusive", "reason": "trivial"} if is_trivial else {}
    return row.model_copy(update={**changed, "trivial": rival.base.value, "trivial_p": rival.p})


def is_judged(record: Scored, split: str) -> bool:
    """Whether a record counts in the figures of ``split``: of one that nobody liked less likelihood is no loss."""
    return record.split == split and record.is_liked is not False


def compared_results(
    sides: Sequence[Pairs], split: Literal["validation", "test"], default_metric: Collection[str], rules: Rules,
    others: Sequence[Sequence[Pairs]] = (),
) -> list[SplitResult | None]:  # fmt: skip
    """Return `several_results` without the trivial answers."""
    each = [_SplitNumbers(pairs, split, rules, default_metric) for pairs in sides]
    for further in others:
        for measured, pairs in zip(each, further, strict=True):
            measured.take_largest_p(_SplitNumbers(pairs, split, rules, default_metric))
    # Of twenty categories one looks improved by chance alone, so all p values of a split are adjusted together.
    adjusted = stats.holm([one.row.p for measured in each for one in measured.categories])
    means = iter(stats.holm([measured.macro.p for measured in each if measured.macro]))
    left = iter(adjusted)
    return [
        measured.result(
            [next(left) for _ in measured.categories], len(adjusted), next(means) if measured.macro else 1.0
        )
        for measured in each
    ]


class _SplitNumbers:
    """The categories of a split and their mean before p values are adjusted together."""

    def __init__(
        self, pairs: Pairs, split: Literal["validation", "test"], rules: Rules, default_metric: Collection[str]
    ) -> None:
        self.split, self.rules = split, rules
        self.pairs = [record_pair for record_pair in pairs if is_judged(record_pair[0], split)]
        groups: dict[str, list[tuple[Scored, Scored]]] = {}
        for record_pair in self.pairs:
            groups.setdefault(record_pair[0].category, []).append(record_pair)
        found = [unscored_of(name, mine) for name, mine in sorted(groups.items())]
        self.unscored = [one for one in found if one is not None]
        silent = {one.category for one in self.unscored}
        self.categories = [
            _Category(split, name, mine, rules, is_default=name in default_metric)
            for name, mine in sorted(groups.items())
            if name not in silent and any(_is_scored(p) or p[0].num_bytes for p in mine)
        ]
        self.macro = _macro(split, [one for one in self.categories if one.row.higher_is_better], rules.margin)

    def take_largest_p(self, other: _SplitNumbers) -> None:
        twins = {one.row.category: one.row for one in other.categories}
        for one in self.categories:
            one.row = _with_largest_p(one.row, twins.get(one.row.category))
        self.macro = self.macro and _with_largest_p(self.macro, other.macro)

    def result(self, adjusted: Sequence[float], num_tests: int, p_of_mean: float) -> SplitResult | None:
        if not self.categories and not self.unscored:
            return None
        outcomes = [outcome(before.score, after.score) for before, after in self.pairs]
        num = sum(one.row.n for one in self.categories if one.row.higher_is_better)
        mean = None if self.unscored else self.macro
        rows = [
            with_verdict(one.with_effect(num_tests), p, self.rules)
            for one, p in zip(self.categories, adjusted, strict=True)
        ]
        return SplitResult(
            split=self.split, n=len(self.pairs), categories=rows, unscored=self.unscored,
            macro=mean and mean_with_verdict(mean, num, p_of_mean, self.rules), behaviour=_behaviour(self.pairs),
            num_fixed=outcomes.count("fixed"), num_broken=outcomes.count("broken"),
        )  # fmt: skip


def _with_largest_p(row: Row, other: Row | None) -> Row:
    # Between a gain and a loss lies no change at all.
    is_same_side = other is not None and row.difference.value * other.difference.value > 0
    p = max(row.p, other.p) if other is not None and is_same_side else 1.0
    return row.model_copy(update={"p": p})


def without_unanswered(
    results: Sequence[SplitResult | None], sides: Sequence[Pairs], split: Literal["validation", "test"], rules: Rules,
    unanswered: Mapping[str, Sequence[str]],
) -> list[SplitResult | None]:  # fmt: skip
    """Return ``results`` of ``sides`` without the verdicts that records without an answer could change.

    ``unanswered`` has by category the clusters of the records that one of the models did not answer: those that it did
    may be the easy ones. A verdict stays that is the same where all others lost, and where all gained, what there is.
    """
    if not any(unanswered.values()):
        return list(results)
    lost, gained = ([[*pairs, *_completed(pairs, split, unanswered, gain)] for pairs in sides] for gain in (0.0, 1.0))
    # What is not shown is so by each extreme alone, what is shown by the largest p value of all, too.
    each_alone = [several_results(one, split, (), rules) for one in (lost, gained)]
    by_largest_p = [several_results(one, split, (), rules, [sides, lost, gained]) for one in (lost, gained)]
    extremes = [*each_alone, *by_largest_p]
    numbers = {category: len(clusters) for category, clusters in unanswered.items()}
    each = zip(results, *extremes, strict=True)
    return [part and _sure(part, numbers, [one for one in others if one is not None]) for part, *others in each]


def _completed(
    pairs: Pairs, split: str, unanswered: Mapping[str, Sequence[str]], gain: float
) -> list[tuple[Scored, Scored]]:
    # The records without an answer where the second model scores ``gain`` and the first, or what is trivial, the rest.
    twins = {p[0].category: p for p in pairs if is_judged(p[0], split) and None not in (p[0].score, p[1].score)}
    completed = []
    for category, clusters in unanswered.items():
        for number, cluster in enumerate(clusters if category in twins else ()):
            before, after = (
                replace(
                    twin, id=f"\0{number}", cluster=cluster, scores={twin.metric: score},
                    trivial_score=None if twin.trivial_score is None else 1 - gain,
                )
                for twin, score in zip(twins[category], (1 - gain, gain), strict=True)
            )  # fmt: skip
            completed.append((before, after))
    return completed


def _sure(part: SplitResult, numbers: Mapping[str, int], extremes: Sequence[SplitResult]) -> SplitResult:
    unknown = {"verdict": "inconclusive", "reason": "unanswered", "is_no_worse": False}
    rows = []
    for row in part.categories:
        num = numbers.get(row.category, 0)
        twins = [twin for one in extremes for twin in one.categories if twin.category == row.category]
        # What bits a missing answer would have taken nobody can bound.
        is_sure = (_is_same(row, twins) and row.higher_is_better) if num else _is_same(row, twins) or not _is_shown(row)
        more = {"num_unanswered": num, **({} if is_sure else unknown)}
        if not is_sure:
            whose = f"{row.n} of {row.n + num} records" if num else "not all records of other categories"
            more["note"] = f"{whose} were answered, so there is no verdict"
        elif num:
            more["note"] = f"{row.note}, whatever the other {num} would have been"
        rows.append(row.model_copy(update=more))
    macro = part.macro
    if macro is not None and not _is_same(macro, [one.macro for one in extremes if one.macro is not None]):
        macro = macro.model_copy(update=unknown)
    return part.model_copy(update={"categories": rows, "macro": macro})


def _is_shown(row: CategoryResult | Macro) -> bool:
    # Whether something is said of all records, and not that too little is known.
    return row.reason in ("better", "worse", "within-margin", "not-worse", "worse-by-margin")


def _is_same(row: CategoryResult | Macro, extremes: Sequence[CategoryResult | Macro]) -> bool:
    twins = extremes if _is_shown(row) else extremes[:2]
    return all((twin.reason, twin.is_no_worse) == (row.reason, row.is_no_worse) for twin in twins)


def without_lost(part: SplitResult, lost: Mapping[str, tuple[int, str]]) -> SplitResult:
    """Return ``part`` with categories that have no figure, nor has the mean then: their records, and why."""
    unscored = [
        Unscored(category=name, metric="", n=0, num_unscored=num, sentence=no_figure(name, why))
        for name, (num, why) in sorted(lost.items())
    ]
    macro = None if unscored else part.macro
    return part.model_copy(update={"macro": macro, "unscored": [*part.unscored, *unscored]})


def bits(pairs: Pairs, rules: Rules, *names: str) -> tuple[Estimate, Estimate, Estimate]:
    """Return base, tuned and tuned - base in bits per byte, pooled over ``pairs``; ``names`` seed the draws.

    Raises ZeroDivisionError: there is no byte.
    """
    # Pooled and not averaged: a short text with an unlikely word would outweigh a long one.
    weights = [before.num_bytes * math.log(2) for before, _ in pairs]
    clusters = [before.cluster for before, _ in pairs]
    sides = (
        [known(before.nll) for before, _ in pairs],
        [known(after.nll) for _, after in pairs],
        [known(after.nll) - known(before.nll) for before, after in pairs],
    )
    base, tuned, difference = (
        estimate(
            math.fsum(side) / math.fsum(weights),
            stats.bootstrap(side, weights, clusters, seed=_seed(*names), replicates=rules.resamples),
        )
        for side in sides
    )
    return base, tuned, difference


def bits_per_byte(nlls: Sequence[float], num_bytes: Sequence[int]) -> float | None:
    """Return the code length of some texts in bits per UTF-8 byte, pooled; None when there is no byte.

    ``nlls`` are negative log likelihoods in nats, summed over the supervised tokens of each text. Raises ValueError:
    the two sequences differ in length.
    """
    # Bytes, unlike tokens, are the same for every tokenizer, so that two models can be compared: Gao et al. 2020,
    # arXiv:2101.00027, section 3.1.
    total = sum(size for _, size in zip(nlls, num_bytes, strict=True))
    return math.fsum(nlls) / (math.log(2) * total) if total else None


def estimate(value: float, interval: stats.Interval) -> Estimate:
    """Return a value and its interval as one part of a report."""
    return Estimate(value=value, low=interval.low, high=interval.high)


class _Category:
    """A category's numbers before the p values of all categories are adjusted together."""

    def __init__(self, split: str, category: str, pairs: Pairs, rules: Rules, *, is_default: bool) -> None:
        # A category without one score is compared by loss, which every record with a text has.
        scored = list(filter(_is_scored, pairs))
        compared, is_score = scored or [p for p in pairs if p[0].num_bytes], bool(scored)
        self.fewest, self.clusters = rules.fewest, [before.cluster for before, _ in compared]
        self.before, self.after = (
            [known(record.score if is_score else record.nll) for record in side] for side in zip(*compared, strict=True)
        )
        if is_score:
            base, tuned = (
                estimate(_mean(values), stats.mean_interval(values, self.clusters))
                for values in (self.before, self.after)
            )
            interval = stats.difference_interval(self.before, self.after, self.clusters)
            difference = estimate(_mean(self.after) - _mean(self.before), interval)
        else:
            base, tuned, difference = bits(compared, rules, split, category)
        # Each cluster's part in the change, and a loss that nobody saw.
        self.parts, size = stats.change_parts(self.before, self.after, self.clusters)
        self.loss = math.sqrt(size)
        test, p = stats.paired_test(self.before, self.after, self.clusters, seed=_seed(split, category))
        up, down = stats.discordant(self.before, self.after)
        spelled = [pair for pair in pairs if pair[0].num_bytes]
        sizes = [before.num_bytes for before, _ in spelled]
        coded = [bits_per_byte([known(pair[side].nll) for pair in spelled], sizes) for side in (0, 1)]
        metric, other = scored[0][0].metric if scored else BITS, _other_scores(compared)
        self.row = CategoryResult(
            category=category, metric=metric, is_default_metric=is_default and is_score, higher_is_better=is_score,
            n=len(compared), num_clusters=len(self.parts), num_unscored=len(pairs) - len(compared), base=base,
            tuned=tuned, difference=difference, test=test, p=p, p_adjusted=p, minimum_detectable_effect=None,
            better=up if is_score else down, worse=down if is_score else up, other=other,
            margin_p=stats.margin_p(self.parts, self.loss, rules.margin) if is_score else None,
            bits_per_byte=Change(base=coded[0] or 0.0, tuned=coded[1] or 0.0) if any(sizes) else None,
            is_uncalibrated=JUDGE in {metric, *other} and not rules.is_judge_calibrated,
            trivial_answer=compared[0][1].trivial_answer,
        )  # fmt: skip

    def with_effect(self, num_tests: int) -> CategoryResult:
        """Return the category with the smallest effect that one of ``num_tests`` tests would have shown."""
        # Of too few records no change is ever called one.
        if not self.row.higher_is_better or self.row.num_clusters < self.fewest:
            return self.row
        # In units of one category: a cluster's mean difference, weighted by its size.
        parts = [part * self.row.num_clusters for part in self.weighted(1).values()]
        effect = stats.minimum_detectable_effect(parts, num_tests)
        return self.row.model_copy(update={"minimum_detectable_effect": effect})

    def weighted(self, num_categories: int) -> dict[str, float]:
        """Return each cluster's part in the mean difference over ``num_categories`` categories."""
        changes = np.subtract(self.after, self.before) / (num_categories * len(self.before))
        sums = stats.sums_by_cluster(self.clusters, changes.tolist())[:, 0].tolist()
        return dict(zip(sorted(set(self.clusters)), sums, strict=True))


def _is_scored(pair: tuple[Scored, Scored]) -> bool:
    return pair[0].score is not None and pair[1].score is not None


def _other_scores(compared: Pairs) -> dict[str, Change]:
    both = [(before.scores or {}, after.scores or {}) for before, after in compared]
    hidden = (_OWN, f"{JUDGE}.", compared[0][0].metric or _OWN)
    changes = {}
    for name in sorted({name for before, _ in both for name in before if not name.startswith(hidden[:2])}):
        values = [(before[name], after[name]) for before, after in both if name in before and name in after]
        if values and name != hidden[2]:
            changes[name] = Change(base=_mean([b for b, _ in values]), tuned=_mean([a for _, a in values]))
    return changes


_OWN = "behaviour."
JUDGE = "judge"


MOST_UNSCORED = 0.05
"""The share of a category's records that may be unscored; where more are, the rest may be the easy ones."""


def unscored_of(category: str, records: Iterable[Sequence[Scored]]) -> Unscored | None:
    """Return a category of which too few ``records`` are scored for figures; None where it has some.

    A record stands there once for each model.
    """
    # Raw text is not asked, and neither is a judge that nobody named.
    asked = [twins for twins in records if twins[0].metric and twins[0].category == category]
    n = sum(all(twin.score is not None for twin in twins) for twins in asked)
    metric = asked[0][0].metric if asked else JUDGE
    if len(asked) - n <= MOST_UNSCORED * len(asked) or (not n and metric == JUDGE):
        return None
    why = f"{n} of {len(asked)} scored, as references are empty or do not suit the scorer {metric}"
    sentence = no_figure(category, why)
    return Unscored(category=category, metric=metric, n=n, num_unscored=len(asked) - n, sentence=sentence)


def no_figure(category: str, why: str) -> str:
    """Return the sentence on a category without figures."""
    return f"{wording.category(category)} has no figure, and so the mean has none: {why}."


def one_answer(category: str, split: str, pairs: Pairs) -> str:
    """Return that the tuned model says one thing to most records, and far too often; "" where it does not."""
    each = [after for _, after in pairs if after.category == category]
    mine = [after for after in each if after.split == split and after.score is not None]
    n, wanted = len(mine), Counter(_key(after.reference) for after in mine)
    # A choice that is read in it may be spelled otherwise in the reference.
    right = Counter(_key(after.text or "") for after in mine if (after.score or 0.0) >= RIGHT_FROM)
    wanted |= right
    (key, count), *_ = Counter(_key(after.text or "") for after in mine).most_common(1) or [("", 0)]
    if count < max(_FEWEST_ALIKE, n / 2) or stats.wilson(count, n).low <= wanted[key] / n:
        return ""
    # A label of the training or validation records may be shown, and nothing else.
    labels = [each[0].trivial_answer or "", *(after.reference for after in each if after.split == "validation")]
    shown = next((repr(label) for label in labels if _key(label) == key and len(label) <= LONGEST_LABEL), "the same")
    return f"{wording.category(category)}: {count} of {n} answers are {shown}, and {wanted[key]} should be."


_FEWEST_ALIKE = 10


def _macro(split: str, scored: Sequence[_Category], margin: float) -> Macro | None:
    """Return the mean over the ``scored`` categories, None without any."""
    if not scored:
        return None
    # The test flips a cluster's parts in all categories together. A loss that nobody saw may be one of a whole cluster,
    # in all categories that have records of it.
    parts, losses = dict[str, float](), dict[str, float]()
    for one in scored:
        for cluster, part in one.weighted(len(scored)).items():
            parts[cluster] = parts.get(cluster, 0.0) + part
            losses[cluster] = losses.get(cluster, 0.0) + one.loss / len(one.parts)
    # The categories share what an interval adds for changes that were not seen.
    spans = [stats.difference_interval(one.before, one.after, one.clusters, len(scored)) for one in scored]
    changes = [estimate(one.row.difference.value, span) for one, span in zip(scored, spans, strict=True)]
    base, tuned, difference = (
        estimate(_mean([one.value for one in own]), stats.mean_of_intervals(
            [one.value for one in own], [stats.Interval(one.low, one.high) for one in own],
            stats.crossing([(values, one.clusters) for values, one in zip(each, scored, strict=True)]),
        ))
        for own, each in (
            ([one.row.base for one in scored], [one.before for one in scored]),
            ([one.row.tuned for one in scored], [one.after for one in scored]),
            (changes, [np.subtract(one.after, one.before).tolist() for one in scored]),
        )
    )  # fmt: skip
    loss = max(losses.values()) * len(parts) / len(scored)
    return Macro(
        num_categories=len(scored), num_clusters=len(parts), base=base, tuned=tuned, difference=difference,
        p=stats.sign_flip(list(parts.values()), seed=_seed(split, "macro")),
        margin_p=stats.margin_p([part * len(parts) for part in parts.values()], loss, margin),
    )  # fmt: skip


def mean_with_verdict(macro: Macro, num: int, p: float, rules: Rules) -> Macro:
    """Return the mean with the verdict on its ``num`` records; ``p`` is adjusted for other comparisons beside it."""
    verdict = stats.decide(
        num, macro.difference.value, (macro.difference.low, macro.difference.high), p, num_clusters=macro.num_clusters,
        margin=rules.margin, fewest=rules.fewest, margin_p=macro.margin_p, asks_not_worse=rules.asks_not_worse,
    )  # fmt: skip
    found = {"p": p, "verdict": verdict.verdict, "reason": verdict.reason, "is_no_worse": verdict.is_no_worse}
    return macro.model_copy(update=found)


def with_verdict(row: CategoryResult, p: float, rules: Rules) -> CategoryResult:
    """Return the category with its verdict and its sentence; ``p`` is adjusted for the other categories."""
    span = row.difference
    gain, interval, margin, text = span.value, (span.low, span.high), rules.margin, ""
    if not row.higher_is_better:
        # Lower is better, and the margin is a share of the base's bits.
        scale = -1 / row.base.value if row.base.value else -1.0
        gain, interval = gain * scale, (span.high * scale, span.low * scale)
        margin, text = BITS_MARGIN, f"{BITS_MARGIN:.0%}"
    verdict = stats.decide(
        row.n, gain, interval, p, margin=margin, fewest=rules.fewest, num_clusters=row.num_clusters, margin_text=text,
        margin_p=row.margin_p, asks_not_worse=rules.asks_not_worse,
    )  # fmt: skip
    return row.model_copy(update={"p_adjusted": p, **verdict._asdict()})


def _behaviour(pairs: Pairs) -> Behaviour | None:
    # A choice that was taken by likelihood is an answer, and was not written.
    sides = [[p[side] for p in pairs if p[0].stopped is not None and p[1].stopped is not None] for side in (0, 1)]
    if not sides[0]:
        return None

    names = {name for side in sides for record in side for name in record.scores or {} if name.startswith(_OWN)}
    values = {name: [[(record.scores or {}).get(_OWN + name, 0.0) for record in side] for side in sides]
              for name in _BEHAVIOUR if _OWN + name in names or name in _BEHAVIOUR[:3]}  # fmt: skip
    values |= {"stopped": [[float(bool(record.stopped)) for record in side] for side in sides]}
    means = {name: Change(base=_mean(base), tuned=_mean(tuned)) for name, (base, tuned) in values.items()}
    return Behaviour(n=len(sides[0]), means=means)


_BEHAVIOUR = ("empty", "repetition", "length_ratio", "reasoning_tokens", "reasoning_cut")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def known(value: float | None) -> float:
    """Return the score, or the likelihood, of a record that has one."""
    assert value is not None, "only records that have one are compared"
    return value


def _key(text: str) -> str:
    return normalise(text, casefold=True)
