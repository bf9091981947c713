"""From the scored records of both models to the report.

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
from train.report import stats, wording
from train.report.calibration import calibrated
from train.report.diagnostics import field_gaps, memory_of, overfitting, read_events
from train.report.model import (
    REPORT,
    Curve,
    DataMap,
    Estimate,
    Flip,
    Flips,
    Forgetting,
    JudgeSummary,
    Macro,
    Measured,
    Memorised,
    Noise,
    OverFitting,
    Report,
    Run,
    SplitResult,
    Worst,
)
from train.report.preferences import preferences
from train.report.results import (
    BITS_MARGIN,
    Pairs,
    Rules,
    bits,
    bits_per_byte,
    confusions,
    estimate,
    known,
    split_results,
)
from train.report.winrate import HumanVerdict
from train.report.write import read_curve, write_report

if TYPE_CHECKING:
    # Imports torch, which a report that is computed again does without.
    from train.evaluate.scoring import CategorySpec

MOST_LISTED = 20
FEWEST_DOCUMENTS = 10
MOST_ON_MAP = 10
_RULES, _HINT = Rules(), "Export a dataset with a test split, or more records."


def build_report(
    base: Sequence[Scored],
    tuned: Sequence[Scored],
    *,
    run: Run,
    curve: Curve | None = None,
    default_metric: Collection[str] = (),
    rules: Rules = _RULES,
    remarks: Sequence[str] = (),
    noise: Noise | None = None,
    judge_summary: JudgeSummary | None = None,
    data_map: DataMap | None = None,
    human: Sequence[HumanVerdict] = (),
    is_checkpoint_chosen: bool = True,
    fits: OverFitting | None = None,
    memory: Memorised | None = None,
    sides: Sequence[Sequence[Scored]] = (),
    unsliced: Collection[str] = (),
) -> Report:
    """Return the report on two models scored on the same records of the splits validation, test and general.

    ``default_metric`` names the categories without a scorer of their own. What predictions cannot tell are ``remarks``,
    ``noise``, ``judge_summary``, ``data_map``, ``fits`` and ``memory``; ``human`` are people's verdicts beside the
    judge's; ``is_checkpoint_chosen`` of a run's best checkpoint; ``sides`` are the results of the seeds whose mean is
    ``tuned``; no slice has ``unsliced`` categories. Raises TrainError: E933 unpaired-results, E934 not-finite, E937.
    """
    pairs = pair(base, tuned)
    judged = calibrated(judge_summary, pairs, human) if judge_summary else None
    rules = replace(rules, is_judge_calibrated=judged is not None and judged.is_calibrated)
    splits = split_results(pairs, default_metric, rules)
    if not splits:
        raise TrainError("E937 nothing-to-report", "no record of validation or test can be compared", _HINT)
    headline, silent = splits[-1].split, {*unsliced, *(result.category for result in splits[-1].unscored)}
    seeds = [{record.id: record for record in side if record.split == headline} for side in sides]
    is_checkpoint_chosen &= curve is None or bool(curve.evals)  # Without one it ends with its last step.
    validation, general = ([p for p in pairs if p[0].split == split] for split in ("validation", "general"))
    return Report(
        run=run,
        headline=headline,
        splits=splits,
        forgetting=forgetting(general, rules, run),
        flips=_flips(validation),
        worst=_worst(validation),
        curve=curve or Curve(steps=[], evals=[]),
        margin=rules.margin,
        fewest=rules.fewest,
        resamples=rules.resamples,
        default_metric=sorted(default_metric),
        remarks=list(remarks),
        notes=_notes(splits, pairs, is_forgetting_measured=bool(general), is_checkpoint_chosen=is_checkpoint_chosen)
        + [wording.ONE_SEED] * (run.seed is not None and not sides),
        noise=noise,
        confusion=confusions(pairs, headline),
        judged=judged,
        data_map=data_map,
        preferences=preferences([p for p in pairs if p[0].split == headline], headline, rules, seeds),
        slices=field_gaps([[p for p in pairs if p[0].category not in silent]], headline, rules, seeds)[0],
        fits=fits,
        memory=memory,
    )


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
    noise: Noise | None = None,
    judge_summary: JudgeSummary | None = None,
) -> Report:
    """Write predictions.jsonl, feedback.jsonl and the report of a run into ``folder``, and return the report.

    ``dynamics`` tells how the training records were learnt, ``noise`` and ``judge_summary`` what else was measured. The
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
        noise=noise,
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
        "sentence": " ".join(part.sentence for part in parts),
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
    num_documents = len({before.cluster for before, _ in pairs})
    meaning = {
        "forgot": "the model forgot some of what it knew",
        "held": "no forgetting beyond 1 %",
        "inconclusive": "forgetting beyond 1 % is neither shown nor ruled out",
    }[word]
    if num_documents < FEWEST_DOCUMENTS:
        # A bootstrap over so few has too little width to rule anything out.
        word = "inconclusive"
        meaning = f"too few documents to judge ({num_documents} of {FEWEST_DOCUMENTS})"
    change = wording.percent(difference.value / base.value, sign=True)
    span = f"{wording.percent(low, sign=True)} to {wording.percent(high, sign=True)}"
    sentence = (
        f"General text ({text and text + ', '}n = {len(pairs)}) went from {base.value:.3f} to "
        f"{tuned.value:.3f} bits per byte ({change}, 95 % {span}): {meaning}."
    )
    return Forgetting(
        n=len(pairs), text=text, base=base, tuned=tuned, difference=difference, word=word, sentence=sentence
    )


