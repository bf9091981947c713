"""From the scored records of a reference and of other models to their report.

Its numbers come from `predictions.jsonl` alone, so that `train eval` computes them again without a model, and anybody
can check them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

from train.base.console import one_line
from train.base.errors import TrainError
from train.base.storage import sha256_of
from train.data.dataset import Dataset, reasoning_remark
from train.evaluate.dynamics import Dynamic
from train.evaluate.predictions import (
    PREDICTIONS,
    Scored,
    outcome,
    pair,
    write_feedback,
    write_predictions,
)
from train.evaluate.preferences import comparison_remark
from train.recipe import Recipe
from train.recipe.forgetting import remedies
from train.report import wording
from train.report.diagnostics import field_gaps, memory_of, overfitting, read_events
from train.report.model import (
    REPORT,
    ComparedModel,
    Curve,
    DataMap,
    Estimate,
    Forgetting,
    JudgeSummary,
    Measured,
    PairedResults,
    Report,
    Run,
    SplitResult,
)
from train.report.part_tables import finished
from train.report.people import HumanVerdict, calibrated
from train.report.preferences import preferences
from train.report.results import (
    BITS_MARGIN,
    Pairs,
    Rules,
    bits,
    known,
    one_answer,
    split_results,
)
from train.report.tables import ReportTable
from train.report.write import read_curve, write_report

if TYPE_CHECKING:
    # Imports torch, which a report that is computed again does without.
    from train.evaluate.scoring import CategorySpec

MOST_LISTED = 20
FEWEST_DOCUMENTS = 10
MOST_ON_MAP = 10
NOTHING_TO_REPORT = "E937 nothing-to-report"
_RULES, _RUN = Rules(), [ComparedModel(name="base", kind="base"), ComparedModel(name="tuned", kind="run")]


def build_report(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    *,
    run: Run,
    curve: Curve | None = None,
    rules: Rules = _RULES,
    default_metric: Collection[str] = (),
    judge_summary: JudgeSummary | None = None,
    human: Sequence[HumanVerdict] = (),
    is_checkpoint_chosen: bool = True,
    sides: Sequence[Sequence[Scored]] = (),
    **measured: Any,
) -> Report:
    """Return the report on two models scored on the same records of the splits validation, test and general.

    ``default_metric`` names the categories without a scorer of their own. ``human`` are people's verdicts beside the
    judge's; ``is_checkpoint_chosen`` of a run's best checkpoint; ``sides`` are the results of the seeds whose mean is
    ``tuned``. What predictions cannot tell is ``measured``: fields of `Report`, such as remarks. Raises
    TrainError: E933 unpaired-results, E934 not-finite, E937.
    """
    pairs = pair(base, tuned)
    judged = calibrated(judge_summary, pairs, human) if judge_summary else None
    rules = replace(rules, is_judge_calibrated=judged is not None and judged.is_calibrated)
    # Without a validation a run ends with its last step.
    is_checkpoint_chosen &= curve is None or bool(curve.evals)
    notes = [wording.ONE_SEED] * (run.seed is not None and not sides)
    return assemble(
        [list(side) for side in zip(*pairs, strict=True)], [split_results(pairs, default_metric, rules)], rules,
        run=run, models=_RUN, notes=notes, curve=curve or Curve(steps=[], evals=[]), judged=judged, seeds=sides,
        default_metric=sorted(default_metric), is_checkpoint_chosen=is_checkpoint_chosen, **measured,
    )  # fmt: skip


def assemble(
    records: Sequence[Sequence[Scored]],
    splits: Sequence[Sequence[SplitResult]],
    rules: Rules,
    *,
    models: Sequence[ComparedModel],
    run: Run,
    notes: Sequence[str] = (),
    is_checkpoint_chosen: bool = False,
    seeds: Sequence[Sequence[Scored]] = (),
    unsliced: Collection[str] = (),
    **more: Any,
) -> Report:
    """Return the report of ``models`` by their ``records``, [models, records], and the results of all but the first.

    Of one model alone the results are those beside itself. No slice has ``unsliced`` categories; ``more`` are further
    fields of `Report`. Raises TrainError: E937 where there is no result.
    """
    compared = [list(zip(records[0], side, strict=True)) for side in records[1:] or records[:1]]
    found: set[Literal["validation", "test"]] = {part.split for parts in splits for part in parts}
    if not found:
        message = "no record of validation or test can be compared"
        hint = "Export a dataset with a test split or more records, or evaluate the models on the same dataset."
        raise TrainError(NOTHING_TO_REPORT, message, hint)
    headline: Literal["validation", "test"] = "test" if "test" in found else "validation"
    shown = [part for parts in splits for part in parts if part.split == headline]
    silent = {*unsliced, *(row.category for parts in splits for part in parts for row in part.unscored)}
    by_id = [{record.id: record for record in side if record.split == headline} for side in seeds]
    slices = field_gaps(
        [[p for p in pairs if p[0].category not in silent] for pairs in compared], headline, rules, by_id
    )
    general = [forgetting([p for p in pairs if p[0].split == "general"], rules, run) for pairs in compared]
    validation = [p for p in compared[0] if p[0].split == "validation"]
    names, is_pair, tables = [model.name for model in models[1:]], len(models) == 2, list[ReportTable]()
    said = list(dict.fromkeys(row.sentence for part in shown for row in part.unscored))
    if is_pair:
        said = _notes(splits[0], compared[0], is_forgetting_measured=general[0] is not None,
                      is_checkpoint_chosen=is_checkpoint_chosen)  # fmt: skip
        tables = [_flip_table(validation, is_run=list(models) == _RUN)]
        mine = [p for p in compared[0] if p[0].split == headline]
        more |= {"slices": slices[0], "preferences": preferences(mine, headline, rules, by_id)}
    elif names:
        said += [f"{name}: {text}" for name, part, pairs in zip(names, shown, compared, strict=False)
                 for text in _one_answers(part, pairs)]  # fmt: skip
        said += [f"{name}: {part.sentence}" for name, part in zip(names, slices, strict=True) if part]
    others = zip(names[1:], splits[1:], general[1:], strict=True)
    report = Report(
        run=run, models=list(models), headline=headline, splits=list(splits[0]), forgetting=general[0],
        others=[PairedResults(name=name, splits=list(parts), forgetting=text) for name, parts, text in others],
        margin=rules.margin, fewest=rules.fewest, resamples=rules.resamples, notes=[*said, *notes],
        **{"curve": Curve(steps=[], evals=[]), "default_metric": [], "remarks": [], **more},
    )  # fmt: skip
    return finished(report.with_tables(tables))


def publish(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    *,
    dataset: Dataset,
    categories: Mapping[str, CategorySpec],
    recipe: Recipe,
    run: Run,
    folder: Path,
    dynamics: Sequence[Dynamic] = (),
    judge_summary: JudgeSummary | None = None,
) -> Report:
    """Write predictions.jsonl, feedback.jsonl and the report of a run into ``folder``, and return the report.

    ``dynamics`` tells how the training records were learnt, ``judge_summary`` what a judge said. The
    loss curve is read from the folder's metrics.jsonl. Raises TrainError: E934 not-finite when a model is broken; E937
    nothing-to-report; E936 write-failed.
    """
    sides = [[record for record in side if record.split != "train"] for side in (base, tuned)]
    # A training record is no exam; feedback alone wants it.
    names = {row.category for split in ("validation", "test") for row in dataset.splits[split]}
    learnt = {dynamic.id for dynamic in dynamics}
    report = build_report(
        sides[0],
        sides[1],
        run=run,
        curve=read_curve(folder / "metrics.jsonl"),
        default_metric=sorted(name for name in names if name not in categories or categories[name].is_default),
        rules=Rules(recipe.eval.margin, resamples=recipe.eval.resamples),
        remarks=[*dataset.remarks]
        + _skipped(base, dataset, recipe.eval.splits)
        + [
            remark
            for split in ("validation", "test")
            for remark in reasoning_remark(dataset.splits[split], split, recipe.reasoning)
        ]
        + ([] if recipe.objective == "auto" else comparison_remark(recipe.objective, dataset)),
        judge_summary=judge_summary,
        data_map=data_map(dynamics, {row.id for row in dataset.splits["train"]}),
        fits=overfitting(list(read_events(folder / "metrics.jsonl"))),
        memory=memory_of(
            *([r for r in side if r.split != "train" or r.id in learnt] for side in (base, tuned)),
        ),
    )
    write_predictions(sides[0], sides[1], folder)
    write_feedback(base, tuned, folder, dynamics)
    write_report(report, folder)
    return report


def kept_of(report: Report, tuned: Sequence[Scored], folder: Path) -> dict[str, Any]:
    """Return what run.json keeps of the report and the predictions in ``folder``: it is written after both of them."""
    return {
        "results": {row.category: row.verdict for row in report.main().categories},
        "report": report.model_dump(mode="json", include=set(Measured.model_fields)),
        "records": Counter(record.split for record in tuned if record.split != "train"),
        "files": {name: sha256_of(folder / name) for name in (PREDICTIONS, REPORT)},
    }


def forgetting(
    pairs: Pairs, rules: Rules, run: Run, widened: Callable[[Estimate], Estimate] | None = None
) -> Forgetting | None:  # fmt: skip
    """Return how bits per byte on general text changed, or None where no such text was scored.

    *forgot*: a rise above 1 % is shown; *held*: it is ruled out; else inconclusive. Each part of the text is judged by
    itself, lest what the model learned of one hides what it forgot of another, and the figures are those of the worst.
    ``run`` says which text it is, and what to do next. ``widened`` adds to the interval of a
    difference what records do not show.
    """
    # As loss and not by answers, which on a small slice are too noisy to show a change of one percent.
    by_part: dict[str, list[tuple[Scored, Scored]]] = {}
    for before, after in pairs:
        if before.num_bytes:
            by_part.setdefault(before.category, []).append((before, after))
    each = (
        _forgetting(mine, rules, ": ".join(filter(None, (run.general_text, name))), widened)
        for name, mine in sorted(by_part.items())
    )
    parts = [part for part in each if part is not None]
    if not parts:
        return None
    worst = max(parts, key=lambda part: (_WORDS.index(part.word), part.difference.value / part.base.value))
    return worst.model_copy(update={
        "parts": parts if len(parts) > 1 else [],
        "remedies": remedies(run.tuning) if run.tuning is not None and worst.word == "forgot" else [],
    })  # fmt: skip


_WORDS: Sequence[Literal["forgot", "held", "inconclusive"]] = ("held", "inconclusive", "forgot")
"""What is said of forgetting, the worst last."""


def _forgetting(
    pairs: Pairs, rules: Rules, text: str, widened: Callable[[Estimate], Estimate] | None
) -> Forgetting | None:
    base, tuned, difference = bits(pairs, rules, "general")
    if not base.value:
        return None
    difference = difference if widened is None else widened(difference)
    low, high = difference.low / base.value, difference.high / base.value
    word: Literal["forgot", "held", "inconclusive"] = (
        "forgot" if low > BITS_MARGIN else "held" if high < BITS_MARGIN else "inconclusive"
    )
    num_documents, why = len({before.cluster for before, _ in pairs}), ""
    if num_documents < FEWEST_DOCUMENTS:
        # A bootstrap over so few has too little width to rule anything out.
        word, why = "inconclusive", f"too few documents to judge ({num_documents} of {FEWEST_DOCUMENTS})"
    return Forgetting(n=len(pairs), text=text, base=base, tuned=tuned, difference=difference, word=word, why=why)


def _flip_table(validation: Pairs, *, is_run: bool) -> ReportTable:
    """Return the validation records that went from wrong to right and back, those that moved most first."""
    moves = {"fixed": list[tuple[Scored, Scored]](), "broken": list[tuple[Scored, Scored]]()}
    for before, after in validation:
        moves.get(outcome(before.score, after.score), []).append((before, after))
    texts = ("reference", "base", "tuned")
    num = {kind: len(some) for kind, some in moves.items()}
    sentences = [f"On validation {num['fixed']} records went from wrong to right and {num['broken']} back."]
    rows = []
    for kind, some in moves.items():
        # Ids break ties, so that the same run gives the same report.
        some.sort(key=lambda p: (-abs(known(p[1].score) - known(p[0].score)), p[0].category, p[0].id))
        for before, after in some[:MOST_LISTED]:
            scores = f"{wording.number(before.score)} to {wording.number(after.score)}"
            answers = [before.reference, before.text or "", after.text or ""]
            rows.append([kind, one_line(before.id), wording.category(before.category), scores, *answers])
        if num[kind] > MOST_LISTED:
            sentences.append(f"And {num[kind] - MOST_LISTED} more are {kind}.")
    heads = ("flip", "record", "category", "score")
    return ReportTable(part="flips", title="Flips", heads=heads + texts, rows=rows, sentences=sentences,
                       left=heads + texts, files_only=texts, is_in_terminal=not is_run)  # fmt: skip


def _one_answers(part: SplitResult, pairs: Pairs) -> list[str]:
    return list(filter(None, (one_answer(row.category, part.split, pairs) for row in part.categories)))


def _split_note(main: SplitResult, *, is_checkpoint_chosen: bool) -> str:
    if main.split == "test":
        note = f"Verdicts are on the test split (n = {main.n}), of which nothing but numbers is shown."
        flattery = " The best checkpoint was chosen on validation, so validation scores flatter."
    else:
        note = f"No test record is compared: verdicts are on the validation split (n = {main.n})."
        flattery = " It chose the best checkpoint, too, so they flatter."
    return note + (flattery if is_checkpoint_chosen else "")


def _notes(
    splits: Sequence[SplitResult], pairs: Pairs, *, is_forgetting_measured: bool, is_checkpoint_chosen: bool
) -> list[str]:
    main = splits[-1]
    notes = [_split_note(main, is_checkpoint_chosen=is_checkpoint_chosen)]
    defaults = [result for result in main.categories if result.is_default_metric]
    if defaults:
        used = wording.names(sorted({result.metric for result in defaults}))
        whose = wording.names([result.category for result in defaults])
        notes.append(f"No scorer is set for {whose}; the default, {used}, was used.")
    # Each of these would mislead a reader who sees the table alone.
    thin = [result.category for result in main.categories if result.reason == "too-few"]
    if thin:
        whose = wording.names(thin)
        notes.append(f"Too few records to judge {whose}; their numbers are shown, their verdicts withheld.")
    unscored = sum(result.num_unscored for result in main.categories if result.higher_is_better)
    if unscored:
        each = [result for result in main.categories if result.higher_is_better and result.num_unscored]
        counts = ", ".join(f"{wording.category(result.category)} {result.num_unscored}" for result in each)
        notes.append(
            f"{unscored} {'record' if unscored == 1 else 'records'} could not be scored, as the reference is empty or "
            f"does not suit the scorer ({counts}); no score counts them."
        )
    notes += [result.sentence for result in main.unscored]
    notes += _one_answers(main, pairs)
    by_loss = [result.category for result in main.categories if not result.higher_is_better]
    if by_loss:
        notes.append(f"{wording.names(by_loss)}: compared by bits per byte, as no completion could be scored.")
    if any(result.num_clusters < result.n for result in main.categories):
        notes.append("Some records repeat one another; intervals and tests count such a cluster once.")
    rest = {before.category for before, _ in pairs if before.split == main.split}
    rest -= {row.category for row in main.rows()}
    if rest:
        notes.append(f"Nothing could be compared in {wording.names(sorted(rest))}.")
    lone = {row.category for part in splits[:-1] for row in part.rows()} - {row.category for row in main.rows()} - rest
    if lone:
        notes.append(f"{wording.names(sorted(lone))}: no {main.split} record, so nothing is said of it above.")
    if not is_forgetting_measured:
        notes.append("Forgetting is not judged: no general text was compared.")
    return notes


def _skipped(scored: Sequence[Scored], dataset: Dataset, measured: Collection[str]) -> list[str]:
    remarks = []
    for split in ("validation", "test"):
        if split not in measured:
            remarks.append(f"The {split} split was not measured: eval.splits leaves it out.")
            continue
        missing = len(dataset.splits[split]) - len([record for record in scored if record.split == split])
        if missing:
            remarks.append(
                f"{missing} {split} records are longer than the recipe's max_length, cannot be rendered for the base, "
                "or have no answer that may be trained, and were not evaluated."
            )
    return remarks


MOST_POINTS = 600


def data_map(dynamics: Iterable[Dynamic], records: Collection[str]) -> DataMap | None:
    """Return the map of those of ``records`` that were trained on, None where none was; of no replayed text."""
    ordered = sorted((dynamic for dynamic in dynamics if dynamic.id in records), key=lambda dynamic: dynamic.id)
    if not ordered:
        return None
    varied = [dynamic for dynamic in ordered if dynamic.variability]
    # A picture shows only so many of them; the hash of the id chooses the same ones each time.
    by_hash = sorted(range(len(ordered)), key=lambda index: crc32(ordered[index].id.encode("utf-8", "surrogatepass")))
    return DataMap(
        n=len(ordered),
        points=[ordered[index] for index in sorted(by_hash[:MOST_POINTS])],
        hardest=sorted(ordered, key=lambda dynamic: dynamic.confidence)[:MOST_ON_MAP],
        most_variable=sorted(varied, key=lambda dynamic: -(dynamic.variability or 0.0))[:MOST_ON_MAP],
    )
