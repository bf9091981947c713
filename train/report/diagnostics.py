"""What a good mean may hide: a part of the records that gains less, over-fitting, and answers known by heart.

Each is one sentence of the report, with the numbers behind it.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from train.base.errors import TrainError, first_line
from train.base.file_guard import MOST_DOCUMENT, FileGuardError, read_file
from train.evaluate.predictions import VERBATIM, Scored
from train.report import stats, wording
from train.report.model import Estimate, Fall, FieldGap, Memorised, OverFitting, Slices
from train.report.results import Pairs, Rules, estimate, is_judged
from train.report.two_way import fit_two_way, mean_parts, result_parts

_MOST_DISTINCT = 8
"""Numbers of more kinds than this are told by quarters."""
_FEWEST = 10
"""Clusters below which no fall is told."""


def field_gaps(
    models: Sequence[Pairs], split: str, rules: Rules, seeds: Sequence[Mapping[str, Scored]] = ()
) -> list[Slices | None]:  # fmt: skip
    """Return for each of ``models`` which values of which fields gained otherwise than other records, None without one.

    Gains are held against those of other records of the same categories, since a source that holds the hard ones is no
    bias; p values are adjusted over all fields and models (Holm). A value is tested, and named, where it has as many
    independent records as a verdict takes, and so have the others: no test record is told by a value of its own. Where
    a model is the mean of several training ``seeds``, what these scored in ``split`` counts, too.
    """
    scored = [[p for p in pairs if is_judged(p[0], split) and None not in (p[0].score, p[1].score)] for pairs in models]
    tested = [list(_gaps_of(pairs, rules, seeds)) for pairs in scored]
    adjusted = iter(stats.holm([gap.p_adjusted for gaps in tested for gap in gaps]))
    fields = [list(dict.fromkeys(name for before, _ in pairs for name in before.slices or {})) for pairs in scored]
    return [
        _slices(names, [_with_p(gap, next(adjusted)) for gap in gaps], rules) if names else None
        for names, gaps in zip(fields, tested, strict=True)
    ]


def _with_p(gap: FieldGap, p: float) -> FieldGap:
    return gap.model_copy(update={"p_adjusted": p, "is_significant": p < stats.ALPHA})


def _gaps_of(pairs: Pairs, rules: Rules, seeds: Sequence[Mapping[str, Scored]]) -> Iterator[FieldGap]:
    base = [before for before, _ in pairs]
    sides = [[side[before.id] for before in base] for side in seeds] or [[after for _, after in pairs]]
    for field in dict.fromkeys(name for before in base for name in before.slices or {}):
        gaps, groups = list[FieldGap](), _groups([(before.slices or {}).get(field, ()) for before in base])
        for value, members in groups.items():
            cells: dict[str, tuple[list[int], list[int]]] = {}
            for index, before in enumerate(base):
                cells.setdefault(before.category, ([], []))[index in members].append(index)
            # A category that only one of the two parts has says nothing of their difference.
            both = [cell for cell in cells.values() if all(cell)]
            others, own = ([index for cell in both for index in cell[side]] for side in (0, 1))
            smaller = min(len({base[index].cluster for index in part}) for part in (others, own))
            if smaller < rules.fewest:
                continue
            parts = [result_parts(base, sides, part, is_score=True, is_change=True) for cell in both for part in cell]
            shares = [sign * len(cell[1]) / len(own) for cell in both for sign in (1, -1)]
            model = fit_two_way(mean_parts(parts, shares))
            # Where a part gained evenly nothing is spread: Wilson's bound of none holds those that would not.
            least = (stats.wilson(0, smaller).high / 2) ** 2
            model = model._replace(num_clusters=smaller, of_records=max(model.of_records, least))
            mean = Estimate(value=model.mean, low=model.mean, high=model.mean)
            gaps.append(FieldGap(
                field=field, value=value, n=len(own), num_others=len(others), p_adjusted=model.p(),
                difference=model.widened(mean, -1.0, 1.0), is_significant=False,
            ))  # fmt: skip
        # Of two values each is the other's rest: one says it all.
        yield from gaps if len(groups) > 2 or len(gaps) < 2 else [max(gaps, key=lambda gap: gap.difference.value)]


def _groups(values: Sequence[Sequence[str | float]]) -> dict[str, set[int]]:
    """Return the indices of the records by value, of several by each; many different numbers by their quarters."""
    flat = [item for items in values for item in items]
    edges: list[float] = []
    if flat and len(set(flat)) > _MOST_DISTINCT and not any(isinstance(item, str) for item in flat):
        quarters = np.quantile(np.array(flat, dtype=np.float64), (0.25, 0.5, 0.75))
        # As round as they can be: an exact one could be the number of a single test record.
        rounded = (sorted({float(f"{edge:.{digits}g}") for edge in quarters}) for digits in range(2, 16))
        edges = max(rounded, key=len)
    texts = [f"{edge:.15g}" for edge in edges]
    inner = [f"{low} to {high}" for low, high in pairwise(texts)]
    names = [f"up to {texts[0]}", *inner, f"over {texts[-1]}"] if edges else []
    groups: dict[str, set[int]] = {}
    for index, items in enumerate(values):
        for item in items:
            name = names[bisect_left(edges, float(item))] if edges else str(item)
            groups.setdefault(name, set()).add(index)
    return groups


def _slices(fields: Sequence[str], gaps: Sequence[FieldGap], rules: Rules) -> Slices:
    significant = sorted((gap for gap in gaps if gap.is_significant), key=lambda gap: -gap.difference.value)
    each = [
        f"{gap.field} = {gap.value} improved {wording.number(abs(gap.difference.value))} "
        f"{'less' if gap.difference.value > 0 else 'more'} than other records of the same categories (95 % of the "
        f"difference {wording.spread(gap.difference, sign=True)}, {wording.p_value(gap.p_adjusted)}, n = {gap.n} and "
        f"{gap.num_others})"
        for gap in significant
    ]
    names = ", ".join(fields)
    if not gaps:
        each = [f"no value of {names} has {rules.fewest} independent records beside as many others"]
    return Slices(
        gaps=list(gaps), sentence=f"By field: {'; '.join(each) or f'no value of {names} is shown to gain otherwise'}."
    )


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a run's `metrics.jsonl`, none where it is missing; a last line without its end is no event.

    Raises TrainError: E939 bad-metrics with the line.
    """
    try:
        lines = read_file(path, most=MOST_DOCUMENT).split(b"\n") if path.exists() else []
    except FileGuardError as error:
        raise TrainError("E939 bad-metrics", f"{path}: {error}", error.hint) from error
    for number, line in enumerate(lines[:-1], start=1):
        try:
            event = json.loads(line.decode("utf-8"))
            if not isinstance(event, dict):
                raise TypeError("an event must be an object")
        except (ValueError, TypeError, RecursionError) as error:
            message = f"{path}:{number}: {type(error).__name__}: {first_line(error)}"
            raise TrainError("E939 bad-metrics", message) from error
        yield event


