"""The numbers and the verdict of each category, computed from the scored records of both models and nothing else."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, NamedTuple

import numpy as np

from train.base import console
from train.contestants.chat_completions import message_text
from train.data.dataset import Row, last_answer
from train.evaluate.metrics import normalise
from train.evaluate.predictions import RIGHT_FROM, Scored
from train.evaluate.scoring import MAX_LABEL_CHARS, Answer, CategorySpec, find_spec, score_answers
from train.report import stats, wording
from train.report.model import CategoryResult, Change, Estimate, SplitResult, Unscored
from train.report.stats import seed_of

Pairs = Sequence[tuple[Scored, Scored]]
Scores = Sequence[tuple[Mapping[str, float], Mapping[str, float]]]
"""The scores of records by the base and by the tuned model."""
Split = Literal["validation", "test"]
SPLITS: tuple[Split, ...] = ("validation", "test")
"""Those that are judged; test comes last."""
Rows = dict[str | None, CategoryResult]
"""Results by category; under None that of their mean, where one of them is scored."""

BITS, JUDGE = "bits_per_byte", "judge"
BITS_MARGIN = 0.01
"""The share by which bits per byte may rise before it counts as a loss."""
MOST_UNSCORED = 0.05
"""The share of a category's records that may be unscored; where more are, the rest may be the easy ones."""
_BEHAVIOUR = "behaviour."
_FEWEST_ALIKE = 10


AdjustForSeeds = Callable[[str, Sequence[Scored], Rows], Rows]
"""What counts several training seeds into the results of a split, held against the records of a model or trivial ones.
"""


@dataclass(frozen=True, slots=True)
class Rules:
    """How results are judged: the loss that counts as none, and the number of resamples.

    ``is_non_inferiority``: the question is whether a loss of the margin is ruled out, and not whether anything changed.
    """

    margin: float = stats.MARGIN
    resamples: int = stats.REPLICATES
    is_judge_calibrated: bool = False
    is_non_inferiority: bool = False
    adjust_for_seeds: AdjustForSeeds | None = None


def compare_pairs(
    sides: Sequence[Pairs], split: Split, rules: Rules,
    unanswered: Mapping[str, int] | None = None,
) -> list[SplitResult | None]:  # fmt: skip
    """Return the results of one split for each of several comparisons, None where nothing can be compared.

    All p values are adjusted together, over the categories and over the comparisons. Those against the trivial answers
    are a second family, so that of either at most one report in forty calls something better that is not.
    ``unanswered`` has by category the records that not all models answered; one without any pair is listed without
    figures. Draws are seeded by the names of split and category, so the same records always give the same numbers.
    """
    kept = [[pair for pair in pairs if is_counted(pair[0], split)] for pairs in sides]
    families = measure_rows(kept, split, rules), measure_rows(map(_rivals, kept), split, rules)
    return [_split_result(*each, split, rules, unanswered or {}) for each in zip(kept, *families, strict=True)]


def is_counted(record: Scored, split: str) -> bool:
    """Return whether a record counts in the figures of ``split``: less likelihood of a disliked one is no loss."""
    return record.split == split and record.is_liked is not False


def _rivals(pairs: Pairs) -> Pairs:
    """Return the second of each pair beside the trivial answer to it, where that can be scored."""
    trivial = (
        replace(after, metric="" if after.trivial_score is None else after.metric, num_bytes=0,
                scores={after.metric: after.trivial_score or 0.0})
        for _, after in pairs
    )  # fmt: skip
    return list(zip(trivial, (after for _, after in pairs), strict=True))


