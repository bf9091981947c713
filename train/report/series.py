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
from typing import Any, NamedTuple

import numpy as np

from train.base.console import one_line
from train.evaluate.predictions import Scored, outcome
from train.report import stats, wording
from train.report.build import build_report
from train.report.model import CategoryResult, Change, Estimate, Report, Run, SplitResult
from train.report.results import Rows, Rules, judge, put_in_words
from train.report.tables import ReportTable
from train.report.training_parts import SeedSpread, SeedsSummary, StageResult, Stages, Sweep, Trial
from train.report.two_way import (
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
    default_metric: Collection[str], rules: Rules, remarks: Sequence[str] = (), **measured: Any,
) -> Report:  # fmt: skip
    """Return the report of ``sides``, the tuned results of each of two or more ``seeds``, against one base.

    The texts that it shows are those of side ``selected``, a run that is called ``name``, and so is what is
    ``measured``, as `build_report` has it. Raises TrainError "E933 unpaired-results" where the sides hold other
    records, and those of `build_report`.
    """
    _, *ordered = in_step([base, *sides])
    remark = (
        f"Answers, the loss curve, over-fitting, what is known by heart and the hardest records are those of {name}; "
        f"scores are means over {len(sides)} seeds."
    )
    mean = _mean_side(ordered, selected)
    by_key = [{(record.split, record.id): record for record in side} for side in [mean, *ordered]]

    def widen(split: str, reference: Side, rows: Rows) -> Rows:
        of_mean, *of_seeds = [[side[record.split, record.id] for record in reference] for side in by_key]
        models, num_tests = _models_of(split, reference, of_seeds, rows), sum(key is not None for key in rows)
        widened = {key: _widened(row, models.get(key), num_tests) for key, row in rows.items()}
        return {
            key: row if key is None else _recounted(row, split, reference, of_mean, of_seeds)
            for key, row in widened.items()
        }

    report = build_report(
        base, mean, run=run, default_metric=default_metric, rules=replace(rules, widen=widen),
        remarks=[*remarks, remark], seeds=ordered, **measured,
    )  # fmt: skip
    main = report.main()
    rows: Rows = {row.category: row for row in main.categories} | ({None: main.macro} if main.macro else {})
    spreads = [
        SeedSpread(category=category or "", changes=list(model.by_seed), share=model.seed_share)
        for category, model in _models_of(main.split, base, ordered, rows).items()
    ]
    sentence = _seeds_sentence(seeds, spreads)
    summary = SeedsSummary(seeds=list(seeds), selected=name, spreads=spreads, sentence=sentence)
    return report.model_copy(update={"seeds": summary}).with_tables([ReportTable(part="seeds", sentences=[sentence])])


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


def _models_of(split: str, base: Side, sides: Sequence[Side], rows: Rows) -> dict[str | None, TwoWay]:
    """Return the two-way model of each category of a split, and under None of their mean."""
    changes = {
        name: result_parts(base, sides, judged(base, split, name), is_score=row.higher_is_better, is_change=True)
        for name, row in rows.items() if name is not None
    }  # fmt: skip
    parts: dict[str | None, stats.Floats] = {category: each.values for category, each in changes.items()}
    if None in rows:
        parts[None] = mean_parts([each for category, each in changes.items() if rows[category].higher_is_better])
    return {category: fit_two_way(each) for category, each in parts.items() if len(each) > 1}


def _recounted(
    row: CategoryResult, split: str, base: Side, mean: Side, sides: Sequence[Side]
) -> CategoryResult:  # fmt: skip
    """Return ``row`` with no record counted as up that was right, which the mean is from .5 on, in few of the seeds."""
    mine = judged(base, split, row.category)
    if not row.higher_is_better or {side[n].score for side in sides for n in mine} - {None, 0, 1}:
        return row
    kinds = [outcome(base[n].score, mean[n].score) for n in mine]
    return row.model_copy(update={"better": kinds.count("fixed"), "worse": kinds.count("broken")})


def _widened(row: CategoryResult, model: TwoWay | None, num_tests: int) -> CategoryResult:
    wider: dict[str, Any] = {"test": "two-way t"}
    if model is not None:
        bounds = (-1.0, 1.0) if row.higher_is_better else ()
        wider |= {"difference": model.widened(row.difference, *bounds), "p": max(row.p, model.p())}
        if row.minimum_detectable_effect is not None:
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
        curve=best.curve, fits=best.fits, memory=best.memory, data_map=best.data_map,
    )  # fmt: skip
    notes = [*report.notes, *filter(None, [exam.advice])]
    return report.model_copy(update={"notes": notes}), selected, exam.advice


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
    return report.model_copy(update={"sweep": sweep}).with_tables([_sweep_table(sweep)]), exam.advice


