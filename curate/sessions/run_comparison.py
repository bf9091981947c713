"""A run beside another one, or beside its own base: scores, what differs, and what it does on validation records.

The statistics are the trainer's: it is asked as a program, so that the screen and `train compare` say the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from curate.base.console import typed
from curate.base.file_guard import MOST_DOCUMENT, inside, open_file, read_file
from curate.base.record import SPLITS, CurateError, Json
from curate.base.tables import counted
from curate.formats.dataset import FILE_NAME, Manifest, read_manifest
from curate.project.data import DATASETS, ProjectData
from curate.project.feedback import (
    MEAN,
    Results,
    is_same_text,
    is_uncalibrated,
    legend,
    read_answers,
    read_base_answers,
    read_results,
    split_of,
    told,
    value_of,
)
from curate.sessions.blind_comparison import BASE_OF
from curate.sessions.metrics import RIGHT_FROM
from curate.sessions.runs import Run, trainer_output


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One category, or with None the mean over all of them: the base, the first run if there is one, and the second.

    ``difference`` is second - first, or second - base, with its 95 % interval; None is what nobody has
    reported.
    """

    category: str | None
    n: int | None = None
    num_unscored: int = 0
    trivial: float | None = None
    base: float | None = None
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    better: int | None = None
    worse: int | None = None
    verdict: str = ""
    """The trainer's verdict as its tables have it, such as "+ improved"; empty where there is none."""
    metric: str = ""
    is_uncalibrated: bool = False  # Whether the scores are those of a judge that nobody has held beside people.
    # Bits per byte of base, first and second; lower is better.
    bits: tuple[float | None, float | None, float | None] = (None, None, None)

    @property
    def label(self) -> str:
        """What the row is called: its category, and beside that what nobody should overlook."""
        return (MEAN if self.category is None else self.category or "(none)") + (
            " (uncalibrated judge)" if self.is_uncalibrated else ""
        )


@dataclass(frozen=True, slots=True)
class RunDifference:
    """One thing in two runs, in words; ``is_same`` where it does not differ."""

    what: str
    text: str
    is_same: bool = False


_BITS = "bits_per_byte"
_OF_NO_MEAN = dict.fromkeys(("category", "n", "better", "worse"))
_MOST_BYTES = 64 << 20
_NO_CONTENT = ("source", "cluster")  # Fields of a row that are not what its record says.
View = Literal["worse", "still wrong", "better"]
VIEWS: tuple[View, ...] = ("worse", "still wrong", "better")


@dataclass(frozen=True, slots=True)
class RecordPair:
    """A validation record under both models: their scores, and what both said where it is known."""

    id: str
    category: str
    before: float
    after: float
    said_before: str | None
    said_after: str | None
    digest: str = ""

    def is_in(self, view: View) -> bool:
        """Whether ``view`` lists it."""
        if view == "still wrong":
            return max(self.before, self.after) < RIGHT_FROM
        return self.after < self.before if view == "worse" else self.after > self.before


