"""What several runs say together: one report over training seeds, choices of settings, and stages.

Scores and likelihoods of seeds are means over them. An interval is never narrower than that of the records for these
means, nor than what Student's t gives for the two-way model (`train.report.two_way`). The best of twenty equal choices
lies above the others by luck, so all pairs of choices are told apart together, with the spread of seeds pooled over
them and a tail that all pairs share (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from train.base.console import one_line
from train.evaluate.predictions import Scored
from train.report import stats, wording
from train.report.build import build_report
from train.report.model import CategoryResult, Report, Run, SplitResult
from train.report.results import Rows, Rules, with_sentence, with_verdict
from train.report.tables import Estimate, ReportTable
from train.report.two_way import Parts, TwoWay, align_records, fit_two_way, mean_if_known, mean_parts, measure
from train.report.wording import format_interval, format_number, format_percent

Side = Sequence[Scored]


def seeds_report(
    base: Side, sides: Sequence[Side], *, seeds: Sequence[int], selected: int, name: str, run: Run, rules: Rules,
    remarks: Sequence[str] = (), **measured: Any,
) -> Report:  # fmt: skip
    """Return the report of ``sides``, the tuned results of each of two or more ``seeds``, against one base.

    The texts that it shows are those of side ``selected``, a run that is called ``name``, and so is what is
    ``measured``, as `build_report` has it. Raises TrainError "E933 unpaired-results" where the sides hold other
    records, and those of `build_report`.
    """
    _, *ordered = align_records([base, *sides])
    remark = (
        f"Answers, the loss curve, over-fitting, what is known by heart and the hardest records are those of {name}; "
        f"scores are means over {len(sides)} seeds."
    )
    by_key = [{(record.split, record.id): record for record in side} for side in ordered]

    def adjust(split: str, reference: Side, rows: Rows) -> Rows:
        of_seeds = [[side[record.split, record.id] for record in reference] for side in by_key]
        models, num_tests = _changes([reference, *of_seeds], split, rows), sum(key is not None for key in rows)
        return {key: _widen_result(row, models.get(key), num_tests) for key, row in rows.items()}

    report = build_report(
        base, _mean_side(ordered, selected), run=run, rules=replace(rules, adjust_for_seeds=adjust),
        remarks=[*remarks, remark], seeds=ordered, **measured,
    )  # fmt: skip
    main = report.main()
    rows: Rows = {row.category: row for row in main.categories} | ({None: main.macro} if main.macro else {})
    changes = _changes([base, *ordered], main.split, rows).items()
    table = ReportTable(
        part="seeds", title="Changes by training seed",
        heads=["category", *(f"seed {seed}" for seed in seeds), "of seeds"],
        rows=[[wording.format_category(rows[key].category),
               *(format_number(change, sign=True) for change in model.by_seed), format_percent(model.seed_share)]
              for key, model in changes],
        sentences=[f"Figures are means over {len(seeds)} training seeds; intervals count records and seeds. The last "
                   f"column is what seeds make up of their variance, as far as {len(seeds)} of them can tell."],
    )  # fmt: skip
    return report.with_tables([table])


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


def _changes(sides: Sequence[Side], split: str, rows: Rows) -> dict[str | None, TwoWay]:
    """Return how seeds changed each of ``rows`` from the first of ``sides``, by category; under None is the mean."""
    measured = {each.category: each for each in measure(sides, split)}
    parts: dict[str | None, Parts] = {
        name: (measured[name].scores if row.higher_is_better else measured[name].bits).changes()
        for name, row in rows.items() if name is not None
    }  # fmt: skip
    if None in rows:
        parts[None] = Parts(mean_parts([each for name, each in parts.items() if rows[name].higher_is_better]), ())
    return {name: fit_two_way(each.values) for name, each in parts.items() if len(each.values) > 1}


def _widen_result(row: CategoryResult, model: TwoWay | None, num_tests: int) -> CategoryResult:
    wider: dict[str, Any] = {"test": "two-way t"}
    if model is not None:
        bounds = (-1.0, 1.0) if row.higher_is_better else ()
        wider |= {"difference": model.widened(row.difference, *bounds), "p": max(row.p, model.p())}
        if row.minimum_detectable_effect is not None:
            tail = stats.ALPHA / num_tests
            effect = stats.detectable_effect(model.half(tail), tail)
            wider["minimum_detectable_effect"] = effect and max(row.minimum_detectable_effect, effect)
    return row.model_copy(update=wider)


def pool(
    reports: Mapping[str, Report], sides: Sequence[tuple[Side, Side]], name: str
) -> tuple[Report, str, str]:  # fmt: skip
    """Return one report, called ``name``, of runs that differ in the seed, the name of the best run, and the advice.

    ``reports`` are by the names of the runs, and ``sides`` are base and tuned of each, in the same order.
    """
    exam = Exam([[tuned] for _, tuned in sides], "run behind these figures")
    selected = list(reports)[exam.best]
    best = reports[selected]
    run = best.run.model_copy(update={"id": name})
    report = best.model_copy(update={"run": run}) if len(reports) == 1 else seeds_report(
        sides[0][0], [tuned for _, tuned in sides], seeds=[int(each.run.seed or 0) for each in reports.values()],
        selected=exam.best, name=selected, run=run, rules=Rules(best.margin, best.resamples), remarks=best.remarks,
        curve=best.curve, tables=best.measured().tables,
    )  # fmt: skip
    return advised(report, exam.advice), selected, exam.advice


def advised(report: Report, advice: str) -> Report:
    """Return the report with ``advice`` among its notes, where there is some."""
    return report.model_copy(update={"notes": [*report.notes, *filter(None, [advice])]})


class Exam:
    """What choices, of settings or of a seed, are chosen by: the mean of the validation categories that all of them
    scored, and among equals, or without such a category, fewer bits per byte.

    Each of ``choices``, of which one is called ``what``, has the results of the same number of seeds. Without a
    validation record all are alike. Raises TrainError "E933 unpaired-results" where they hold other records.
    """

    def __init__(self, choices: Sequence[Sequence[Side]], what: str = "choice") -> None:
        sides, self.num = [side for choice in choices for side in choice], len(choices)
        categories = measure(sides, "validation")
        scored = [each for each in categories if each.scores.names]
        self.left_out = [wording.format_category(each.category) for each in categories if each.unscored]
        self.is_score, self.trivial = bool(scored), mean_if_known([each.trivial for each in scored])
        means = [mean_parts(parts) if parts else np.zeros((1, len(sides))) for parts in (
            [each.scores for each in scored], [each.bits for each in categories if each.bits.names]
        )]  # fmt: skip
        self.parts = means[0] if scored else -means[1]
        """[clusters, choices x seeds], higher being better."""
        # Rounded, so that equal scores are equal whichever records they come from.
        scores, bits = (each.mean(axis=0).reshape(self.num, -1).mean(axis=1).round(12) for each in means)
        self.values: list[float] = (scores if scored else bits).tolist()
        """Of each choice, its score or its bits."""
        self.best = int(np.lexsort((bits, -scores))[0])
        """The first among equals."""
        is_beaten = self.trivial is not None and scores.max() <= self.trivial + 1e-9
        self.advice = bool(is_beaten) * (
            f"No {what} beats the trivial answer on validation ({format_number(self.trivial)}): take none."
        )

    def behind(self, other: int) -> Estimate | None:
        """Return by how much choice ``other`` scored less than the best; None of one seed, or of too few records.

        Of one seed nobody knows what another would change.
        """
        parts = self.parts.reshape(len(self.parts), self.num, -1)
        num, seeds = len(parts), parts.shape[2]
        if seeds < 2 or num < 2 or other == self.best:
            return None
        weights, pair = np.zeros(self.num), [self.best, other]
        weights[pair] = 1.0, -1.0
        model, pair_model = fit_two_way(parts, weights.tolist()), fit_two_way(parts[:, pair], (1.0, -1.0))
        # About zero and not about their mean: of scores of 0 and 1 the spread is small where the mean lies far off by
        # luck. Seeds of a choice that goes astray lie further apart than those of the others.
        model = model._replace(
            of_records=model.of_records + model.mean**2 / (num - 1),
            between_seeds=max(model.between_seeds, pair_model.between_seeds),
        )
        # Which of a pair lies ahead is seen in the data, so that a pair counts twice.
        half = model.half(stats.ALPHA / (self.num * (self.num - 1)))
        if self.is_score and not model.of_records:
            # Where no record differs nothing is spread: Wilson's bound of none holds those that would.
            half = max(half, stats.wilson(0, num).high)
        bound = 1.0 if self.is_score else math.inf
        return Estimate(value=model.mean, low=max(-bound, model.mean - half), high=min(bound, model.mean + half))


class TrialResult(NamedTuple):
    """A trial of a sweep: what it changes, its steps, and what each seed scored, nothing where one failed."""

    changes: Mapping[str, Any]
    steps: int
    sides: Sequence[Side]


def choose_best(choices: Sequence[TrialResult]) -> TrialResult:
    """Return the choice that validation chooses."""
    trained = [choice for choice in choices if choice.sides]
    return trained[Exam([choice.sides for choice in trained]).best]


def sweep_report(report: Report, choices: Sequence[TrialResult], seeds: Sequence[int]) -> tuple[Report, str]:
    """Return the report of the winner's runs on fresh ``seeds`` with the sweep, and what is said of taking it."""
    trained, rows = [choice for choice in choices if choice.sides], list[list[str]]()
    exam = Exam([choice.sides for choice in trained])
    for index, choice in enumerate(trained):
        lag = exam.behind(index)
        rows.append([
            _settings_text(choice.changes), f"{choice.steps:,}",
            format_number(exam.values[index], is_share=exam.is_score),
            "best" if index == exam.best else format_number(lag.value if lag else None, is_share=exam.is_score),
            format_interval(lag, is_share=exam.is_score, sign=True) if lag else "", "",
        ])  # fmt: skip
    failed = [choice for choice in choices if not choice.sides]
    rows += [[_settings_text(choice.changes), *["-"] * 4, "ended with an error"] for choice in failed]
    basis = "" if exam.is_score else " by bits per byte, as nothing there is scored"
    if exam.left_out and exam.is_score:
        basis = f", {', '.join(exam.left_out)} left out as not scored"
    sureness = (
        "One seed was trained of each, so none can be told from another." if len(seeds) < 2
        else f"The intervals count records and {len(seeds)} seeds a choice, and hold for all pairs together."
    )  # fmt: skip
    trivial = "" if exam.trivial is None else f"The trivial answer has {format_number(exam.trivial)}."
    sentences = [
        f"Of {len(choices)} choices {_settings_text(trained[exam.best].changes)} was the best on validation{basis}.",
        *filter(None, [trivial]), sureness,
        f"It was trained again with seeds that no choice has seen, {', '.join(map(str, seeds))}; the figures above are "
        "those of these runs, and the test split was not read before.",
    ]  # fmt: skip
    title, head = ("scores", "score") if exam.is_score else ("bits per byte", "bits")
    table = ReportTable(
        part="sweep", title=f"Sweep: mean validation {title}", rows=rows, sentences=[" ".join(sentences)],
        heads=("settings", "steps", head, "behind", "95 %", "note"),
    )  # fmt: skip
    return advised(without_selection_verdicts(report), exam.advice).with_tables([table]), exam.advice