def measure_rows(sides: Iterable[Pairs], split: str, rules: Rules) -> list[Rows]:
    """Return the results of each of ``sides`` by category, whose p values are adjusted together, without verdicts."""
    results = list[Rows]()
    measured = [(pairs, _categories(pairs, split, rules)) for pairs in sides]
    num_tests = sum(len(categories) for _, categories in measured)
    for pairs, categories in measured:
        rows: Rows = {
            each.row.category: _with_effect(each.row, [*each.changes.values()], num_tests) for each in categories
        }
        if scored := [each for each in categories if each.row.higher_is_better]:
            rows[None] = _mean_row(split, scored, len(measured), rules)
        results.append(
            rules.adjust_for_seeds(split, [before for before, _ in pairs], rows) if rules.adjust_for_seeds else rows
        )
    # Of twenty categories one looks improved by chance alone.
    for is_mean in (False, True):
        family = [(rows, name) for rows in results for name in rows if (name is None) is is_mean]
        for (rows, name), p in zip(family, stats.holm_adjust([rows[name].p for rows, name in family]), strict=True):
            rows[name] = rows[name].model_copy(update={"p_adjusted": p})
    return results


def _split_result(
    pairs: Pairs, rows: Rows, rivals: Rows, split: Split, rules: Rules, unanswered: Mapping[str, int]
) -> SplitResult | None:
    groups = _by_category(pairs)
    unscored = [one for name, mine in groups.items() if (one := find_unscored(name, mine))]
    for name, num in sorted(unanswered.items()):
        if name not in groups:
            why = f"0 of {num} records can be compared"
            unscored.append(Unscored(category=name, metric="", n=0, num_unscored=num, sentence=_no_figure(name, why)))
    if not rows and not unscored:
        return None
    for key, row in rows.items():
        num, rival = sum(unanswered.values()) if key is None else unanswered.get(key, 0), rivals.get(key)
        # Where a category has no trivial answer, the others' mean is another one.
        is_same = rival is not None and (key is not None or rival.metric == row.metric)
        rows[key] = with_verdict(row.model_copy(update={"num_unanswered": num}), rules, rival if is_same else None)
    mean = rows.pop(None, None)
    return SplitResult(
        split=split, n=len(pairs), categories=[*rows.values()], macro=None if unscored else mean, unscored=unscored,
        behaviour=_behaviour(pairs),
    )  # fmt: skip


def with_verdict(row: CategoryResult, rules: Rules, rival: CategoryResult | None = None) -> CategoryResult:
    """Return the result with its verdict, in words too; what is better must be so against its ``rival``, too."""
    span = row.difference
    gain, interval, margin, text = span.value, (span.low, span.high), rules.margin, ""
    if not row.higher_is_better:
        # Lower is better, and the margin is a share of the base's bits.
        scale = -1 / row.base.value if row.base.value else -1.0
        gain, interval = gain * scale, (span.high * scale, span.low * scale)
        margin, text = BITS_MARGIN, f"{BITS_MARGIN:.0%}"
    verdict: dict[str, Any] = stats.decide_verdict(
        row.n, gain, interval, row.p_adjusted, margin=margin, num_clusters=row.num_clusters,
        margin_text=text, margin_p=row.margin_p, is_non_inferiority=rules.is_non_inferiority,
    )._asdict()  # fmt: skip
    if row.num_unanswered:
        # Those that were answered may be the easy ones.
        note = f"{row.n} of {row.n + row.num_unanswered} records were answered, so there is no verdict"
        verdict = {"reason": "unanswered", "note": note}
    elif rival and verdict["reason"] == "better" and with_verdict(rival, rules).verdict != "improved":
        # What is better than a base at zero may still have learnt nothing.
        verdict |= {"verdict": "inconclusive", "reason": "trivial"}
    verdict |= {"trivial": rival.base.value, "trivial_p": rival.p} if rival else {}
    return with_sentence(row.model_copy(update=verdict))


def with_sentence(row: CategoryResult) -> CategoryResult:
    """Return the result with the label and the sentence of its verdict."""
    return row.model_copy(update={"label": wording.format_verdict(row), "sentence": wording.format_sentence(row)})


class _Category(NamedTuple):
    """A category's numbers: scores of both models, or nats, by record; and by cluster their part in the change."""

    row: CategoryResult
    clusters: list[str]
    before: list[float]
    after: list[float]
    changes: dict[str, float]
    loss: float
    """The size of a cluster's loss that nobody saw."""


