"""From the scored records of a reference and of other models to their report, in one pass.

Its numbers come from `predictions.jsonl` alone, so that `train eval` computes them again without a model, and anybody
can check them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.base.console import one_line
from train.base.errors import TrainError
from train.base.storage import sha256_of
from train.data.dataset import Dataset, reasoning_remark
from train.evaluate.dynamics import TrainingDynamics
from train.evaluate.predictions import (
    PREDICTIONS,
    Scored,
    classify_change,
    pair_records,
    write_feedback,
    write_predictions,
)
from train.evaluate.scoring import CategorySpec, find_spec
from train.recipe import Recipe
from train.recipe.schedule import find_remedies
from train.report import wording
from train.report.diagnostics import field_gaps, memory_of, overfitting, preferences, read_events
from train.report.model import (
    REPORT,
    CategoryResult,
    ComparedModel,
    Curve,
    Forgetting,
    ForgettingWord,
    JudgeSummary,
    PairedResults,
    Report,
    Run,
    SplitResult,
)
from train.report.people import HumanVerdict, calibrate
from train.report.results import (
    BITS_MARGIN,
    SPLITS,
    Pairs,
    Rules,
    compare_pairs,
    describe_collapse,
    measure_rows,
    require_value,
)
from train.report.tables import Part, ReportTable
from train.report.write import read_curve, write_report

FEWEST_DOCUMENTS = 10
_MOST_LISTED = 20
_RULES, _RUN = Rules(), [ComparedModel(name="base", kind="base"), ComparedModel(name="tuned", kind="run")]


def build_report(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    *,
    run: Run,
    rules: Rules = _RULES,
    judge_summary: JudgeSummary | None = None,
    human: Sequence[HumanVerdict] = (),
    curve: Curve | None = None,
    seeds: Sequence[Sequence[Scored]] = (),
    **measured: Any,
) -> Report:
    """Return the report on two models scored on the same records of the splits validation, test and general.

    ``human`` are people's verdicts beside the judge's; ``seeds`` are the results of those whose mean is ``tuned``. What
    predictions cannot tell is ``measured``: fields of `Report`, such as remarks. Raises TrainError: E933
    unpaired-results, E934 not-finite, E937.
    """
    pairs = pair_records(base, tuned)
    judged = calibrate(judge_summary, pairs, human) if judge_summary else None
    return make_report(
        [list(side) for side in zip(*pairs, strict=True)], models=_RUN, run=run, judged=judged, seeds=seeds,
        rules=replace(rules, is_judge_calibrated=judged is not None and judged.is_calibrated), curve=curve or Curve(),
        # Without a validation a run ends with its last step.
        is_checkpoint_chosen=curve is None or bool(curve.validation),
        notes=[wording.ONE_SEED] * (run.seed is not None and not seeds), **measured,
    )  # fmt: skip


def make_report(
    records: Sequence[Sequence[Scored]], *, models: Sequence[ComparedModel], run: Run, rules: Rules,
    unanswered: Mapping[str, Mapping[str, int]] | None = None,
    seeds: Sequence[Sequence[Scored]] = (), notes: Sequence[str] = (), is_checkpoint_chosen: bool = False,
    tables: Sequence[ReportTable] = (), **parts: Any,
) -> Report:  # fmt: skip
    """Return the report of ``models`` by their ``records``, [models, records], which all are of the same.

    One model alone is compared with itself. ``unanswered`` has by split and category the records that not all of them
    answered; ``tables`` are further ones, and ``parts`` further fields of `Report`. Raises TrainError: E937 where there
    is no result.
    """
    compared = [list(zip(records[0], side, strict=True)) for side in records[1:] or records[:1]]
    gaps, is_pair = unanswered or {}, len(models) == 2
    results = {split: compare_pairs(compared, split, rules, gaps.get(split)) for split in SPLITS}
    splits = [[part for part in each if part] for each in zip(*results.values(), strict=True)]
    measured_splits = [split for split in SPLITS if any(results[split])]
    if not measured_splits:
        message = "no record of validation or test can be compared"
        hint = "Export a dataset with a test split or more records, or evaluate the models on the same dataset."
        raise TrainError("E937 nothing-to-report", message, hint)
    headline = measured_splits[-1]
    mains = [part for part in results[headline] if part]
    # Of a category that is not whole nothing is said by field.
    silent = {*gaps.get(headline, {}), *(row.category for main in mains for row in main.unscored)}
    by_id = [{record.id: record for record in side if record.split == headline} for side in seeds]
    complete = [[p for p in pairs if p[0].category not in silent] for pairs in compared]
    slices = field_gaps(complete, headline, by_id)
    general = [forgetting(pairs, rules, run) for pairs in compared]
    names = [model.name for model in models[1:]] or [models[0].name]
    chosen = " The best checkpoint was chosen on validation, so validation scores flatter." * is_checkpoint_chosen
    sentences = [f"Verdicts are on the {headline} split (n = {mains[0].n}).{chosen}"]
    sentences += dict.fromkeys(row.sentence for main in mains for row in main.unscored)
    for name, main, pairs, part in zip(names, results[headline], compared, slices, strict=True):
        whose = "" if is_pair else f"{name}: "
        each = (describe_collapse(row.category, headline, pairs) for row in (main.categories if main else ()))
        sentences += [whose + text for text in (*each, "" if is_pair else part) if text]
    sentences += _gap_notes(mains[0], compared[0], is_forgetting_measured=general[0] is not None)
    if is_pair:
        sentences += filter(None, [wording.format_unformed(mains[0])])
        headline_pairs = [p for p in compared[0] if p[0].split == headline]
        moved, parts["likelier"] = preferences(headline_pairs, headline, by_id)
        tables = [*tables, *moved, _flip_table(compared[0], is_run=list(models) == _RUN),
                  *(ReportTable(part="slices", sentences=[text]) for text in slices if text)]  # fmt: skip
    others = zip(names[1:], splits[1:], general[1:], strict=True)
    report = Report(
        run=run, models=list(models), headline=headline, splits=splits[0], forgetting=general[0],
        others=[PairedResults(name=name, splits=each, forgetting=text) for name, each, text in others],
        margin=rules.margin, resamples=rules.resamples, notes=[*sentences, *notes],
        **parts,
    )  # fmt: skip
    return report.with_tables([*wording.tables_of(report), *tables])


def write_results(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    *,
    dataset: Dataset,
    categories: Mapping[str, CategorySpec],
    recipe: Recipe,
    run: Run,
    folder: Path,
    dynamics: Sequence[TrainingDynamics] = (),
    judge_summary: JudgeSummary | None = None,
    remarks: Sequence[str] = (),
) -> Report:
    """Write predictions.jsonl, feedback.jsonl and the report of a run into ``folder``, and return the report.

    ``dynamics`` tells how the training records were learnt, ``judge_summary`` what a judge said, ``remarks`` what was
    seen before the first step. The loss curve is read from the folder's metrics.jsonl. Raises TrainError: E934
    not-finite when a model is broken; E937 nothing-to-report; E936 write-failed.
    """
    before, after = ([record for record in side if record.split != "train"] for side in (base, tuned))
    metrics, rows = folder / "metrics.jsonl", {split: dataset.splits[split] for split in SPLITS}
    learnt = {dynamic.id for dynamic in dynamics}
    in_training: dict[Part, str] = {
        "over-fitting": overfitting(list(read_events(metrics))),
        "known by heart": memory_of(*([r for r in side if r.split != "train" or r.id in learnt]
                                      for side in (base, tuned))),
    }  # fmt: skip
    unset = {row.category for split in SPLITS for row in rows[split] if find_spec(categories, row.category).is_default}
    remarks = [
        *dataset.remarks, *remarks,
        *(f"The {split} split was not measured: eval.splits leaves it out." for split in SPLITS
          if split not in recipe.eval.splits),
        *(remark for split in SPLITS for remark in reasoning_remark(rows[split], split, recipe.reasoning)),
        *[f"No scorer is set for {wording.format_names(sorted(unset))}; the default one was used."] * bool(unset),
    ]  # fmt: skip
    report = build_report(
        before, after, run=run, curve=read_curve(metrics), rules=Rules(recipe.eval.margin, recipe.eval.resamples),
        remarks=remarks, judge_summary=judge_summary,
        tables=[ReportTable(part=part, sentences=[text]) for part, text in in_training.items() if text],
    )  # fmt: skip
    write_predictions(before, after, folder)
    write_feedback(base, tuned, folder, dynamics)
    write_report(report, folder)
    return report


def summary_for_run_record(report: Report, tuned: Sequence[Scored], folder: Path) -> dict[str, Any]:
    """Return what run.json keeps of the report and the predictions in ``folder``: it is written after both of them."""
    return {
        "results": {row.category: row.verdict for row in report.main().categories},
        "report": report.measured().model_dump(mode="json"),
        "records": Counter(record.split for record in tuned if record.split != "train"),
        "files": {name: sha256_of(folder / name) for name in (PREDICTIONS, REPORT)},
    }


def forgetting(pairs: Pairs, rules: Rules, run: Run) -> Forgetting | None:
    """Return how bits per byte on general text changed, or None where no such text was scored.

    *forgot*: a rise above 1 % is shown; *held*: it is ruled out; else inconclusive. Each part of the text is judged by
    itself, lest what the model learned of one hides what it forgot of another, and the figures are those of the worst.
    ``run`` says which text it is, and what to do next.
    """
    # As loss and not by answers, which on a small slice are too noisy to show a change of one percent.
    (rows,) = measure_rows([[p for p in pairs if p[0].split == "general"]], "general", rules)
    parts = [_forgetting(row, run.general_text) for row in rows.values() if row.base.value]
    if not parts:
        return None
    worst = max(parts, key=lambda part: (_WORDS.index(part.word), part.difference.value / part.base.value))
    return worst.model_copy(update={
        "parts": parts if len(parts) > 1 else [],
        "remedies": find_remedies(run.tuning) if run.tuning is not None and worst.word == "forgot" else [],
    })  # fmt: skip


_WORDS = ("held", "inconclusive", "forgot")
"""What is said of forgetting, the worst last."""


def _forgetting(row: CategoryResult, text: str) -> Forgetting:
    low, high = row.difference.low / row.base.value, row.difference.high / row.base.value
    word: ForgettingWord = "forgot" if low > BITS_MARGIN else "held" if high < BITS_MARGIN else "inconclusive"
    # A bootstrap over so few has too little width to rule anything out.
    is_few = row.num_clusters < FEWEST_DOCUMENTS
    return Forgetting(
        n=row.n, text=": ".join(filter(None, (text, row.category))), base=row.base, tuned=row.tuned,
        difference=row.difference, word="inconclusive" if is_few else word,
        why=f"too few documents to judge ({row.num_clusters} of {FEWEST_DOCUMENTS})" if is_few else "",
    )  # fmt: skip


def _flip_table(pairs: Pairs, *, is_run: bool) -> ReportTable:
    """Return the validation records that went from wrong to right and back, of each those that moved most."""
    heads, texts = ("flip", "record", "category", "score"), ("reference", "base", "tuned")
    rows, counts = list[list[str]](), list[int]()
    for flip in ("fixed", "broken"):
        flipped = [p for p in pairs if p[0].split == "validation" and classify_change(p[0].score, p[1].score) == flip]
        # Ids break ties, so that the same run gives the same report.
        flipped.sort(
            key=lambda p: (-abs(require_value(p[1].score) - require_value(p[0].score)), p[0].category, p[0].id)
        )
        counts.append(len(flipped))
        rows += [
            [flip, one_line(before.id), wording.format_category(before.category),
             f"{wording.format_number(before.score)} to {wording.format_number(after.score)}",
             before.reference, before.text or "", after.text or ""] for before, after in flipped[:_MOST_LISTED]
        ]  # fmt: skip
    sentence = (
        f"On validation {counts[0]} records went from wrong to right and {counts[1]} back; at most {_MOST_LISTED} are "
        "shown."
    )
    return ReportTable(part="flips", title="Flips", heads=heads + texts, rows=rows, sentences=[sentence],
                       left=heads + texts, files_only=texts, is_in_terminal=not is_run)  # fmt: skip


def _gap_notes(main: SplitResult, pairs: Pairs, *, is_forgetting_measured: bool) -> Iterator[str]:
    """Yield what is not told, which would mislead a reader who sees the table alone."""
    names = {before.category for before, _ in pairs if before.split in SPLITS} - {row.category for row in main.rows()}
    if names:
        yield f"Nothing could be compared on {main.split} in {wording.format_names(sorted(names))}."
    if not is_forgetting_measured:
        yield "Forgetting is not judged: no general text was compared."
