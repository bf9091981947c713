"""What training did to records that compare answers, by category, and whether answers became longer by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from train.evaluate.predictions import Scored, agreement_of, gain_of, margin_of
from train.report import stats, wording
from train.report.results import Pairs, Rules, estimate
from train.report.tables import Change, Estimate, ReportTable
from train.report.two_way import fit_two_way
from train.report.wording import number, percent, spread


class _Compared(NamedTuple):
    """A record under the base and under the model of each training seed, and its gain in each."""

    sides: Sequence[Scored]
    gains: Sequence[float]


def preferences(
    pairs: Pairs, split: str, rules: Rules, seeds: Sequence[Mapping[str, Scored]] = ()
) -> tuple[list[ReportTable], Change | None]:
    """Return how far the records of a split moved towards what people prefer; nothing where none compares answers.

    Beside the table it is the share of pairs of which the model finds the better answer likelier, before and after.
    Where the tuned model is the mean of several ``seeds``, their results by record, each is compared by itself.
    """
    groups = dict[str, list[_Compared]]()
    for before, tuned in pairs:
        afters = [seed[before.id] for seed in seeds] or [tuned]
        gains = [gain for after in afters if (gain := gain_of(before, after)) is not None]
        if len(gains) == len(afters):
            groups.setdefault(wording.category(before.category), []).append(_Compared([before, *afters], gains))
    if not groups:
        return [], None
    every = [each for name in sorted(groups) for each in groups[name]]
    names = sorted(groups) if len(groups) > 1 else []
    rows = [[name, *_cells(groups[name], rules, name)] for name in names] + [["ALL", *_cells(every, rules, "")]]
    agreed, num_clusters = _agreement(every), len({each.sides[0].cluster for each in every})
    notes = [
        f"Training moved {percent(agreed.value)} of the {len(every)} {split} records that compare answers towards the "
        f"better one (95 % {percent(agreed.low)} to {percent(agreed.high)}); any change of weights moves about half."
    ] + [f"Too few records to judge ({num_clusters} of {rules.fewest})."] * (num_clusters < rules.fewest)
    heads = ("category", "n", "moved so", "95 %", "nats", "95 %", "likelier", "characters")
    table = ReportTable(part="preferences", title="What people prefer", heads=heads, rows=rows, left=(),
                        sentences=[" ".join(notes)], has_total=bool(names))  # fmt: skip
    return [table], _likelier(every)


def _cells(compared: Sequence[_Compared], rules: Rules, *seed: str) -> list[str]:
    agreed, gains = _agreement(compared), np.array([each.gains for each in compared])
    clusters, means, nats = [each.sides[0].cluster for each in compared], gains.mean(axis=1).tolist(), ["-", "too few"]
    if stats.can_resample(means, clusters):
        draws = {"seed": stats.seed_of("preferences", *seed), "replicates": rules.resamples}
        interval = stats.bootstrap(means, [1.0] * len(means), clusters, **draws)
        margin = _widened(estimate(float(gains.mean()), interval), gains, clusters)
        nats = [number(margin.value, is_share=False, sign=True), spread(margin, is_share=False, sign=True)]
    likelier = _likelier(compared)
    lengths = [[len(side.text or "") for side in each.sides] for each in compared
               if all(side.is_generated for side in each.sides)]  # fmt: skip
    base, *tuned = np.array(lengths).mean(axis=0) if lengths else [0.0]
    return [
        str(len(compared)), number(agreed.value), spread(agreed), *nats,
        f"{number(likelier.base)} → {number(likelier.tuned)}" if likelier else "-",
        f"{base:,.0f} → {np.mean(tuned):,.0f}" if lengths else "-",
    ]  # fmt: skip


def _agreement(compared: Sequence[_Compared]) -> Estimate:
    agreed = np.array([[agreement_of(gain) for gain in each.gains] for each in compared])
    shares, clusters = agreed.mean(axis=1).tolist(), [each.sides[0].cluster for each in compared]
    mean = estimate(sum(shares) / len(shares), stats.mean_interval(shares, clusters))
    return _widened(mean, agreed, clusters, 0.0, 1.0)


def _widened(mean: Estimate, values: stats.Floats, clusters: Sequence[str], *bounds: float) -> Estimate:
    """Return ``mean`` with an interval that counts seeds, too: ``values`` are [records, seeds]."""
    if values.shape[1] < 2 or len(set(clusters)) < 2:
        return mean
    return fit_two_way(stats.cluster_parts(values.T.tolist(), [1.0] * len(values), clusters)).widened(mean, *bounds)


def _likelier(compared: Sequence[_Compared]) -> Change | None:
    margins = [[margin_of(side) for side in each.sides] for each in compared]
    is_likelier = np.array([each for each in margins if None not in each], dtype=float) > 0
    if not is_likelier.size:
        return None
    return Change(base=float(is_likelier[:, 0].mean()), tuned=float(is_likelier[:, 1:].mean()))