def _by_category(pairs: Pairs) -> dict[str, Pairs]:
    def category_of(pair: tuple[Scored, Scored]) -> str:
        return pair[0].category

    return {name: list(mine) for name, mine in groupby(sorted(pairs, key=category_of), category_of)}


def _categories(pairs: Pairs, split: str, rules: Rules) -> list[_Category]:
    return [
        _category(split, name, mine, rules)
        for name, mine in _by_category(pairs).items()
        if find_unscored(name, mine) is None and any(_is_scored(pair) or pair[0].num_bytes for pair in mine)
    ]


def _category(split: str, category: str, pairs: Pairs, rules: Rules) -> _Category:
    # A category without one score is compared by loss, which every record with a text has.
    scored, spelled = list(filter(_is_scored, pairs)), [pair for pair in pairs if pair[0].num_bytes]
    compared, is_score, seed = scored or spelled, bool(scored), seed_of(split, category)
    clusters, both = [first.cluster for first, _ in compared], list(zip(*compared, strict=True))
    before, after = ([require_value(record.score if is_score else record.nll) for record in side] for side in both)
    change, bits = np.subtract(after, before).tolist(), list(map(bits_per_byte, zip(*spelled, strict=True)))
    if is_score:
        intervals = [stats.mean_interval(side, clusters) for side in (before, after)]
        intervals.append(stats.difference_interval(before, after, clusters))
        values = [_mean(before), _mean(after)]
    else:
        weights = [first.num_bytes * math.log(2) for first, _ in compared]
        intervals = [stats.bootstrap(side, weights, clusters, seed=seed, replicates=rules.resamples)
                     for side in (before, after, change)]  # fmt: skip
        values = bits
    base, tuned, difference = map(estimate, (*values, values[1] - values[0]), intervals)
    parts, size = stats.change_parts(before, after, clusters)
    test, p = stats.paired_test(before, after, clusters, seed=seed)
    up, down = stats.count_discordant(before, after)
    metric, other = scored[0][0].metric if scored else BITS, _other_scores(compared)
    row = CategoryResult(
        category=category, metric=metric, higher_is_better=is_score,
        n=len(compared), num_clusters=len(parts), num_unscored=len(pairs) - len(compared), base=base, tuned=tuned,
        difference=difference, test=test, p=p, p_adjusted=p, better=up if is_score else down,
        worse=down if is_score else up, other=other, trivial_answer=compared[0][1].trivial_answer,
        margin_p=stats.margin_p(parts, math.sqrt(size), rules.margin) if is_score else None,
        bits_per_byte=Change(base=bits[0], tuned=bits[1]) if bits else None,
        is_uncalibrated=JUDGE in {metric, *other} and not rules.is_judge_calibrated,
    )  # fmt: skip
    sums = stats.sums_by_cluster(clusters, change)[:, 0] / len(change)
    changes = dict(zip(sorted(set(clusters)), sums.tolist(), strict=True))
    return _Category(row, clusters, before, after, changes, math.sqrt(size))


