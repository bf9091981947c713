"""One report of several runs that differ in the training seed alone: verdicts that count both records and seeds.

Scores and likelihoods are means over the seeds. An interval is never narrower than that of the records for these means,
nor than what Student's t gives for the two-way model (`train.report.two_way`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from train.evaluate.predictions import Scored, outcome, pair
from train.report import stats, wording
from train.report.build import build_report, forgetting
from train.report.model import CategoryResult, Curve, Macro, Report, Run, SplitResult
from train.report.results import (
    Pairs,
    Rules,
    beside_trivial,
    compared_results,
    mean_with_verdict,
    rivals,
    with_verdict,
)  # fmt: skip
from train.report.stats import Floats
from train.report.training_parts import SeedSpread, SeedsSummary
from train.report.two_way import Parts, TwoWay, fit_two_way, in_step, judged, mean_parts, result_parts

Sides = Sequence[Sequence[Scored]]


def seeds_report(
    base: Sequence[Scored], sides: Sides, *, seeds: Sequence[int], selected: int, name: str, run: Run,
    default_metric: Collection[str], rules: Rules, remarks: Sequence[str] = (), curve: Curve | None = None,
) -> Report:  # fmt: skip
    """Return the report of ``sides``, the tuned results of each of two or more ``seeds``, against one base.

    The texts that it shows are those of side ``selected``, a run that is called ``name``, and so is ``curve``. Raises
    TrainError "E933 unpaired-results" where the sides hold other records, and those of `build_report`.
    """
    _, *ordered = in_step([base, *sides])
    mean = _mean_side(ordered, selected)
    remark = (
        "Answers, confusions, the loss curve, over-fitting, what is known by heart and the data map are those of "
        f"{name}; scores are means over {len(sides)} seeds."
    )
    report = build_report(
        base,
        mean,
        run=run,
        default_metric=default_metric,
        rules=rules,
        remarks=[*remarks, remark],
        sides=sides,
        curve=curve,
    )
    spreads, pairs = dict[str | None, TwoWay](), pair(base, mean)
    beside = rivals(pairs)
    splits = []
    for part in report.splits:
        both = _of_split(part, base, ordered)
        (against,) = compared_results([beside], part.split, (), rules)
        if against is not None:
            of_rivals = _of_split(against, [trivial for trivial, _ in beside], ordered)
            against = _with_seeds(against, of_rivals, rules)
        held = beside_trivial(_with_seeds(part, both, rules), against, pairs)
        rows = [_recounted(row, part.split, pairs, ordered) for row in held.categories]
        splits.append(held.model_copy(update={"categories": rows}))
        if part.split == report.headline:
            spreads = {category: components for category, components in both.items() if components is not None}
    general = [index for index, record in enumerate(base) if record.split == "general" and record.num_bytes]
    parts = result_parts(base, ordered, general, is_score=False, is_change=True).values
    components = fit_two_way(parts) if len(parts) > 1 else None
    widen = None if components is None else components.widened
    return report.model_copy(update={
        "splits": splits,
        "forgetting": forgetting([pairs[index] for index in general], rules, run, widen),
        "seeds": SeedsSummary(
            seeds=list(seeds), selected=name, sentence=_sentence(seeds, spreads),
            spreads=[
                SeedSpread(category=category or "", changes=list(each.by_seed), share=each.seed_share)
                for category, each in spreads.items()
            ],
        ),
    })  # fmt: skip


def _mean_side(sides: Sides, selected: int) -> list[Scored]:
    results = []
    for twins in zip(*sides, strict=True):
        names = set.intersection(*(set(twin.scores or {}) for twin in twins))
        scores = {name: math.fsum((twin.scores or {})[name] for twin in twins) / len(twins) for name in sorted(names)}
        nlls = [twin.nll for twin in twins if twin.nll is not None]
        nll = math.fsum(nlls) / len(twins) if len(nlls) == len(twins) else None
        # Of the worse answer no mean is taken: pairs are compared seed by seed.
        results.append(replace(twins[selected], scores=scores, nll=nll, rejected=None))
    return results


def _of_split(part: SplitResult, base: Sequence[Scored], sides: Sides) -> dict[str | None, TwoWay | None]:
    """The two-way model of each category of a split, and under None that of their mean; None with one cluster."""
    parts, scored = dict[str | None, Floats](), list[Parts]()
    for result in part.categories:
        mine = judged(base, part.split, result.category)
        changes = result_parts(base, sides, mine, is_score=result.higher_is_better, is_change=True)
        parts[result.category] = changes.values
        scored += [changes] if result.higher_is_better else []
    if part.macro is not None:
        parts[None] = mean_parts(scored)
    return {category: fit_two_way(each) if len(each) > 1 else None for category, each in parts.items()}


def _recounted(row: CategoryResult, split: str, pairs: Pairs, sides: Sides) -> CategoryResult:
    """Return ``row`` with no record counted as up that was right, which the mean is from .5 on, in few of the seeds."""
    mine = judged([before for before, _ in pairs], split, row.category)
    if not row.higher_is_better or {side[n].score for side in sides for n in mine} - {None, 0, 1}:
        return row
    kinds = [outcome(*(record.score for record in pairs[n])) for n in mine]
    return row.model_copy(update={"better": kinds.count("fixed"), "worse": kinds.count("broken")})


def _with_seeds(part: SplitResult, models: dict[str | None, TwoWay | None], rules: Rules) -> SplitResult:
    rows = [_widened(row, models[row.category], len(part.categories)) for row in part.categories]
    adjusted = stats.holm([row.p for row in rows])
    num = sum(row.n for row in rows if row.higher_is_better)
    mean = part.macro and _widened(part.macro, models[None])
    macro = mean and mean_with_verdict(mean, num, mean.p, rules)
    categories = [
        with_verdict(row.model_copy(update={"test": "two-way t"}), p, rules)
        for row, p in zip(rows, adjusted, strict=True)
    ]
    return part.model_copy(update={"categories": categories, "macro": macro})


Part = TypeVar("Part", CategoryResult, Macro)


def _widened(row: Part, components: TwoWay | None, num_tests: int = 1) -> Part:
    if components is None:
        return row
    bounds = (-1.0, 1.0) if isinstance(row, Macro) or row.higher_is_better else ()
    difference = components.widened(row.difference, *bounds)
    wider: dict[str, Any] = {"difference": difference, "p": max(row.p, components.p())}
    if isinstance(row, CategoryResult) and row.minimum_detectable_effect is not None:
        tail = stats.ALPHA / num_tests
        effect = stats.detectable_effect(components.half(tail), tail)
        wider["minimum_detectable_effect"] = effect and max(row.minimum_detectable_effect, effect)
    return row.model_copy(update=wider)


def _sentence(seeds: Sequence[int], spreads: Mapping[str | None, TwoWay]) -> str:
    each = ", ".join(
        f"{'the mean' if category is None else wording.category(category)} {100 * components.seed_share:.0f} %"
        for category, components in spreads.items()
    )
    return (
        f"Figures are means over {len(seeds)} training seeds ({', '.join(map(str, seeds))}). Intervals count records "
        f"and seeds. Of their variance seeds make up, as far as {len(seeds)} of them can tell: {each or 'unknown'}."
    )