def _settings_text(changes: Mapping[str, Any]) -> str:
    """Return settings as they are read: "learning_rate = 0.001, lora_r = 8"."""
    return one_line(", ".join(f"{key} = {value}" for key, value in changes.items()))


def without_selection_verdicts(report: Report) -> Report:
    """Return the report of a sweep's winner without verdicts on validation, whose records chose it."""
    changed: dict[str, Any] = {
        "splits": [_unjudged(part) if part.split == "validation" else part for part in report.splits]
    }
    if report.headline == "validation":
        note = f"No test record is compared: the validation split (n = {report.main().n}) chose the settings, so its "
        note += "scores flatter, and there is no verdict on them. Slices are left out."
        changed |= {"notes": [note, *report.notes[1:]],
                    "tables": [table for table in report.tables if table.part != "slices"]}  # fmt: skip
    report = report.model_copy(update=changed)
    return report.with_tables(wording.tables_of(report))


def _unjudged(part: SplitResult) -> SplitResult:
    unknown = {"verdict": "inconclusive", "reason": "chose", "is_no_worse": False,
               "note": "these records chose the settings, so there is no verdict"}  # fmt: skip
    rows = [with_sentence(row.model_copy(update=unknown)) for row in part.categories]
    macro = part.macro and with_sentence(part.macro.model_copy(update=unknown))
    return part.model_copy(update={"categories": rows, "macro": macro})