def _mean_row(split: str, scored: Sequence[_Category], num_tests: int, rules: Rules) -> CategoryResult:
    # The test flips a cluster's parts in all categories together. A loss that nobody saw may be one of a whole cluster,
    # in all categories that have records of it.
    parts, losses, num = defaultdict[str, float](float), defaultdict[str, float](float), len(scored)
    for each in scored:
        for cluster, part in each.changes.items():
            parts[cluster] += part / num
            losses[cluster] += each.loss / len(each.changes)
    means = dict[str, Estimate]()
    for name, least, categories in (
        ("base", 0.0, [(each.before, stats.mean_interval(each.before, each.clusters, num)) for each in scored]),
        ("tuned", 0.0, [(each.after, stats.mean_interval(each.after, each.clusters, num)) for each in scored]),
        ("difference", -1.0, [(np.subtract(each.after, each.before).tolist(), stats.difference_interval(
            each.before, each.after, each.clusters, num)) for each in scored]),
    ):  # fmt: skip
        sides, intervals = zip(*categories, strict=True)
        wider = stats.dependence_factor([(side, each.clusters) for side, each in zip(sides, scored, strict=True)])
        values = [getattr(each.row, name).value for each in scored]
        mean, low, high = stats.mean_of_intervals(values, intervals, wider)
        means[name] = Estimate(value=mean, low=max(least, low), high=min(1.0, high))
    loss = max(losses.values()) * len(parts) / num
    p = stats.sign_flip_p([*parts.values()], seed=seed_of(split, "macro"))
    row = CategoryResult(
        category="MEAN", metric="1 category" if num == 1 else f"{num} categories", n=sum(each.row.n for each in scored),
        num_clusters=len(parts), base=means["base"], tuned=means["tuned"], difference=means["difference"],
        test="sign-flip", p=p, p_adjusted=p,
        margin_p=stats.margin_p([part * len(parts) for part in parts.values()], loss, rules.margin),
    )  # fmt: skip
    return _with_effect(row, [*parts.values()], num_tests)


def _with_effect(row: CategoryResult, parts: Sequence[float], num_tests: int) -> CategoryResult:
    """Return the result with the smallest effect that one of ``num_tests`` tests would have shown."""
    # Of too few records no change is ever called one.
    if not row.higher_is_better or row.num_clusters < stats.MIN_CLUSTERS:
        return row
    # In units of one category: a cluster's mean difference, weighted by its size.
    effect = stats.minimum_detectable_effect([part * len(parts) for part in parts], num_tests)
    return row.model_copy(update={"minimum_detectable_effect": effect})


def estimate(value: float, interval: stats.Interval) -> Estimate:
    """Return a value and its interval as one part of a report."""
    return Estimate(value=value, low=interval.low, high=interval.high)


def bits_per_byte(records: Sequence[Scored]) -> float:
    """Return the code length of the references of ``records`` in bits per UTF-8 byte.

    It is pooled and not averaged: a short text with an unlikely word would outweigh a long one. Raises
    ZeroDivisionError: there is no byte.
    """
    # Bytes, unlike tokens, are the same for every tokenizer, so that two models can be compared: Gao et al. 2020,
    # arXiv:2101.00027, section 3.1.
    return math.fsum(require_value(one.nll) for one in records) / (math.log(2) * sum(one.num_bytes for one in records))


def _is_scored(pair: tuple[Scored, Scored]) -> bool:
    return pair[0].score is not None and pair[1].score is not None


def _other_scores(compared: Pairs) -> dict[str, Change]:
    both = [(before.scores or {}, after.scores or {}) for before, after in compared]
    names = sorted({name for before, _ in both for name in before} - {compared[0][0].metric})
    return _score_changes(both, [name for name in names if not name.startswith((_BEHAVIOUR, f"{JUDGE}."))])


def _score_changes(both: Scores, names: Iterable[str]) -> dict[str, Change]:
    """Return the means of both models' scores that have ``names``, of the records where both have them."""
    changes = {}
    for name in names:
        if values := [(before[name], after[name]) for before, after in both if name in before and name in after]:
            base, tuned = map(_mean, zip(*values, strict=True))
            changes[name] = Change(base=base, tuned=tuned)
    return changes


def find_unscored(category: str, records: Iterable[Sequence[Scored]]) -> Unscored | None:
    """Return a category of which too few ``records`` are scored for figures; None where it has some.

    A record stands there once for each model.
    """
    # Raw text has no metric; a judge that no recipe names scores nothing, which is no fault of the records.
    evaluated = [twins for twins in records if twins[0].metric and twins[0].category == category]
    n = sum(all(twin.score is not None for twin in twins) for twins in evaluated)
    metric = evaluated[0][0].metric if evaluated else JUDGE
    if len(evaluated) - n <= MOST_UNSCORED * len(evaluated) or (not n and metric == JUDGE):
        return None
    why = f"{n} of {len(evaluated)} scored, as references are empty or do not suit the scorer {metric}"
    sentence = _no_figure(category, why)
    return Unscored(category=category, metric=metric, n=n, num_unscored=len(evaluated) - n, sentence=sentence)


