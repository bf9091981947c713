"""The numbers of each split and category, computed from the scored records of both models and nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from train.evaluate.metrics import normalise
from train.evaluate.predictions import REASONING_TOKENS, RIGHT_FROM, Scored, outcome
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
    each = [_comparisons(pairs, split, rules) for pairs in sides]
    # Of twenty categories one looks improved by chance alone, so all p values of a split are adjusted together.
    tests = [comparison for complete in each for comparison in complete]
    macros = [_macro(split, complete) for complete in each]
    for further in others:
        twins = [_comparisons(pairs, split, rules) for pairs in further]
        by_place = {(place, twin.category): twin for place, complete in enumerate(twins) for twin in complete}
        for place, complete in enumerate(each):
            for comparison in complete:
                comparison.p = _largest_p(comparison, by_place.get((place, comparison.category)))
        macros = [macro and macro.model_copy(update={"p": _largest_p(macro, _macro(split, complete))})
                  for macro, complete in zip(macros, twins, strict=True)]  # fmt: skip
    for comparison in tests:
        comparison.num_tests = len(tests)
    adjusted = iter(stats.holm([comparison.p for comparison in tests]))
    adjusted_macros = iter(stats.holm([macro.p for macro in macros if macro is not None]))
    macros = [macro and mean_with_verdict(macro, _num_scored(complete), next(adjusted_macros), rules)
              for macro, complete in zip(macros, each, strict=True)]  # fmt: skip
    return [
        _split_result(split, [p for p in pairs if is_judged(p[0], split)], complete, macro, adjusted, default_metric)
        for pairs, complete, macro in zip(sides, each, macros, strict=True)
    ]


def _comparisons(pairs: Pairs, split: str, rules: Rules) -> list[Comparison]:
    groups: dict[str, list[tuple[Scored, Scored]]] = {}
    for record_pair in pairs:
        if is_judged(record_pair[0], split):
            groups.setdefault(record_pair[0].category, []).append(record_pair)
    found = (_compare(split, category, of, rules) for category, of in sorted(groups.items()))
    return [comparison for comparison in found if comparison is not None]


def _largest_p(one: Comparison | Macro, other: Comparison | Macro | None) -> float:
    # Between a gain and a loss lies no change at all.
    is_same_side = other is not None and one.difference.value * other.difference.value > 0
    return max(one.p, other.p) if other is not None and is_same_side else 1.0


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


def _split_result(
    split: Literal["validation", "test"], pairs: Pairs, complete: Sequence[Comparison], macro: Macro | None,
    adjusted: Iterator[float], default_metric: Collection[str],
) -> SplitResult | None:  # fmt: skip
    names = sorted({before.category for before, _ in pairs})
    unscored = [found for name in names if (found := unscored_of(name, pairs))]
    if not complete and not unscored:
        return None
    outcomes = [outcome(before.score, after.score) for before, after in pairs]
    return SplitResult(
        split=split,
        n=len(pairs),
        macro=None if unscored else macro,
        behaviour=_behaviour(pairs),
        categories=[
            comparison.result(next(adjusted), comparison.category in default_metric) for comparison in complete
        ],
        unscored=unscored,
        num_fixed=outcomes.count("fixed"),
        num_broken=outcomes.count("broken"),
    )


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


class Comparison:
    """A category's numbers before the p values of all categories, ``num_tests`` of them, are adjusted together."""

    num_tests = 1

    def __init__(self, split: str, category: str, pairs: Pairs, compared: Pairs, metric: str, rules: Rules) -> None:
        self.category, self.metric, self.pairs, self.compared, self.rules = category, metric, pairs, compared, rules
        self.clusters = [before.cluster for before, _ in compared]
        self.is_score = metric != BITS
        seed = _seed(split, category)
        if self.is_score:
            self.before = [known(before.score) for before, _ in compared]
            self.after = [known(after.score) for _, after in compared]
            self.base, self.tuned = (
                estimate(_mean(values), stats.mean_interval(values, self.clusters))
                for values in (self.before, self.after)
            )
            interval = stats.difference_interval(self.before, self.after, self.clusters)
            self.difference = estimate(_mean(self.after) - _mean(self.before), interval)
        else:
            self.before = [known(before.nll) for before, _ in compared]
            self.after = [known(after.nll) for _, after in compared]
            self.base, self.tuned, self.difference = bits(compared, rules, split, category)
        # Each cluster's part in the change, and a loss that nobody saw.
        self.parts, size = stats.change_parts(self.before, self.after, self.clusters)
        self.loss = math.sqrt(size)
        self.test, self.p = stats.paired_test(self.before, self.after, self.clusters, seed=seed)
        up, down = stats.discordant(self.before, self.after)
        self.better, self.worse = (up, down) if self.is_score else (down, up)

    def result(self, p_adjusted: float, is_default: bool) -> CategoryResult:
        """Return the category's result with its verdict."""
        n, num_clusters = len(self.compared), len(set(self.clusters))
        other = self._other_scores()
        spelled = [pair for pair in self.pairs if pair[0].num_bytes]
        sizes = [before.num_bytes for before, _ in spelled]
        before, after = (bits_per_byte([known(pair[side].nll) for pair in spelled], sizes) for side in (0, 1))
        result = CategoryResult(
            category=self.category, metric=self.metric, is_default_metric=is_default and self.is_score,
            higher_is_better=self.is_score, n=n, num_clusters=num_clusters, num_unscored=len(self.pairs) - n,
            base=self.base, tuned=self.tuned, difference=self.difference, test=self.test, p=self.p,
            p_adjusted=p_adjusted, better=self.better, worse=self.worse,
            minimum_detectable_effect=self._detectable_effect(num_clusters),
            margin_p=stats.margin_p(self.parts, self.loss, self.rules.margin) if self.is_score else None,
            bits_per_byte=None if before is None or after is None else Change(base=before, tuned=after),
            other=other, is_uncalibrated=JUDGE in {self.metric, *other} and not self.rules.is_judge_calibrated,
            trivial_answer=self.compared[0][1].trivial_answer,
        )  # fmt: skip
        return with_verdict(result, p_adjusted, self.rules)

    def weighted(self, num_categories: int) -> dict[str, float]:
        """Return each cluster's part in the mean difference over ``num_categories`` categories."""
        sums: dict[str, float] = {}
        for before, after, cluster in zip(self.before, self.after, self.clusters, strict=True):
            sums[cluster] = sums.get(cluster, 0.0) + (after - before) / (num_categories * len(self.before))
        return sums

    def _detectable_effect(self, num_clusters: int) -> float | None:
        # Of too few records no change is ever called one.
        if not self.is_score or num_clusters < self.rules.fewest:
            return None
        # In units of one category: a cluster's mean difference, weighted by its size.
        parts = [part * num_clusters for part in self.weighted(1).values()]
        return stats.minimum_detectable_effect(parts, self.num_tests)

    def _other_scores(self) -> dict[str, Change]:
        both = [(before.scores or {}, after.scores or {}) for before, after in self.compared]
        hidden = (_OWN, f"{JUDGE}.")
        names = {name for before, _ in both for name in before if name != self.metric and not name.startswith(hidden)}
        changes = {}
        for name in sorted(names):
            values = [(before[name], after[name]) for before, after in both if name in before and name in after]
            if values:
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


