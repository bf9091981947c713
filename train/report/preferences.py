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

_FEWEST = 10
"""Clusters below which no interval of a gain is given."""


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
    rows = [[name, *_cells(groups[name])] for name in names] + [["ALL", *_cells(every)]]
    agreed, num_clusters = _agreement(every), len({each.sides[0].cluster for each in every})
    notes = [
        f"Training moved {percent(agreed.value)} of the {len(every)} {split} records that compare answers towards the "
        f"better one (95 % {percent(agreed.low)} to {percent(agreed.high)}); any change of weights moves about half."
    ] + [f"Too few records to judge ({num_clusters} of {rules.fewest})."] * (num_clusters < rules.fewest)
    heads = ("category", "n", "moved so", "95 %", "nats", "95 %", "likelier", "characters")
    table = ReportTable(part="preferences", title="What people prefer", heads=heads, rows=rows, left=(),
                        sentences=[" ".join(notes)], has_total=bool(names))  # fmt: skip
    return [table], _likelier(every)


def _cells(compared: Sequence[_Compared]) -> list[str]:
    agreed, parts = _agreement(compared), _parts(compared, [each.gains for each in compared])
    nats = ["-", "too few"]
    if len(parts) >= _FEWEST:
        fit = fit_two_way(parts)
        nats = [number(fit.mean, is_share=False, sign=True),
                spread(estimate(fit.mean, fit.interval()), is_share=False, sign=True)]  # fmt: skip
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
    agreed = [[agreement_of(gain) for gain in each.gains] for each in compared]
    shares, clusters = np.array(agreed).mean(axis=1).tolist(), [each.sides[0].cluster for each in compared]
    mean, parts = estimate(sum(shares) / len(shares), stats.mean_interval(shares, clusters)), _parts(compared, agreed)
    # Of several seeds what they change counts, too.
    return fit_two_way(parts).widened(mean, 0.0, 1.0) if len(agreed[0]) > 1 and len(parts) > 1 else mean


def _parts(compared: Sequence[_Compared], values: Sequence[Sequence[float]]) -> stats.Floats:
    """Return what each cluster adds to the mean of ``values``, [records, seeds]: [clusters, seeds]."""
    columns = np.array(values).T.tolist()
    return stats.cluster_parts(columns, [1.0] * len(values), [each.sides[0].cluster for each in compared])


def _likelier(compared: Sequence[_Compared]) -> Change | None:
    margins = [[margin_of(side) for side in each.sides] for each in compared]
    is_likelier = np.array([each for each in margins if None not in each], dtype=float) > 0
    if not is_likelier.size:
        return None
    return Change(base=float(is_likelier[:, 0].mean()), tuned=float(is_likelier[:, 1:].mean()))
