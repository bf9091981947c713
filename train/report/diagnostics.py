"""What a mean score may hide: fields that gain otherwise, over-fitting, memorised answers, and preferences."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.base.errors import TrainError, first_line
from train.base.storage import MOST_DOCUMENT, FileGuardError, read_file
from train.evaluate.predictions import VERBATIM, Scored, preference_score, reward_change, reward_margin
from train.report import stats
from train.report.results import Pairs, estimate, is_counted, require_value
from train.report.tables import Change, Estimate, ReportTable
from train.report.two_way import fit_two_way, mean_parts, parts_of
from train.report.wording import format_category, format_interval, format_number, format_percent

_MOST_DISTINCT = 8
"""Numbers of more kinds than this are told by their two halves."""
_FEWEST = 10
"""Clusters below which nothing is said of over-fitting, of memorised answers, and of nats gained."""


def field_gaps(
    models: Sequence[Pairs], split: str, seeds: Sequence[Mapping[str, Scored]] = ()
) -> list[str]:  # fmt: skip
    """Return for each of ``models`` which values of which fields gained otherwise than other records, "" without one.

    A value is tested, and named, where it has as many independent records as a verdict takes, and so have the others:
    no test record is told by a value of its own. P values are adjusted over all fields and models (Holm). Where a
    model is the mean of several training ``seeds``, their results by record, the spread of these counts, too.
    """
    tested, names = list[dict[str, float]](), list[str]()
    for pairs in models:
        mine = [p for p in pairs if is_counted(p[0], split) and None not in (p[0].score, p[1].score)]
        base = [before for before, _ in mine]
        sides = [base, *([[side[record.id] for record in base] for side in seeds] or [[after for _, after in mine]])]
        fields = sorted({name for record in base for name in record.slices or {}})
        names.append(", ".join(fields))
        tested.append({text: p for field in fields for text, p in _gaps(field, sides)})
    adjusted = iter(stats.holm_adjust([p for gaps in tested for p in gaps.values()]))
    significant = [[text for text in gaps if next(adjusted) < stats.ALPHA] for gaps in tested]
    return [
        fields and f"By field: {'; '.join(texts) or f'no value of {fields} is shown to gain otherwise'}."
        for fields, texts in zip(names, significant, strict=True)
    ]


def _gaps(field: str, sides: Sequence[Sequence[Scored]]) -> Iterator[tuple[str, float]]:
    """Yield how much more than other records of the same categories those of each value gained, and its p value.

    A source that holds the hard ones is no bias. Of two values each is the other's rest, and one says it all.
    ``sides`` are the base and each seed.
    """
    base, groups = sides[0], defaultdict[str, set[int]](set)
    values = [(record.slices or {}).get(field, ()) for record in base]
    flat = [item for items in values for item in items]
    numbers = [item for item in flat if not isinstance(item, str)]
    # As round as it can be: an exact one could be the number of a single test record.
    is_split = len(numbers) == len(flat) and len(set(flat)) > _MOST_DISTINCT
    middle = float(f"{np.median(numbers):.2g}") if is_split else 0.0
    for index, items in enumerate(values):
        for item in items:
            half = "over" if is_split and float(item) > middle else "up to"
            groups[f"{half} {middle:.15g}" if is_split else str(item)].add(index)
    for value, members in sorted(groups.items())[: 1 if len(groups) == 2 else None]:
        cells = defaultdict[str, tuple[list[int], list[int]]](lambda: ([], []))
        for index, record in enumerate(base):
            cells[record.category][index in members].append(index)
        # A category that only one of the two parts has says nothing of their difference.
        both = [cell for cell in cells.values() if all(cell)]
        remainder, rows = ([index for cell in both for index in cell[side]] for side in (0, 1))
        smaller = min(len({base[index].cluster for index in part}) for part in (remainder, rows))
        if smaller >= stats.MIN_CLUSTERS:
            parts = [parts_of(sides, part, is_score=True).changes() for cell in both for part in cell]
            model = fit_two_way(mean_parts(parts, [s * len(cell[1]) / len(rows) for cell in both for s in (-1, 1)]))
            # Where a part gained evenly nothing is spread: Wilson's bound of none holds those that would not.
            least = (stats.wilson(0, smaller).high / 2) ** 2
            model = model._replace(num_clusters=smaller, of_records=max(model.of_records, least))
            gap = estimate(model.mean, model.interval())
            yield (
                (
                    f"{field} = {value} gained {format_number(gap.value, sign=True)} beside others of the same "
                    f"categories (95 % {format_interval(gap, sign=True)}, n = {len(rows)} and {len(remainder)})"
                ),
                model.p(),
            )


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a run's `metrics.jsonl`, none where it is missing; a last line without its end is no event.

    Raises TrainError: E939 bad-metrics with the line.
    """
    try:
        lines = read_file(path, most=MOST_DOCUMENT).split(b"\n") if path.exists() else []
    except FileGuardError as error:
        raise TrainError("E939 bad-metrics", f"{path}: {error.strerror}") from error
    for at, line in enumerate(lines[:-1], start=1):
        try:
            event = json.loads(line.decode("utf-8"))
            if not isinstance(event, dict):
                raise TypeError("an event must be an object")
        except (ValueError, TypeError, RecursionError) as error:
            message = f"{path}:{at}: {type(error).__name__}: {first_line(error)}"
            raise TrainError("E939 bad-metrics", message) from error
        yield event