def overfitting(events: Sequence[Mapping[str, Any]]) -> OverFitting | None:
    """Return from which step on the validation records of a category got worse, by score or by loss in nats a token;
    None where the evaluations in ``events`` answered no training records.

    The last evaluation is held against the best one, paired by record; p values are adjusted for the choice of the best
    among all steps, and by Holm over categories and measures. Raises TrainError: E939 bad-metrics.
    """
    try:
        fits = {int(event["step"]): event["fit"] for event in events if event.get("event") == "eval" and "fit" in event}
        names = sorted({name for fit in fits.values() for name in fit["validation"]})
        tested = [
            fall for name in names for measure in ("score", "loss")
            if (fall := _fall(name, measure, {step: fit for step, fit in fits.items() if name in fit["validation"]}))
        ]  # fmt: skip
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        message = f"an evaluation's fit: {type(error).__name__}: {first_line(error)}"
        raise TrainError("E939 bad-metrics", message) from error
    if not fits:
        return None
    adjusted = zip(tested, stats.holm([fall.p_adjusted for fall in tested]), strict=True)
    falls = [fall.model_copy(update={"p_adjusted": p}) for fall, p in adjusted
             if p < stats.ALPHA and fall.fall.low > 0]  # fmt: skip
    # By score where both show it.
    falls = list({fall.category: fall for fall in reversed(falls)}.values())[::-1]
    each = "; ".join(map(_fall_text, falls)) or "no category is shown to fall on validation"
    few = sorted(set(names) - {fall.category for fall in tested})
    left = f" Too few validation records to tell: {', '.join(map(wording.category, few))}." if few else ""
    return OverFitting(falls=falls, sentence=f"Over-fitting: {each}.{left}")