def _sweep_table(sweep: Sweep) -> ReportTable:
    rows, is_share = [], any(trial.score is not None for trial in sweep.trials)
    for trial in sweep.trials:
        behind = trial.behind
        rows.append([
            one_line(_settings_text(trial.changes)), f"{trial.steps:,}",
            number(trial.score if is_share else trial.bits, is_share=is_share),
            "best" if trial.name == sweep.chosen else number(behind.value if behind else None, is_share=is_share),
            "" if behind is None else wording.spread(behind, is_share=is_share, sign=True), trial.note,
        ])  # fmt: skip
    title, head = ("scores", "score") if is_share else ("bits per byte", "bits")
    heads = ("settings", "steps", head, "behind", "95 %", "note")
    return ReportTable(part="sweep", title=f"Sweep: mean validation {title}", heads=heads, rows=rows,
                       sentences=[sweep.sentence])  # fmt: skip


def _settings_text(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in changes.items())


def _sweep_sentence(
    trials: Sequence[Trial], best: Mapping[str, Any], seeds: Sequence[int], is_tested: bool, exam: Exam
) -> str:
    by = (
        " by bits per byte, as nothing there is scored" if not exam.is_score
        else f", {', '.join(exam.left_out)} left out as not scored" if exam.left_out else ""
    )  # fmt: skip
    each = [f"Of {len(trials)} choices {_settings_text(best)} was the best on validation{by}."]
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
    changed: dict[str, Any] = {
        "splits": [_unjudged(part, report.fewest) if part.split == "validation" else part for part in report.splits]
    }
    if report.headline == "validation":
        note = f"No test record is compared: the validation split (n = {report.main().n}) chose the settings, so its "
        note += "scores flatter, and there is no verdict on them. Slices are left out."
        changed |= {"notes": [note, *report.notes[1:]], "slices": None,
                    "tables": [table for table in report.tables if table.part != "slices"]}  # fmt: skip
    report = report.model_copy(update=changed)
    return report.with_tables(wording.tables_of(report))


def _unjudged(part: SplitResult, fewest: int) -> SplitResult:
    unknown = {"verdict": "inconclusive", "reason": "chose", "is_no_worse": False,
               "note": "these records chose the settings, so there is no verdict"}  # fmt: skip
    rows = [
        put_in_words(row.model_copy(update=unknown), fewest)
        for row in (*part.categories, *filter(None, [part.macro]))
    ]  # fmt: skip
    num = len(part.categories)
    return part.model_copy(update={"categories": rows[:num], "macro": next(iter(rows[num:]), None)})


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
        verdicts = {
            row.category: judge(row.model_copy(update={"p_adjusted": next(adjusted)}), rules).verdict
            for row in main.categories
        }  # fmt: skip
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


def stage_table(stages: Stages, main: Sequence[CategoryResult]) -> ReportTable:
    """Return the scores after each stage, by the categories of ``main``."""
    rows = []
    for row in main:
        cells = [number(stages.base.get(row.category), is_share=row.higher_is_better)]
        for result in stages.results:
            mark = " +" if row.category in result.improved else " !" if row.category in result.regressed else ""
            cells.append(number(result.scores.get(row.category), is_share=row.higher_is_better) + mark)
        rows.append([wording.category(row.category), *cells])
    rows.append(["MEAN", *map(number, (stages.base_mean, *(result.mean for result in stages.results)))])
    for name, is_share, changes in (
        ("better answer likelier", True, [result.likelier for result in stages.results]),
        ("general text, bits", False, [result.general for result in stages.results]),
    ):
        if any(changes):
            before = next(change.base for change in changes if change is not None)
            values = [before, *(None if change is None else change.tuned for change in changes)]
            rows.append([name, *(number(value, is_share=is_share) for value in values)])
    heads = ["category", "base", *(one_line(result.name) for result in stages.results)]
    title = f"Stages: scores on the {stages.split} split (+ better, ! worse than the stage before)"
    return ReportTable(part="stages", title=title, heads=heads, rows=rows, sentences=[stages.sentence], left=heads[2:])
