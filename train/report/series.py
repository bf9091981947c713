"""What several runs say together: one report over training seeds, choices of settings, and stages.

Scores and likelihoods of seeds are means over them. An interval is never narrower than that of the records for these
means, nor than what Student's t gives for the two-way model (`train.report.two_way`). The best of twenty equal choices
lies above the others by luck, so all pairs of choices are told apart together, with the spread of seeds pooled over
them and a tail that all pairs share (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from train.evaluate.predictions import Scored, outcome, pair
from train.report import stats, wording
from train.report.build import build_report, forgetting
from train.report.model import CategoryResult, Change, Curve, Estimate, Macro, Report, Run, SplitResult
from train.report.part_tables import finished, settings_text
from train.report.results import Pairs, Rules, beside_trivial, compared_results, mean_with_verdict, rivals, with_verdict
from train.report.training_parts import SeedSpread, SeedsSummary, StageResult, Stages, Sweep, Trial
from train.report.two_way import (
    Parts,
    TwoWay,
    fit_contrast,
    fit_two_way,
    in_step,
    judged,
    mean_if_known,
    mean_parts,
    measure,
    result_parts,
)
from train.report.wording import number

Side = Sequence[Scored]


def seeds_report(
    base: Side, sides: Sequence[Side], *, seeds: Sequence[int], selected: int, name: str, run: Run,
    default_metric: Collection[str], rules: Rules, remarks: Sequence[str] = (), curve: Curve | None = None,
) -> Report:  # fmt: skip
    """Return the report of ``sides``, the tuned results of each of two or more ``seeds``, against one base.

    The texts that it shows are those of side ``selected``, a run that is called ``name``, and so is ``curve``. Raises
    TrainError "E933 unpaired-results" where the sides hold other records, and those of `build_report`.
    """
    _, *ordered = in_step([base, *sides])
    remark = (
        f"Answers, the loss curve, over-fitting, what is known by heart and the data map are those of {name}; scores "
        f"are means over {len(sides)} seeds."
    )
    mean = _mean_side(ordered, selected)
    report = build_report(
        base, mean, run=run, default_metric=default_metric, rules=rules, remarks=[*remarks, remark], sides=sides,
        curve=curve,
    )  # fmt: skip
    pairs = pair(base, mean)
    rival_pairs, splits, spreads = rivals(pairs), list[SplitResult](), dict[str, TwoWay]()
    for part in report.splits:
        both = _models_of(part, base, ordered)
        (against,) = compared_results([rival_pairs], part.split, (), rules)
        if against is not None:
            against = _with_seeds(against, _models_of(against, [trivial for trivial, _ in rival_pairs], ordered), rules)
        held = beside_trivial(_with_seeds(part, both, rules), against)
        rows = [_recounted(row, part.split, pairs, ordered) for row in held.categories]
        splits.append(held.model_copy(update={"categories": rows}))
        if part.split == report.headline:
            spreads = both
    general = [index for index, record in enumerate(base) if record.split == "general" and record.num_bytes]
    parts = result_parts(base, ordered, general, is_score=False, is_change=True).values
    widen = fit_two_way(parts).widened if len(parts) > 1 else None
    each = [
        SeedSpread(category=category, changes=list(model.by_seed), share=model.seed_share)
        for category, model in spreads.items()
    ]
    return report.model_copy(update={
        "splits": splits, "forgetting": forgetting([pairs[index] for index in general], rules, run, widen),
        "seeds": SeedsSummary(seeds=list(seeds), selected=name, spreads=each, sentence=_seeds_sentence(seeds, each)),
    })  # fmt: skip


def _mean_side(sides: Sequence[Side], selected: int) -> list[Scored]:
    results = []
    for twins in zip(*sides, strict=True):
        names = set.intersection(*(set(twin.scores or {}) for twin in twins))
        scores = {name: math.fsum((twin.scores or {})[name] for twin in twins) / len(twins) for name in sorted(names)}
        nlls = [twin.nll for twin in twins if twin.nll is not None]
        nll = math.fsum(nlls) / len(twins) if len(nlls) == len(twins) else None
        # Of the worse answer no mean is taken: pairs are compared seed by seed.
        results.append(replace(twins[selected], scores=scores, nll=nll, rejected=None))
    return results


def _models_of(part: SplitResult, base: Side, sides: Sequence[Side]) -> dict[str, TwoWay]:
    """Return the two-way model of each category of a split, and of their mean, which has no name."""
    parts, scored = dict[str, stats.Floats](), list[Parts]()
    for result in part.categories:
        mine = judged(base, part.split, result.category)
        changes = result_parts(base, sides, mine, is_score=result.higher_is_better, is_change=True)
        parts[result.category] = changes.values
        scored += [changes] if result.higher_is_better else []
    if part.macro is not None:
        parts[""] = mean_parts(scored)
    return {category: fit_two_way(each) for category, each in parts.items() if len(each) > 1}


def _recounted(row: CategoryResult, split: str, pairs: Pairs, sides: Sequence[Side]) -> CategoryResult:
    """Return ``row`` with no record counted as up that was right, which the mean is from .5 on, in few of the seeds."""
    mine = judged([before for before, _ in pairs], split, row.category)
    if not row.higher_is_better or {side[n].score for side in sides for n in mine} - {None, 0, 1}:
        return row
    kinds = [outcome(*(record.score for record in pairs[n])) for n in mine]
    return row.model_copy(update={"better": kinds.count("fixed"), "worse": kinds.count("broken")})


def _with_seeds(part: SplitResult, models: Mapping[str, TwoWay], rules: Rules) -> SplitResult:
    rows = [_widened(row, models.get(row.category), len(part.categories)) for row in part.categories]
    adjusted = stats.holm([row.p for row in rows])
    num = sum(row.n for row in rows if row.higher_is_better)
    mean = part.macro and _widened(part.macro, models.get(""))
    categories = [
        with_verdict(row.model_copy(update={"test": "two-way t"}), p, rules)
        for row, p in zip(rows, adjusted, strict=True)
    ]
    macro = mean and mean_with_verdict(mean, num, mean.p, rules)
    return part.model_copy(update={"categories": categories, "macro": macro})


Row = TypeVar("Row", CategoryResult, Macro)


def _widened(row: Row, model: TwoWay | None, num_tests: int = 1) -> Row:
    if model is None:
        return row
    bounds = (-1.0, 1.0) if isinstance(row, Macro) or row.higher_is_better else ()
    wider: dict[str, Any] = {"difference": model.widened(row.difference, *bounds), "p": max(row.p, model.p())}
    if isinstance(row, CategoryResult) and row.minimum_detectable_effect is not None:
        tail = stats.ALPHA / num_tests
        effect = stats.detectable_effect(model.half(tail), tail)
        wider["minimum_detectable_effect"] = effect and max(row.minimum_detectable_effect, effect)
    return row.model_copy(update=wider)


def _seeds_sentence(seeds: Sequence[int], spreads: Sequence[SeedSpread]) -> str:
    each = ", ".join(f"{_name(part.category)} {100 * part.share:.0f} %" for part in spreads)
    return (
        f"Figures are means over {len(seeds)} training seeds ({', '.join(map(str, seeds))}). Intervals count records "
        f"and seeds. Of their variance seeds make up, as far as {len(seeds)} of them can tell: {each or 'unknown'}."
    )


def _name(category: str) -> str:
    return wording.category(category) if category else "the mean"


def pool(
    reports: Mapping[str, Report], sides: Sequence[tuple[Side, Side]], name: str
) -> tuple[Report, str, str]:  # fmt: skip
    """Return one report, called ``name``, of runs that differ in the seed, the best run, and what is said of taking it.

    Of one run it is its own. ``sides`` are base and tuned of each of ``reports``, which are by the names of the runs.
    """
    exam = Exam([[tuned] for _, tuned in sides])
    selected = list(reports)[exam.best]
    best = reports[selected]
    if len(reports) == 1:
        return best, selected, exam.advice
    report = seeds_report(
        sides[0][0], [tuned for _, tuned in sides], seeds=[int(each.run.seed or 0) for each in reports.values()],
        selected=exam.best, name=selected, run=best.run.model_copy(update={"id": name}),
        default_metric=best.default_metric, rules=Rules(best.margin, best.fewest, best.resamples), remarks=best.remarks,
        curve=best.curve,
    )  # fmt: skip
    own = {part: getattr(best, part) for part in ("fits", "memory", "data_map")}
    own["notes"] = [*report.notes, *filter(None, [exam.advice])]
    return report.model_copy(update=own), selected, exam.advice


class Exam:
    """What choices, of settings or of a seed, are chosen by: the mean of the validation categories that all of them
    scored, and among equals, or without such a category, fewer bits per byte.

    Each of ``choices`` has the results of the same number of seeds. Without a validation record all are alike. Raises
    TrainError "E933 unpaired-results" where they hold other records.
    """

    def __init__(self, choices: Sequence[Sequence[Side]]) -> None:
        sides = [side for choice in choices for side in choice]
        categories = measure(sides, "validation")
        scored = [each for each in categories if each.scores.names]
        self.left_out = [wording.category(each.category) for each in categories if each.unscored]
        self.is_score, self.trivial = bool(scored), mean_if_known([each.trivial for each in scored])
        means = [mean_parts(parts) if parts else np.zeros((1, len(sides))) for parts in (
            [each.scores for each in scored], [each.bits for each in categories if each.bits.names]
        )]  # fmt: skip
        self.parts = means[0] if scored else -means[1]
        """[clusters, choices x seeds], higher being better."""
        # Rounded, so that equal scores are equal whichever records they come from.
        scores, bits = (each.mean(axis=0).reshape(len(choices), -1).mean(axis=1).round(12) for each in means)
        self.scores, self.bits = scores.tolist(), bits.tolist()
        self.best = int(np.lexsort((bits, -scores))[0])
        """The first among equals."""
        is_beaten = self.trivial is not None and scores.max() <= self.trivial + 1e-9
        self.advice = f"No choice beats the trivial answer ({number(self.trivial)}): take none." if is_beaten else ""


def behind(best: Sequence[Side], others: Sequence[Sequence[Side]]) -> list[Estimate | None]:
    """Return by how much each of ``others`` scored less than ``best`` by what an `Exam` chooses by, None for too few.

    Of one seed nobody knows what another would change, and all are None. Raises TrainError "E933 unpaired-results".
    """
    exam, choices = Exam([best, *others]), 1 + len(others)
    if len(best) < 2 or len(exam.parts) < 2:
        return [None] * len(others)
    parts = exam.parts.reshape(-1, choices, len(best))
    return [_lag(parts, other, is_score=exam.is_score) for other in range(1, choices)]


def _lag(parts: stats.Floats, other: int, *, is_score: bool) -> Estimate:
    """By how much a choice lies behind the first of ``parts``, [clusters, choices, seeds]."""
    num, choices, _ = parts.shape
    each = np.eye(choices)
    weights, two = each[0] - each[other], [0, other]
    model, own = fit_contrast(parts, weights), fit_contrast(parts[:, two], weights[two])
    # About zero and not about their mean: of scores of 0 and 1 the spread is small where the mean lies far off by luck.
    # Seeds of a choice that goes astray lie further apart than those of the others.
    model = model._replace(
        of_records=model.of_records + model.mean**2 / (num - 1),
        between_seeds=max(model.between_seeds, own.between_seeds),
    )
    # Which of a pair lies ahead is seen in the data, so that a pair counts twice.
    half = model.half(stats.ALPHA / (choices * (choices - 1)))
    if is_score and not model.of_records:
        # Where no record differs nothing is spread: Wilson's bound of none holds those that would.
        half = max(half, stats.wilson(0, num).high)
    bound = 1.0 if is_score else np.inf
    return Estimate(value=model.mean, low=max(-bound, model.mean - half), high=min(bound, model.mean + half))


class TrialResult(NamedTuple):
    """A trial of a sweep: what it changes, its steps, and what each seed scored, nothing where one failed."""

    changes: Mapping[str, Any]
    steps: int
    sides: Sequence[Side]


def choose(choices: Mapping[str, TrialResult]) -> TrialResult:
    """Return the choice that validation chooses."""
    trained = [choice for choice in choices.values() if choice.sides]
    return trained[Exam([choice.sides for choice in trained]).best]


def sweep_report(report: Report, choices: Mapping[str, TrialResult], seeds: Sequence[int]) -> tuple[Report, str]:
    """Return the report of the winner's runs on fresh ``seeds`` with the sweep, and what is said of taking it."""
    trained = {name: choice for name, choice in choices.items() if choice.sides}
    exam = Exam([choice.sides for choice in trained.values()])
    best = list(trained)[exam.best]
    others = [name for name in trained if name != best]
    lags = dict(zip(others, behind(trained[best].sides, [trained[name].sides for name in others]), strict=True))
    measured = dict(zip(trained, zip(exam.scores, exam.bits, strict=True), strict=True))
    tried = [
        Trial(name=name, changes=dict(choice.changes), steps=choice.steps, bits=measured[name][1],
              score=measured[name][0] if exam.is_score else None, behind=lags.get(name)) if name in measured
        else Trial(name=name, changes=dict(choice.changes), steps=0, score=None, note="ended with an error")
        for name, choice in choices.items()
    ]  # fmt: skip
    report = without_choosing(report)
    sentence = _sweep_sentence(tried, trained[best].changes, seeds, report.headline == "test", exam)
    sweep = Sweep(chosen=best, trials=tried, seeds=list(seeds), sentence=sentence)
    return report.model_copy(update={"sweep": sweep}), exam.advice