def warn_of_unscored(rows: Sequence[Row], categories: Mapping[str, CategorySpec], split: str) -> None:
    """Warn of each category of ``split`` whose references its scorer cannot score."""
    # A reference that is not scored as an answer to itself suits no answer.
    rows = [
        row for row in rows if row.is_liked is not False and any(m["role"] == "assistant" for m in row.messages or ())
    ]
    references = {row.id: reference_of(row) for row in rows}
    answers = [
        Answer(row.id, references[row.id], None, logprobs=[0.0] * len(find_spec(categories, row.category).choices))
        for row in rows
    ]
    scored = score_answers(rows, references, answers, None, categories, split=split)
    for name in sorted({record.category for record in scored}):
        if unscored := find_unscored(name, ([record] for record in scored)):
            console.info(
                f"warning: {console.one_line(name) or '-'}: {unscored.n} of {unscored.n + unscored.num_unscored} "
                f"{split} references suit the scorer {find_spec(categories, name).metric.name}; it will have no figure"
                f", and the mean none. Set [categories.{json.dumps(name)}] scorer in curate.toml and export again."
            )


def reference_of(row: Row) -> str:
    """Return the text of the last answer of ``row``; raises RowFault where there is none."""
    return message_text((row.messages or [])[last_answer(row.messages or [])])


def _no_figure(category: str, why: str) -> str:
    return f"{wording.format_category(category)} has no figure, and so the mean has none: {why}."


def describe_collapse(category: str, split: str, pairs: Pairs) -> str:
    """Return that the tuned model says one thing to most records, and far too often; "" where it does not."""
    each = [after for _, after in pairs if after.category == category]
    mine = [after for after in each if after.split == split and after.score is not None]
    n, expected = len(mine), Counter(_key(after.reference) for after in mine)
    # A choice that is read in it may be spelled otherwise in the reference.
    right = Counter(_key(after.text or "") for after in mine if (after.score or 0.0) >= RIGHT_FROM)
    expected |= right
    (key, count), *_ = Counter(_key(after.text or "") for after in mine).most_common(1) or [("", 0)]
    if count < max(_FEWEST_ALIKE, n / 2) or stats.wilson(count, n).low <= expected[key] / n:
        return ""
    # A label of the training or validation records may be shown, and nothing else.
    labels = [each[0].trivial_answer or "", *(after.reference for after in each if after.split == "validation")]
    shown = next((repr(label) for label in labels if _key(label) == key and len(label) <= MAX_LABEL_CHARS), "the same")
    return f"{wording.format_category(category)}: {count} of {n} answers are {shown}, and {expected[key]} should be."


def _behaviour(pairs: Pairs) -> dict[str, Change]:
    # A choice that was taken by likelihood is an answer, and was not written.
    written = [pair for pair in pairs if pair[0].is_generated and pair[1].is_generated]
    zeros = dict.fromkeys([name for pair in written for side in pair for name in side.scores or {}], 0.0)
    ended = f"{_BEHAVIOUR}stopped"

    def scores(side: Scored) -> dict[str, float]:
        # Whether one came to an end may be unknown.
        return {**zeros, **(side.scores or {}), **({} if side.stopped is None else {ended: float(side.stopped)})}

    changes = _score_changes([(scores(before), scores(after)) for before, after in written], [*zeros, ended])
    return {name: changes[key] for name in wording.BEHAVIOUR if (key := _BEHAVIOUR + name) in changes}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def require_value(value: float | None) -> float:
    """Return the score, or the likelihood, of a record that has one."""
    assert value is not None, "only records that have one are compared"
    return value


def _key(text: str) -> str:
    return normalise(text, casefold=True)