def _compare(split: str, category: str, pairs: Pairs, rules: Rules) -> Comparison | None:
    if unscored_of(category, pairs):
        return None
    # A category without one score is compared by loss, which every record with a text has.
    scored = [p for p in pairs if p[0].score is not None and p[1].score is not None]
    if scored:
        return Comparison(split, category, pairs, scored, scored[0][0].metric, rules)
    spelled = [p for p in pairs if p[0].num_bytes]
    return Comparison(split, category, pairs, spelled, BITS, rules) if spelled else None


def _macro(split: str, comparisons: Sequence[Comparison]) -> Macro | None:
    """The mean over the scored categories, None without any."""
    scored = [comparison for comparison in comparisons if comparison.is_score]
    if not scored:
        return None
    # The test flips a cluster's parts in all categories together.
    parts: dict[str, float] = {}
    for comparison in scored:
        for cluster, part in comparison.weighted(len(scored)).items():
            parts[cluster] = parts.get(cluster, 0.0) + part
    # The categories share what an interval adds for changes that were not seen.
    changes = [
        estimate(one.difference.value, stats.difference_interval(one.before, one.after, one.clusters, len(scored)))
        for one in scored
    ]
    base, tuned, difference = (
        estimate(
            _mean([one.value for one in own]),
            stats.mean_of_intervals(
                [one.value for one in own], [stats.Interval(one.low, one.high) for one in own],
                stats.crossing([(values, one.clusters) for values, one in zip(each, scored, strict=True)]),
            ),
        )
        for own, each in (
            ([one.base for one in scored], [one.before for one in scored]),
            ([one.tuned for one in scored], [one.after for one in scored]),
            (changes, [np.subtract(one.after, one.before).tolist() for one in scored]),
        )
    )  # fmt: skip
    p = stats.sign_flip(list(parts.values()), seed=_seed(split, "macro"))
    # A loss that nobody saw may be one of a whole cluster, in all categories that have records of it.
    losses: dict[str, float] = {}
    for one in scored:
        for name in set(one.clusters):
            losses[name] = losses.get(name, 0.0) + one.loss / len(one.parts)
    loss = max(losses.values()) * len(parts) / len(scored)
    margin_p = stats.margin_p([part * len(parts) for part in parts.values()], loss, scored[0].rules.margin)
    return Macro(
        num_categories=len(scored), num_clusters=len(parts), base=base, tuned=tuned, difference=difference, p=p,
        margin_p=margin_p,
    )  # fmt: skip