def _sweep_sentence(
    trials: Sequence[Trial], best: Mapping[str, Any], seeds: Sequence[int], is_tested: bool, exam: Exam
) -> str:
    by = (
        " by bits per byte, as nothing there is scored" if not exam.is_score
        else f", {', '.join(exam.left_out)} left out as not scored" if exam.left_out else ""
    )  # fmt: skip
    each = [f"Of {len(trials)} choices {settings_text(best)} was the best on validation{by}."]
    if close := sum(trial.behind is not None and trial.behind.low <= 0 for trial in trials):
        each.append(f"{close} of the others cannot be told from it.")
    if exam.trivial is not None:
        each.append(exam.advice or f"The trivial answer has {number(exam.trivial)}.")
    if lost := sum(bool(trial.note) for trial in trials):
        each.append(f"{lost} ended with an error.")
    if any(trial.behind for trial in trials):
        each.append(f"The intervals count records and {len(seeds)} seeds a choice, and hold for all pairs together.")
    elif len(seeds) < 2:
        each.append("One seed was trained of each, so none can be told from another.")
    measured = (
        "the test split was measured once, after the choice, on these runs" if is_tested
        else "no test record was measured, and of validation scores, which chose, there is no verdict"
    )  # fmt: skip
    fresh = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
    each.append(f"It was trained again with {fresh}, which no choice has seen; {measured}.")
    return " ".join(each)


