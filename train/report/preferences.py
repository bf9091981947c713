"""What training did to records that compare answers, by category, and whether answers became longer by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from train.evaluate.predictions import Scored, gain_of, margin_of
from train.report import stats, wording
from train.report.results import Pairs, Rules, estimate
from train.report.tables import Change, Estimate, ReportTable
from train.report.training_parts import PreferenceResult, Preferences
from train.report.two_way import cluster_parts, fit_two_way

Compared = Sequence[tuple[Scored, Sequence[Scored], list[float]]]
"""A record under the base and under the model of each training seed, and its gain in each."""
_BY_CHANCE = 0.5


def preferences(
    pairs: Pairs, split: Literal["validation", "test"], rules: Rules, seeds: Sequence[Mapping[str, Scored]] = ()
) -> Preferences | None:
    """Return how far the records of a split moved towards what people prefer; None where none compares answers.

    Where the tuned model is the mean of several ``seeds``, their results by record, each is compared by itself.
    """
    compared: list[tuple[Scored, Sequence[Scored], list[float]]] = []
    for before, tuned in pairs:
        afters = [seed[before.id] for seed in seeds] or [tuned]
        gains = [gain for after in afters if (gain := gain_of(before, after)) is not None]
        compared += [(before, afters, gains)] if len(gains) == len(afters) else []
    if not compared:
        return None
    names = sorted({before.category for before, *_ in compared})
    total = _result("", compared, rules, split)
    return Preferences(
        split=split,
        total=total,
        categories=[_result(name, [c for c in compared if c[0].category == name], rules, split, name)
                    for name in names],
        sentence=_sentence(total, split, rules.fewest),
    )  # fmt: skip


def _result(category: str, compared: Compared, rules: Rules, *seed: str) -> PreferenceResult:
    clusters, gains = [before.cluster for before, *_ in compared], np.array([each for *_, each in compared]).T
    draws: dict[str, Any] = {"seed": stats.seed_of("preferences", *seed), "replicates": rules.resamples}
    agreed, ones = (np.sign(gains) + 1) / 2, [1.0] * len(compared)
    shares = agreed.mean(axis=0)
    share = estimate(float(shares.mean()), stats.mean_interval(shares.tolist(), clusters))
    margins = [[margin_of(one) for one in (before, *afters)] for before, afters, _ in compared]
    is_likelier = np.array([each for each in margins if None not in each], dtype=float).T > 0
    written = [(before, *afters) for before, afters, _ in compared
               if all(one.is_generated for one in (before, *afters))]  # fmt: skip
    lengths = np.array([[len(one.text or "") for one in each] for each in written], dtype=float).T
    likelier, length = (
        Change(base=float(each[0].mean()), tuned=float(each[1:].mean())) if each.size else None
        for each in (is_likelier, lengths)
    )
    return PreferenceResult(
        category=category, n=len(compared), num_clusters=len(set(clusters)),
        agreement=_widened(share, agreed, ones, clusters, 0.0, 1.0), margin=_ratio(gains, ones, clusters, draws),
        likelier=likelier, length=length, length_drift=_ratio(
            lengths[1:] - lengths[0], lengths[0].tolist(), [each[0].cluster for each in written], draws
        ) if length and length.base else None,
    )  # fmt: skip


def _ratio(
    numerators: stats.Floats, weights: Sequence[float], clusters: Sequence[str], draws: Mapping[str, Any]
) -> Estimate | None:  # fmt: skip
    means = numerators.mean(axis=0).tolist()
    if not stats.can_resample(means, clusters):
        return None
    found = estimate(sum(means) / sum(weights), stats.bootstrap(means, weights, clusters, **draws))
    return _widened(found, numerators, weights, clusters)


def _widened(
    found: Estimate, numerators: stats.Floats, weights: Sequence[float], clusters: Sequence[str], *bounds: float
) -> Estimate:
    # By what several seeds change: ``numerators`` are [seeds, records].
    if len(numerators) < 2 or len(set(clusters)) < 2:
        return found
    return fit_two_way(cluster_parts(numerators.tolist(), weights, clusters)).widened(found, *bounds)


def _sentence(total: PreferenceResult, split: str, fewest: int) -> str:
    few = f"; too few records to judge ({total.num_clusters} of {fewest})" if total.num_clusters < fewest else ""
    share, low, high = (wording.percent(value) for value in (
        total.agreement.value, total.agreement.low, total.agreement.high
    ))  # fmt: skip
    text = (
        f"Training moved {share} of the {total.n} {split} records that compare answers towards the better one "
        f"(95 % {low} to {high})"
    )
    if total.margin is not None:
        margin = wording.number(total.margin.value, is_share=False, sign=True)
        text += f", by {margin} nats (95 % {wording.spread(total.margin, is_share=False, sign=True)})"
    # Of single answers a model that likes all of them more moves as many as were liked.
    if total.likelier is not None and total.agreement.low <= _BY_CHANCE <= total.agreement.high:
        text += "; any change of the weights moves about half of them"
    text += f"{few}."
    if total.length is not None:
        drift = total.length_drift
        text += f" Answers went from {total.length.base:,.0f} to {total.length.tuned:,.0f} characters" + (
            f" ({wording.percent(drift.value, sign=True)}, 95 % {wording.percent(drift.low, sign=True)} to "
            f"{wording.percent(drift.high, sign=True)})." if drift else "."
        )  # fmt: skip
    return text


def preference_table(preferences: Preferences) -> ReportTable:
    """Return what training did to records that compare answers, by category."""
    several = [preferences.total] if len(preferences.categories) > 1 else []
    rows: list[list[str]] = []
    for result in [*preferences.categories, *several]:
        margin, likelier, drift = result.margin, result.likelier, result.length_drift
        rows.append([
            "ALL" if result is preferences.total else wording.category(result.category), str(result.n),
            wording.number(result.agreement.value), wording.spread(result.agreement),
            wording.number(margin.value, is_share=False, sign=True) if margin else "-",
            wording.spread(margin, is_share=False, sign=True) if margin else "too few",
            f"{wording.number(likelier.base)} → {wording.number(likelier.tuned)}" if likelier else "-",
            wording.percent(drift.value, sign=True) if drift else "-",
        ])  # fmt: skip
    heads = ("category", "n", "moved so", "95 %", "nats", "95 %", "likelier", "length")
    return ReportTable(part="preferences", title="What people prefer", heads=heads, rows=rows,
                       sentences=[preferences.sentence], left=())  # fmt: skip
