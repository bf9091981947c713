"""What training did to records that compare answers, by category, and whether answers became longer by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from train.evaluate.predictions import Scored
from train.evaluate.preferences import agreement_of, gain_of, margin_of
from train.report import stats, wording
from train.report.part import Change, Estimate
from train.report.results import Pairs, Rules, estimate
from train.report.training_parts import PreferenceResult, Preferences

Compared = Sequence[tuple[Scored, Scored, float]]
"""A record under both models, and its gain."""
_BY_CHANCE = 0.5


def preferences(pairs: Pairs, split: Literal["validation", "test"], rules: Rules) -> Preferences | None:
    """Return how far the records of a split moved towards what people prefer; None where none compares answers."""
    gains = ((before, after, gain_of(before, after)) for before, after in pairs)
    compared = [(before, after, gain) for before, after, gain in gains if gain is not None]
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
    clusters = [before.cluster for before, *_ in compared]
    gains = [gain for *_, gain in compared]
    agreed = [agreement_of(gain) for gain in gains]
    draws: dict[str, Any] = {"seed": stats.seed_of("preferences", *seed), "replicates": rules.resamples}
    sides = [(own, other) for before, after, _ in compared
             if (own := margin_of(before)) is not None and (other := margin_of(after)) is not None]  # fmt: skip
    written = [(len(before.text or ""), len(after.text or ""), before.cluster)
               for before, after, _ in compared if before.is_generated and after.is_generated]  # fmt: skip
    return PreferenceResult(
        category=category,
        n=len(compared),
        num_clusters=len(set(clusters)),
        agreement=estimate(_mean(agreed), stats.mean_interval(agreed, clusters, **draws)),
        margin=_ratio(gains, [1.0] * len(gains), clusters, draws),
        likelier=Change(base=_mean([float(own > 0) for own, _ in sides]),
                        tuned=_mean([float(other > 0) for _, other in sides])) if sides else None,
        length=Change(base=_mean([own for own, *_ in written]),
                      tuned=_mean([other for _, other, _ in written])) if written else None,
        length_drift=_ratio(
            [float(other - own) for own, other, _ in written], [float(own) for own, *_ in written],
            [cluster for *_, cluster in written], draws,
        ) if sum(own for own, *_ in written) else None,
    )  # fmt: skip


def _ratio(
    numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[str], draws: Mapping[str, Any]
) -> Estimate | None:  # fmt: skip
    if not stats.can_resample(numerators, clusters):
        return None
    interval = stats.bootstrap(numerators, denominators, clusters, **draws)
    return estimate(math.fsum(numerators) / math.fsum(denominators), interval)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


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