def without_choosing(report: Report) -> Report:
    """Return the report of a sweep's winner without verdicts on validation, whose records chose it."""
    splits = [_unjudged(part) if part.split == "validation" else part for part in report.splits]
    if report.headline == "validation":
        note = f"No test record is compared: the validation split (n = {report.main().n}) chose the settings, so its "
        note += "scores flatter, and there is no verdict on them. Slices are left out."
        report = report.model_copy(update={"notes": [note, *report.notes[1:]], "slices": None})
    return finished(report.model_copy(update={"splits": splits}))


def _unjudged(part: SplitResult) -> SplitResult:
    unknown = {"verdict": "inconclusive", "reason": "chose"}
    more = {"is_no_worse": False, "note": "these records chose the settings, so there is no verdict"}
    rows = [row.model_copy(update=unknown | more) for row in part.categories]
    return part.model_copy(update={"categories": rows, "macro": part.macro and part.macro.model_copy(update=unknown)})


@dataclass(frozen=True)
class StageFacts:
    """What a report of one stage does not know: its data, and what they share with the test set."""

    name: str
    data: str
    num_left_out: int
    num_overlapping: int
    is_text: bool = False
    """All of it is raw text, of which every objective trains all tokens, as "domain" does."""


def stages_of(facts: Sequence[StageFacts], num_records: Sequence[int], reports: Sequence[Report]) -> Stages:
    """Return the stages of ``reports``, each of which has the model of the one before as its base."""
    first = reports[0].main()
    # Of the cells of a table one looks changed by chance alone, so all of its marks are adjusted together.
    adjusted = iter(stats.holm([row.p for report in reports for row in report.main().categories]))
    results = []
    for fact, num, report in zip(facts, num_records, reports, strict=True):
        main, rules = report.main(), Rules(report.margin, report.fewest)
        verdicts = {row.category: with_verdict(row, next(adjusted), rules).verdict for row in main.categories}
        total, general = report.preferences and report.preferences.total, report.forgetting
        results.append(StageResult(
            name=fact.name, data=fact.data, objective="domain" if fact.is_text else report.run.objective,
            begun=str(report.run.settings.get("begun", "")), n=num, num_left_out=fact.num_left_out,
            num_overlapping=fact.num_overlapping,
            scores={row.category: row.tuned.value for row in main.categories},
            mean=main.macro.tuned.value if main.macro else None,
            improved=[name for name, verdict in verdicts.items() if verdict == "improved"],
            regressed=[name for name, verdict in verdicts.items() if verdict == "regressed"],
            likelier=total.likelier if total else None,
            general=Change(base=general.base.value, tuned=general.tuned.value) if general else None,
            forgetting=wording.forgetting_text(general) if general else "",
        ))  # fmt: skip
    return Stages(
        split=first.split, base={row.category: row.base.value for row in first.categories},
        base_mean=first.macro.base.value if first.macro else None, results=results,
        sentence=" ".join(map(_stage_sentence, results)),
    )  # fmt: skip


def _stage_sentence(result: StageResult) -> str:
    """What one stage did, against the one before."""
    parts = [
        f"{word} {', '.join(map(wording.category, names))}"
        for word, names in (("improved", result.improved), ("made worse", result.regressed)) if names
    ]  # fmt: skip
    text = f"{result.name} ({result.objective}, {result.n:,} records) "
    text += " and ".join(parts) or "shows no change of a category"
    for what, value in (
        ("", result.begun), ("left out as exam records: ", result.num_left_out),
        ("exam records with 13 words in a row of its data: ", result.num_overlapping),
    ):  # fmt: skip
        text += f"; {what}{value}" if value else ""
    return f"{text}. {result.forgetting}".rstrip()