def overfitting(events: Sequence[Mapping[str, Any]]) -> str:
    """Return from which step on the loss of a category's validation records rose; "" where ``events`` cannot tell.

    The last evaluation is held against the one of the lowest loss, paired by record; p values are adjusted for the
    choice of that among all steps, and over the categories (Holm). Raises TrainError: E939 bad-metrics.
    """
    texts, p_values, few = list[str](), list[float](), list[str]()
    try:
        fits = {int(event["step"]): event["fit"] for event in events if event.get("event") == "eval" and "fit" in event}
        for name in sorted({name for fit in fits.values() for name in fit["validation"]}):
            steps = sorted(step for step, fit in fits.items() if name in fit["validation"])
            held_out = np.array([fits[step]["validation"][name]["loss"] for step in steps], dtype=float)
            clusters = list(map(str, fits[steps[-1]]["validation"][name]["cluster"]))
            best = int(held_out.mean(axis=1).argmin())
            rise = (held_out[-1] - held_out[best]).tolist()
            if len(set(clusters)) < _FEWEST:
                few.append(format_category(name))
                continue
            fit = fit_two_way(stats.cluster_parts([rise], [1.0] * len(rise), clusters))
            # The best of many is lower by chance alone.
            p_values.append(min(1.0, fit.p() * max(1, len(steps) - 1)))
            low, high = fit.interval()
            train = [np.mean(fits[step]["train"][name]["loss"]) for step in (steps[best], steps[-1])
                     if name in fits[step]["train"]]  # fmt: skip
            advice = f"end there (max_steps = {steps[best]}), or train fewer epochs"
            if len(train) < 2 or train[1] > train[0]:
                advice = "lower learning_rate, as the loss of training records did not fall"
            texts.append(
                f"{format_category(name)}: from step {steps[best]} to {steps[-1]} validation rose by {fit.mean:.2f} "
                f"nats a token (95 % {low:.2f} to {high:.2f}); next: {advice}"
            )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        message = f"an evaluation's fit: {type(error).__name__}: {first_line(error)}"
        raise TrainError("E939 bad-metrics", message) from error
    if not fits:
        return ""
    risen = [text for text, p in zip(texts, stats.holm_adjust(p_values), strict=True) if p < stats.ALPHA]
    left = f" Too few validation records to tell: {', '.join(few)}." if few else ""
    return f"Over-fitting: {'; '.join(risen) or 'no category is shown to get worse on validation'}.{left}"


def memory_of(base: Sequence[Scored], tuned: Sequence[Scored]) -> str:
    """Return how many training answers the tuned model continues word for word; "" where none was tried.

    Known by heart is what exceeds the base's share, and that of validation answers, which the model has never seen
    (Carlini et al. 2023, arXiv:2202.07646): said where the interval lies above those of both.
    """
    n, after = _verbatim(tuned, "train")
    num_control, control = _verbatim(tuned, "validation")
    before = _verbatim(base, "train")[1]
    if after is None or before is None:
        return ""
    is_more = control is not None and min(n, num_control) >= _FEWEST and after.low > max(before.high, control.high)
    shares = [
        f"{format_percent(share.value)} (95 % {format_percent(share.low)} to {format_percent(share.high)})"
        if share else "none" for share in (after, before, control)
    ]  # fmt: skip
    return (
        f"Training answers known by heart: {'some' if is_more else 'none beyond the control is shown'}. Of {n} the "
        f"tuned model continues {shares[0]} word for word, the base {shares[1]}; of {num_control} validation answers, "
        f"the control, {shares[2]}."
    )


def _verbatim(side: Sequence[Scored], split: str) -> tuple[int, Estimate | None]:
    tried = [(record.scores[VERBATIM], record.cluster) for record in side
             if record.split == split and record.scores and VERBATIM in record.scores]  # fmt: skip
    if not tried:
        return 0, None
    values, clusters = zip(*tried, strict=True)
    return len(tried), estimate(float(np.mean(values)), stats.mean_interval(values, clusters))