def noise_of(n: int, num_changed: int, num_flipped: int) -> Noise:
    """Return what generating ``n`` answers of the base again changed, with the interval of the share that flipped."""
    rate = estimate(num_flipped / n, stats.wilson(num_flipped, n))
    return Noise(
        n=n,
        num_changed=num_changed,
        num_flipped=num_flipped,
        rate=rate,
        sentence=(
            f"Decoded again: asked {n} records once more in other batches, the base gave {num_changed} other texts and "
            f"flipped {num_flipped} between right and wrong ({wording.percent(rate.value)}, 95 % "
            f"{wording.percent(rate.low)} to {wording.percent(rate.high)}). Other training seeds change more."
        ),
    )


def _flips(validation: Pairs) -> Flips:
    by_kind: dict[str, list[Flip]] = {"fixed": [], "broken": []}
    for before, after in validation:
        kind = outcome(before.score, after.score)
        if kind in by_kind:
            by_kind[kind].append(
                Flip(
                    id=before.id,
                    category=before.category,
                    reference=before.reference,
                    base=before.text or "",
                    tuned=after.text or "",
                    score_base=known(before.score),
                    score_tuned=known(after.score),
                )
            )
    # Ids break ties, so that the same run gives the same report.
    for flips in by_kind.values():
        flips.sort(key=lambda flip: (-abs(flip.score_tuned - flip.score_base), flip.category, flip.id))
    return Flips(
        num_fixed=len(by_kind["fixed"]),
        num_broken=len(by_kind["broken"]),
        shown=MOST_LISTED,
        fixed=by_kind["fixed"][:MOST_LISTED],
        broken=by_kind["broken"][:MOST_LISTED],
    )


def _worst(validation: Pairs) -> list[Worst]:
    # Validation alone: of a test record nothing but numbers may be shown.
    rows = [
        Worst(
            id=after.id,
            category=after.category,
            score=after.score,
            bits_per_byte=None if after.nll is None else bits_per_byte([after.nll], [after.num_bytes]),
        )
        for _, after in validation
        if after.score is None or after.score < 1
    ]
    rows.sort(key=lambda row: (1.0 if row.score is None else row.score, -(row.bits_per_byte or 0.0), row.id))
    return rows[:MOST_LISTED]


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
        used = _list(sorted({result.metric for result in defaults}))
        notes.append(
            f"No scorer is set for {_list(result.category for result in defaults)}; the default, {used}, was used."
        )
    # Each of these would mislead a reader who sees the table alone.
    thin = [result.category for result in main.categories if result.reason == "too-few"]
    if thin:
        notes.append(f"Too few records to judge {_list(thin)}; their numbers are shown, their verdicts withheld.")
    unscored = sum(result.num_unscored for result in main.categories if result.higher_is_better)
    if unscored:
        each = [result for result in main.categories if result.higher_is_better and result.num_unscored]
        counts = ", ".join(f"{wording.category(result.category)} {result.num_unscored}" for result in each)
        notes.append(
            f"{unscored} {'record' if unscored == 1 else 'records'} could not be scored, as the reference is empty or "
            f"does not suit the scorer ({counts}); no score counts them."
        )
    notes += [result.sentence for result in main.unscored]
    notes += [result.one_answer for result in main.categories if result.one_answer]
    by_loss = [result.category for result in main.categories if not result.higher_is_better]
    if by_loss:
        notes.append(f"{_list(by_loss)}: compared by bits per byte, as no completion could be scored.")
    if any(result.num_clusters < result.n for result in main.categories):
        notes.append("Some records repeat one another; intervals and tests count such a cluster once.")
    rest = {before.category for before, _ in pairs if before.split == main.split}
    rest -= {row.category for row in main.results() if not isinstance(row, Macro)}
    if rest:
        notes.append(f"Nothing could be compared in {_list(sorted(rest))}.")
    lone = {row.category for part in splits[:-1] for row in part.rows()} - {row.category for row in main.rows()} - rest
    if lone:
        notes.append(f"{_list(sorted(lone))}: no {main.split} record, so nothing is said of it above.")
    if not is_forgetting_measured:
        notes.append("Forgetting is not judged: no general text was compared.")
    return notes


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(wording.category, names))


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