@dataclass(frozen=True)
class StageFacts:
    """What a report of one stage does not tell: how far its data overlap with the test set."""

    name: str
    num_left_out: int
    num_overlapping: int
    is_text: bool = False
    """All of it is raw text, of which every objective trains all tokens, as "domain" does."""


_MARKS = {"improved": " +", "regressed": " !", "inconclusive": ""}


def stages_table(facts: Sequence[StageFacts], num_records: Sequence[int], reports: Sequence[Report]) -> ReportTable:
    """Return the scores after each stage, of ``reports`` that each have the model of the one before as their base."""
    mains, first = [report.main() for report in reports], reports[0].main()
    # Of the cells of a table one looks changed by chance alone, so all of its marks are adjusted together.
    adjusted = iter(stats.holm_adjust([row.p for main in mains for row in main.categories]))
    rows = {
        row.category: [
            wording.format_category(row.category), format_number(row.base.value, is_share=row.higher_is_better)
        ] for row in first.categories
    }  # fmt: skip
    for report, main in zip(reports, mains, strict=True):
        rules = Rules(report.margin)
        judged = {row.category: with_verdict(row.model_copy(update={"p_adjusted": next(adjusted)}), rules)
                  for row in main.categories}  # fmt: skip
        for name, cells in rows.items():
            row = judged.get(name)
            cells.append(
                format_number(row.tuned.value, is_share=row.higher_is_better) + _MARKS[row.verdict] if row else "-"
            )
    table = [*rows.values()]
    for name, is_share, changes in (
        ("MEAN", True, [(mean.base.value, mean.tuned.value) if (mean := main.macro) else None for main in mains]),
        ("better answer likelier", True, [(c.base, c.tuned) if (c := each.likelier) else None for each in reports]),
        ("general text, bits", False, [(part.base.value, part.tuned.value) if (part := each.forgetting) else None
                                       for each in reports]),
    ):  # fmt: skip
        if measured := [change for change in changes if change]:
            values = [measured[0][0], *(change[1] if change else None for change in changes)]
            table.append([name, *(format_number(value, is_share=is_share) for value in values)])
    each = [
        f"{fact.name} ({'domain' if fact.is_text else report.run.objective}, {num:,} records; {fact.num_left_out} left "
        f"out as exam records; {fact.num_overlapping} exam records share 13 words in a row with it)"
        f"{': ' + str(begun) if (begun := report.run.settings.get('begun')) else ''}."
        f" {wording.forgetting_text(report.forgetting) if report.forgetting else ''}".rstrip()
        for fact, num, report in zip(facts, num_records, reports, strict=True)
    ]  # fmt: skip
    heads = ["category", "base", *(one_line(fact.name) for fact in facts)]
    title = f"Stages: scores on the {first.split} split (+ better, ! worse than the stage before)"
    return ReportTable(part="stages", title=title, heads=heads, rows=table, sentences=[" ".join(each)], left=heads[2:])