def mean_with_verdict(macro: Macro, num: int, p: float, rules: Rules) -> Macro:
    """Return the mean with the verdict on its ``num`` records; ``p`` is adjusted for other comparisons beside it."""
    verdict = stats.decide(
        num, macro.difference.value, (macro.difference.low, macro.difference.high), p, num_clusters=macro.num_clusters,
        margin=rules.margin, fewest=rules.fewest, margin_p=macro.margin_p, asks_not_worse=rules.asks_not_worse,
    )  # fmt: skip
    found = {"p": p, "verdict": verdict.verdict, "reason": verdict.reason, "is_no_worse": verdict.is_no_worse}
    return macro.model_copy(update=found)


def _num_scored(comparisons: Sequence[Comparison]) -> int:
    return sum(len(comparison.compared) for comparison in comparisons if comparison.is_score)


def with_verdict(row: CategoryResult, p: float, rules: Rules) -> CategoryResult:
    """Return the category with its verdict and its sentence; ``p`` is adjusted for the other categories."""
    gain, span, margin, text = row.difference.value, row.difference, rules.margin, ""
    interval = stats.Interval(span.low, span.high)
    if not row.higher_is_better:
        # Lower is better, and the margin is a share of the base's bits.
        scale = -1 / row.base.value if row.base.value else -1.0
        gain, interval = gain * scale, stats.Interval(span.high * scale, span.low * scale)
        margin, text = BITS_MARGIN, f"{BITS_MARGIN:.0%}"
    verdict = stats.decide(
        row.n,
        gain,
        interval,
        p,
        margin=margin,
        fewest=rules.fewest,
        num_clusters=row.num_clusters,
        margin_text=text,
        margin_p=row.margin_p if row.higher_is_better else None,
        asks_not_worse=rules.asks_not_worse,
    )
    return row.model_copy(update={"p_adjusted": p, **verdict._asdict()})


def _behaviour(pairs: Pairs) -> Behaviour | None:
    # A choice that was taken by likelihood is an answer, and was not written.
    sides = [[p[side] for p in pairs if p[0].stopped is not None and p[1].stopped is not None] for side in (0, 1)]
    if not sides[0]:
        return None

    def change(name: str) -> Change:
        base, tuned = (_mean([(record.scores or {}).get(_OWN + name, 0.0) for record in side]) for side in sides)
        return Change(base=base, tuned=tuned)

    base, tuned = (_mean([float(bool(record.stopped)) for record in side]) for side in sides)
    has_reasoning = any(REASONING_TOKENS in (record.scores or {}) for side in sides for record in side)
    return Behaviour(
        n=len(sides[0]),
        stopped=Change(base=base, tuned=tuned),
        empty=change("empty"),
        repetition=change("repetition"),
        length_ratio=change("length_ratio"),
        reasoning_tokens=change("reasoning_tokens") if has_reasoning else None,
        reasoning_cut=change("reasoning_cut") if has_reasoning else None,
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def known(value: float | None) -> float:
    """Return the score, or the likelihood, of a record that has one."""
    assert value is not None, "only records that have one are compared"
    return value


def _key(text: str) -> str:
    return normalise(text, casefold=True)