Twins = Sequence[Scored]
"""A record under the base, and under the model of each training seed."""


def preferences(
    pairs: Pairs, split: str, seeds: Sequence[Mapping[str, Scored]] = ()
) -> tuple[list[ReportTable], Change | None]:
    """Return how far the records of a split moved towards what people prefer; nothing where none compares answers.

    Beside the table it is the share of pairs of which the model finds the better answer likelier, before and after.
    Where the tuned model is the mean of several ``seeds``, their results by record, each is compared by itself.
    """
    groups = defaultdict[str, list[Twins]](list)
    for before, tuned in pairs:
        afters = [seed[before.id] for seed in seeds] or [tuned]
        if None not in [reward_change(before, after) for after in afters]:
            groups[format_category(before.category)].append([before, *afters])
    if not groups:
        return [], None
    everything = [twins for name in sorted(groups) for twins in groups[name]]
    names = sorted(groups) if len(groups) > 1 else []
    agreed, num_clusters = _agreement(everything), len({twins[0].cluster for twins in everything})
    sentence = (
        f"Training moved {format_percent(agreed.value)} of the {len(everything)} {split} records that compare answers "
        f"towards the better one (95 % {format_percent(agreed.low)} to {format_percent(agreed.high)}); any change of "
        "weights moves about half."
    )
    if num_clusters < stats.MIN_CLUSTERS:
        sentence += f" Too few records to judge ({num_clusters} of {stats.MIN_CLUSTERS})."
    table = ReportTable(
        part="preferences", title="What people prefer", left=(), has_total=bool(names), sentences=[sentence],
        heads=("category", "n", "moved so", "95 %", "nats", "rough 95 %", "likelier", "characters"),
        rows=[[name, *_preference_cells(groups[name])] for name in names] + [["ALL", *_preference_cells(everything)]],
    )  # fmt: skip
    return [table], _reward_accuracy(everything)


def _preference_cells(group: Sequence[Twins]) -> list[str]:
    agreed, nats = _agreement(group), ["-", "too few"]
    parts = _twin_parts(
        group, [[require_value(reward_change(twins[0], after)) for after in twins[1:]] for twins in group]
    )
    # Rough, as gains are skewed: of lognormal ones it holds the mean in 84 % at 10 clusters and in 88 % at 30.
    if len(parts) >= _FEWEST:
        fit = fit_two_way(parts)
        nats = [format_number(fit.mean, is_share=False, sign=True),
                format_interval(estimate(fit.mean, fit.interval()), is_share=False, sign=True)]  # fmt: skip
    likelier = _reward_accuracy(group)
    lengths = [[len(side.text or "") for side in twins] for twins in group if all(side.is_generated for side in twins)]
    base, *tuned = np.array(lengths).mean(axis=0) if lengths else [0.0]
    return [
        str(len(group)), format_number(agreed.value), format_interval(agreed), *nats,
        f"{format_number(likelier.base)} → {format_number(likelier.tuned)}" if likelier else "-",
        f"{base:,.0f} → {np.mean(tuned):,.0f}" if lengths else "-",
    ]  # fmt: skip


def _agreement(group: Sequence[Twins]) -> Estimate:
    agreed = [
        [preference_score(require_value(reward_change(twins[0], after))) for after in twins[1:]] for twins in group
    ]
    shares, clusters = np.array(agreed).mean(axis=1).tolist(), [twins[0].cluster for twins in group]
    mean, parts = estimate(sum(shares) / len(shares), stats.mean_interval(shares, clusters)), _twin_parts(group, agreed)
    # Several seeds differ, too.
    return fit_two_way(parts).widened(mean, 0.0, 1.0) if len(agreed[0]) > 1 and len(parts) > 1 else mean


def _twin_parts(group: Sequence[Twins], values: Sequence[Sequence[float]]) -> stats.Floats:
    """Return what each cluster adds to the mean of ``values``, [records, seeds]: [clusters, seeds]."""
    columns = np.array(values).T.tolist()
    return stats.cluster_parts(columns, [1.0] * len(values), [twins[0].cluster for twins in group])


def _reward_accuracy(group: Sequence[Twins]) -> Change | None:
    # The share of pairs whose chosen answer became likelier than the rejected one: the field's reward accuracy.
    margins = [[reward_margin(side) for side in twins] for twins in group]
    is_likelier = np.array([each for each in margins if None not in each], dtype=float) > 0
    if not is_likelier.size:
        return None
    return Change(base=float(is_likelier[:, 0].mean()), tuned=float(is_likelier[:, 1:].mean()))