MOST_MODELS = 4


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs, or one and its base, on the split whose verdicts count; or one of several models and the first of them.

    ``at`` is its place among these, from 1, and 0 otherwise.
    """

    first: Run | None
    second: Run
    split: str
    rows: tuple[ScoreRow, ...]
    records: tuple[RecordPair, ...]
    notes: tuple[str, ...] = ()
    # What the run says of general text, with what to do next where it forgot; of one run beside its base.
    general: tuple[str, ...] = ()
    changed: tuple[RunDifference, ...] = ()
    at: int = 0
    # What the marks of verdicts mean.
    legend: str = ""

    @property
    def letters(self) -> tuple[str, str]:
        """What the two sides are called on a screen."""
        if self.at:
            return "A", "ABCD"[self.at]
        return ("B", "C") if self.first else ("A", "B")

    @property
    def between(self) -> tuple[str, str]:
        """The names of both models, as `blind_comparison` calls them."""
        return self.first.id if self.first else f"{self.second.id}{BASE_OF}", self.second.id

    def listed(self, view: View, category: str | None = None) -> list[RecordPair]:
        """Return the records on which the later model is worse, wrong as before, or better; of one category or all.

        Wrong is a score below 0.5, as in the trainer's reports. What changed most comes first.
        """
        chosen = [pair for pair in self.records if category in (None, pair.category) and pair.is_in(view)]
        sign = -1 if view == "better" else 1
        return sorted(chosen, key=lambda pair: (sign * (pair.after - pair.before), pair.category, pair.id))


def compare_models(data: ProjectData, models: Sequence[Run]) -> list[RunComparison]:
    """Put one run beside its base, two runs side by side, or of several models each beside the first.

    Evaluations have no base beside them, so that one alone is compared with nothing. Asks the trainer: call it in a
    thread. Raises CurateError: as `compare_runs`; E918 for an evaluation alone.
    """
    # Several models are held against one another by what they answered, which of a series one run did.
    models = [model.selected for model in models] if len(models) > 1 else models
    if len(models) <= 2 and not any(model.evaluated for model in models):
        return [compare_runs(data, models[0] if len(models) > 1 else None, models[-1])]
    if len(models) == 1:
        message = f"{models[0].id} is an evaluation of one model, which has no base beside it"
        raise CurateError("E918 bad-report", message, "Mark another run or evaluation too.")
    report = _ask_trainer([model.folder for model in models])
    tests = {name for name, split in data.pins().items() if split == "test"}
    split, costs = str(report["headline"]), "; ".join(filter(None, map(_cost, report["models"])))
    general = (*told(report["tables"]), *([f"1,000 answers: {costs}"] if costs else []))
    answers = [read_answers(model.folder, "tuned") for model in models]
    comparisons = []
    for at, part in enumerate([report, *report["others"]], 1):
        rows = tuple(_pairs(split_of(part, split)).values())
        records = tuple(
            RecordPair(name, after.category, before.score, after.score, before.text, after.text, after.digest)
            for name, after in answers[at].items()
            if name not in tests and (before := answers[0].get(name)) is not None
            and (before.category, before.reference) == (after.category, after.reference)
            and is_same_text(before.digest, after.digest)
            and before.score is not None and after.score is not None
        )  # fmt: skip
        changed, notes = tuple(_model_differences(models[0], models[at])), tuple(report["notes"])
        comparisons.append(RunComparison(models[0], models[at], split, rows, records, notes, general, changed, at,
                                         legend(report["tables"])))  # fmt: skip
    return comparisons


def _cost(model: Mapping[str, Json]) -> str:
    parts = [f"{model['seconds']:,.0f} s"] if model["seconds"] is not None else []
    parts += [f"cost {model['cost']:,.4f}"] if model["cost"] is not None else []
    return " ".join([model["name"].rpartition("/")[2], ", ".join(parts)]) if parts else ""


def _model_differences(first: Run, second: Run) -> Iterator[RunDifference]:
    names = [run.text_at("dataset", "name") or "not reported" for run in (first, second)]
    is_same = first.text_at("dataset", "sha256") == second.text_at("dataset", "sha256")
    yield RunDifference("data", f"same ({names[0]})" if is_same else " -> ".join(names), is_same)
    yield RunDifference("model", " -> ".join(run.evaluated or f"run {run.id}" for run in (first, second)))


def compare_runs(data: ProjectData, first: Run | None, second: Run) -> RunComparison:
    """Put ``second`` beside ``first``, or beside its base with None. Asks the trainer: call it in a thread.

    Raises:
        CurateError: E918 when a report or feedback cannot be read, E911 when the newest dataset was changed.
    """
    results = read_results(second.folder)
    other = read_results(first.folder) if first else None
    tests = {name for name, split in data.pins().items() if split == "test"}
    records = tuple(_paired_records(other, results, tests, {} if first else _base_answers(second, results)))
    split = str(results.report["headline"])
    if first is None or other is None:
        part, tables = split_of(results.report, split), results.tables
        rows, notes = tuple(map(_row, _entries(part))), tuple(results.report["notes"])
        return RunComparison(None, second, split, rows, records, notes, tuple(told(tables)), legend=legend(tables))
    pairs: dict[str | None, ScoreRow] = {}
    remarks, general, meaning = list[str](), list[str](), ""
    try:
        report = _ask_trainer([first.folder, second.folder])
        pairs, meaning = _pairs(split_of(report, split)), legend(report["tables"])
        remarks, general = [*report["notes"]], told(report["tables"])
    except CurateError as error:
        remarks.append(f"paired differences are not reported: {error.message}")
    # Scores of two splits are of different records, and their difference says nothing.
    if other.report["headline"] != split:
        remarks.append(f"{first.id} was judged on its {other.report['headline']} split, {second.id} on {split}")
    rows = tuple(_rows_against_run(other, results, pairs))
    changed = tuple(_differences(data, first, second))
    return RunComparison(first, second, split, rows, records, tuple(remarks), tuple(general), changed, legend=meaning)


def paired_rows(first: Path, second: Path, split: str) -> dict[str | None, ScoreRow]:
    """Compare the tuned models of two finished runs on one split; takes about a second.

    Returns a row for each category, under None that of the mean over them. Raises CurateError: E918 with what the
    trainer says, when it cannot compare them or their files cannot be read.
    """
    return _pairs(split_of(_ask_trainer([first, second]), split))


def _ask_trainer(folders: Sequence[Path]) -> dict[str, Json]:
    words = ["compare", *(str(folder.absolute()) for folder in folders), "--json"]
    document: dict[str, Json] = json.loads(trainer_output(words, "Evaluate the run again with `train eval`."))
    return document


def _entries(part: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    # All categories of a split, those without figures behind the others, and last the mean.
    mean = part.get("macro")
    return [*part.get("categories", ()), *part.get("unscored", ()), *([mean | _OF_NO_MEAN] if mean else ())]


def _pairs(part: Mapping[str, Json]) -> dict[str | None, ScoreRow]:
    # In the trainer's comparison the base is the first run, and the tuned model is the second. What has no score is
    # compared by likelihood there, which is not in the unit of scores.
    return {
        entry.get("category"): replace(
            row := _row(entry), base=None, first=row.base, metric="", bits=(None, None, None)
        )
        for entry in _entries(part) if entry.get("higher_is_better", True)
    }  # fmt: skip


def _row(entry: Mapping[str, Json]) -> ScoreRow:
    # A category of a report, with figures or without, or the mean over them, which has no counts of records.
    return ScoreRow(
        category=entry.get("category"),
        n=entry.get("n"),
        num_unscored=entry.get("num_unscored", 0),
        trivial=entry.get("trivial"),
        base=value_of(entry, "base"),
        second=value_of(entry, "tuned"),
        difference=value_of(entry, "difference"),
        low=value_of(entry, "difference", "low"),
        high=value_of(entry, "difference", "high"),
        better=entry.get("better"),
        worse=entry.get("worse"),
        verdict=entry["label"],
        metric=entry.get("metric", ""),
        is_uncalibrated=is_uncalibrated(entry),
        bits=(value_of(entry, _BITS, "base"), None, value_of(entry, _BITS, "tuned")),
    )


def _rows_against_run(first: Results, second: Results, pairs: Mapping[str | None, ScoreRow]) -> Iterator[ScoreRow]:
    # The scores of both runs are those of the records that they share, where these could be compared.
    before, after = (
        {entry.get("category"): entry for entry in _entries(split_of(side.report, side.report["headline"]))}
        for side in (first, second)
    )
    for name in {**before, **after, **pairs}:
        old, new = before.get(name, {}), after.get(name, {})
        row = pairs.get(name) or ScoreRow(name, first=value_of(old, "tuned"), second=value_of(new, "tuned"))
        base = value_of(new, "base")
        bits = (
            value_of(new, _BITS, "base"), value_of(old, _BITS, "tuned"), value_of(new, _BITS, "tuned"),
        )  # fmt: skip
        metric = (new or old).get("metric", "")
        # A difference is as doubtful as either of its scores.
        is_doubtful = is_uncalibrated(old) or is_uncalibrated(new)
        yield replace(row, base=base, metric=metric, is_uncalibrated=is_doubtful, bits=bits)


def _base_answers(run: Run, results: Results) -> Mapping[str, str]:
    # Where they cannot be read, scores are compared all the same.
    with suppress(CurateError):
        return read_base_answers(run.selected.folder, {outcome.id for outcome in results.outcomes})
    return {}


def _paired_records(
    first: Results | None, second: Results, never: Collection[str], base_answers: Mapping[str, str]
) -> Iterator[RecordPair]:
    # The validation records that `second` and the tuned model of `first` have both scored; with None its own base,
    # which said `base_answers`. None of the records `never`, which have become test records since: one that somebody
    # looks at is one no longer.
    others = {outcome.id: outcome for outcome in first.outcomes if outcome.split == "validation"} if first else {}
    for outcome in second.outcomes:
        name, after = outcome.id, outcome.score_tuned
        if outcome.split != "validation" or after is None or name in never:
            continue
        other = others.get(name)
        before = outcome.score_base if first is None else other.score_tuned if other else None
        is_same = other is None or (other.category == outcome.category and is_same_text(other.digest, outcome.digest))
        if before is not None and is_same:
            completion = other.completion if other else base_answers.get(name)
            yield RecordPair(name, outcome.category, before, after, completion, outcome.completion, outcome.digest)


def gate_command(first: Run | None, second: Run) -> str:
    """Return the command that fails a build where ``second`` is worse than ``first``, or than its own base.

    Of a series that is the run whose model is to be taken; "" where it names none.
    """
    if first is None:
        taken = second.selected
        return "" if taken.members else f"train eval {typed(taken.folder)} --dry-run --fail-on worse"
    return f"train compare {typed(first.folder)} {typed(second.folder)} --fail-on worse"


def _differences(data: ProjectData, first: Run, second: Run) -> list[RunDifference]:
    """Return how the second run differs from the first: its data, its recipe, its base, its seed."""
    facts = {"base weights": ("facts", "base"), "seed": ("seed",), "pairsmith": ("versions", "pairsmith")}
    sides = [(what, first.text_at(*path), second.text_at(*path)) for what, path in facts.items()]
    return [*_data(data, first, second), *_recipe(first, second), *(_fact(*side) for side in sides)]


def _data(data: ProjectData, first: Run, second: Run) -> Iterator[RunDifference]:
    digests = [run.text_at("dataset", "sha256") for run in (first, second)]
    names = [run.text_at("dataset", "name") or "not reported" for run in (first, second)]
    if digests[0] and digests[0] == digests[1]:
        yield RunDifference("data", f"same ({names[0]})", is_same=True)
        return
    before, after = (_manifest(data, run) for run in (first, second))
    if before is None or after is None:
        yield RunDifference("data", f"{names[0]} -> {names[1]}; a manifest is gone, so counts are not reported")
        return
    yield RunDifference("data", f"{names[0]} -> {names[1]}")
    for split in SPLITS:
        count = _count(f"  {split}", getattr(before.counts, split), getattr(after.counts, split), " records")
        # A text that changed does not show in the counts.
        num_changed = _num_changed(data, names[0], names[1], split)
        if num_changed:
            text = f"{count.text}, {counted(num_changed, 'record')} changed"
            count = RunDifference(count.what, text.replace(" (+0)", ""))
        yield count
    for code in sorted({*before.drops, *after.drops}):
        yield _count(f"  left out {code}", before.drops.get(code, 0), after.drops.get(code, 0))
    is_same = before.frozen_test == after.frozen_test
    text = "same" if is_same else "other records: scores of test are not of one set"
    yield RunDifference("  test set", text, is_same)


def _count(what: str, before: int, after: int, unit: str = "") -> RunDifference:
    return RunDifference(what, f"{before:,} -> {after:,}{unit} ({after - before:+,})", is_same=before == after)


def _num_changed(data: ProjectData, first: str, second: str, split: str) -> int:
    # How many records of both datasets say something else in the second; 0 for files that take long to read.
    rows: list[dict[str, Json]] = []
    for name in (first, second):
        try:
            with open_file(inside(data.root, data.root / DATASETS) / name / f"{split}.jsonl", most=_MOST_BYTES) as file:
                # Where a record stands in its file says nothing of what it says.
                lines = (json.loads(line) for line in file)
                rows.append({line["id"]: {key: line[key] for key in line if key not in _NO_CONTENT} for line in lines})
        except (OSError, ValueError, KeyError, TypeError):
            return 0
    before, after = rows
    return sum(name in after and after[name] != row for name, row in before.items())


def _recipe(first: Run, second: Run) -> Iterator[RunDifference]:
    before, after = (dict(_flat(run.about.get("recipe"))) for run in (first, second))
    if not before or not after:
        yield RunDifference("recipe", "not reported")
        return
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    if not changed:
        yield RunDifference("recipe", "same", is_same=True)
    for key in changed:
        old, new = ("none" if side.get(key) is None else str(side[key]) for side in (before, after))
        yield RunDifference(f"recipe {key}", f"{old} -> {new}")


def _flat(value: Json, prefix: str = "") -> Iterator[tuple[str, Json]]:
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _fact(what: str, before: str, after: str) -> RunDifference:
    if not before or not after:
        return RunDifference(what, "not reported")
    if before == after:
        return RunDifference(what, f"same ({before[:12]})", is_same=True)
    return RunDifference(what, f"{before[:12]} -> {after[:12]}")


def _manifest(data: ProjectData, run: Run) -> Manifest | None:
    # The dataset may be gone, or another one may stand in its place.
    import hashlib

    name, digest = run.text_at("dataset", "name"), run.text_at("dataset", "sha256")
    if not name or "/" in name or name.startswith("."):
        return None
    folder = inside(data.root, data.root / DATASETS) / name
    try:
        manifest = read_manifest(folder)
    except CurateError:
        return None
    # A dataset of the same name may have been written anew since the run.
    is_it = hashlib.sha256(read_file(folder / FILE_NAME, most=MOST_DOCUMENT)).hexdigest() == digest
    return manifest if is_it else None