def _fall(category: str, measure: str, fits: Mapping[int, Mapping[str, Any]]) -> Fall | None:
    """Return how far a category fell after its best step, with a p value for itself; None where too little is known."""
    steps = sorted(fits)
    held_out, train = ([fits[step][split].get(category) for step in steps] for split in ("validation", "train"))
    clusters = list(map(str, held_out[-1]["cluster"]))
    if len(set(clusters)) < _FEWEST or any(None in part[measure] for part in held_out):
        return None
    sign = 1.0 if measure == "score" else -1.0
    values = sign * np.array([[float(value) for value in part[measure]] for part in held_out])
    best = int(values.mean(axis=1).argmax())
    change = values[best] - values[-1]
    seed = stats.seed_of("fit", category)
    # The best of many is higher by chance alone.
    p = stats.sign_flip(stats.sums_by_cluster(clusters, change.tolist())[:, 0].tolist(), seed=seed) * (len(steps) - 1)
    interval = stats.bootstrap(change.tolist(), [1.0] * len(change), clusters, seed=seed)
    means = [sign * float(np.mean(part[measure])) for part in train if part and None not in part[measure]]
    return Fall(
        category=category, measure="score" if measure == "score" else "loss", step=steps[best], last=steps[-1],
        fall=estimate(float(change.mean()), interval), p_adjusted=min(1.0, p) if len(steps) > 1 else 1.0,
        has_training_risen=len(means) == len(steps) and means[-1] >= means[best],
    )  # fmt: skip


def _fall_text(fall: Fall) -> str:
    is_share = fall.measure == "score"
    drop, span = wording.number(fall.fall.value, is_share=is_share), wording.spread(fall.fall, is_share=is_share)
    rise, advice = "while training rose", f"end there (max_steps = {fall.step}), or train fewer epochs"
    if not fall.has_training_risen:
        rise, advice = "and training did not rise, so that is no over-fitting", "lower learning_rate"
    return (
        f"{wording.category(fall.category)}: from step {fall.step} to {fall.last} validation got worse by {drop} "
        f"{'of score' if is_share else 'nats a token'} (95 % {span}, {wording.p_value(fall.p_adjusted)}), {rise}; "
        f"next: {advice}"
    )


def memory_of(base: Sequence[Scored], tuned: Sequence[Scored]) -> Memorised | None:
    """Return how many training answers the tuned model continues word for word; None where none was tried.

    Those are known by heart that exceed what the base continues of them, and what the tuned model continues of
    validation answers, which it has never seen (Carlini et al. 2023, arXiv:2202.07646).
    """

    def tried(side: Sequence[Scored], split: str) -> dict[str, tuple[float, str]]:
        mine = (record for record in side if record.split == split and VERBATIM in (record.scores or {}))
        return {record.id: ((record.scores or {})[VERBATIM], record.cluster) for record in mine}

    def rate(records: Mapping[str, tuple[float, str]]) -> Estimate:
        values, clusters = zip(*records.values(), strict=True)
        return estimate(float(np.mean(values)), stats.mean_interval(values, clusters))

    before, after, control = tried(base, "train"), tried(tuned, "train"), tried(tuned, "validation")
    if not before or not after:
        return None
    of_base, of_tuned, of_control = rate(before), rate(after), rate(control) if control else None
    clusters = [cluster for _, cluster in after.values()]
    gained = stats.difference_interval(
        [before[name][0] for name in after], [value for value, _ in after.values()], clusters
    )
    low, excess = gained.low, of_tuned.value - of_base.value
    if of_control is not None:
        # The distances of both intervals, added as variances are: Newcombe 1998, Statistics in Medicine 17:873.
        beyond = of_tuned.value - of_control.value
        least = beyond - math.hypot(of_tuned.value - of_tuned.low, of_control.high - of_control.value)
        low, excess = min((low, excess), (least, beyond))
    is_significant = of_control is not None and min(len(after), len(control)) >= _FEWEST and low > 0
    percent = wording.percent
    share = (
        f"about {percent(excess)}, at least {percent(low)}" if is_significant else "none beyond the control is shown"
    )
    others = f"; of {len(control)} validation answers, the control, {percent(of_control.value)}" if of_control else ""
    return Memorised(
        n=len(after), tuned=of_tuned, num_control=len(control), control=of_control, excess=excess,
        is_significant=is_significant,
        sentence=f"Training answers known by heart: {share}. Of {len(after)} the tuned model continues "
        f"{percent(of_tuned.value)} word for word, the base {percent(of_base.value)}{others}.",
    )  # fmt: skip
