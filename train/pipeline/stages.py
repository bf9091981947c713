"""Several trainings one after another as a series: each begins from the model of the one before, all have one exam.

The exam is that of DATASET, and beside it that of each export that a stage is trained on, so the columns of the table
can be held against one another. What a stage trains on lies beside it, as an export of its own.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from train.base import console
from train.base.errors import TrainError
from train.base.run_folder import read_run
from train.base.storage import sha256_of, write_whole, writing
from train.data.dataset import MANIFEST, VERSION, Dataset, Row, open_dataset
from train.data.overlap import NUM_WORDS, is_same_text, overlapping
from train.evaluate.evaluation import general_rows
from train.evaluate.predictions import PREDICTIONS, Scored, read_predictions
from train.model.batch import BatchSampler
from train.pipeline.prepare import prepare
from train.pipeline.series import BEGIN_ANEW, Kind, Member, Outcome, Series
from train.recipe import Recipe, StageRecipe, load_recipe
from train.report import Report, Rules, build_report
from train.report.stages import StageFacts, stages_of

_MOST_NAMED = 20
_OTHER_TOKENS = (
    "{} records have no bits per byte here: the objectives of the first and the last stage count other tokens of them."
)
_OF_BASE = (
    "What people prefer is told against the base of the first stage; the report of a stage tells it against its own."
)
_OF_THE_LAST = "The loss curve, over-fitting, what is known by heart and the data map are those of the last stage."


@dataclass(frozen=True)
class StageSeries(Kind):
    """The stages of a recipe."""

    name = "stages"

    def check(self, recipe: Recipe) -> None:
        """Refuse no stage, and stages whose folders would be the same."""
        names = [_name(stage, number) for number, stage in enumerate(recipe.stage)]
        if not names:
            raise TrainError("E883 bad-stage", "the recipe has no stage", BEGIN_ANEW)
        folders = Counter([*names, *map(_data_folder, names)])
        if taken := [name for name, number in folders.items() if number > 1]:
            raise TrainError("E883 bad-stage", f"two stages need the same folder, {taken[0]!r}: one for a stage of "
                             "that name, or for the data of one", "Give each stage a name of its own.")  # fmt: skip

    def steps(self, series: Series, whole: BatchSampler) -> list[BatchSampler]:
        """Return the steps of each stage, after its data were checked as those of a run are."""
        steps, folder = [], Path(series.record.recipe_folder)
        with tempfile.TemporaryDirectory() as work:
            for number, (path, _) in enumerate(_parts(series, Path(work), is_said=True)):
                # An adapter that is continued is not there yet, and decides nothing about the steps.
                changes = _changes(series, number, series.recipe.base) | {"continue_adapter": False}
                steps.append(prepare(path, load_recipe(series.recipe, changes), folder=folder).steps)
        return steps

    def conclude(self, series: Series) -> Outcome:
        """Run the stages one after another, and report the last one against the first one's base."""
        parts = _parts(series, series.folder, is_said=False)
        folders: list[Path] = []
        for number, (path, facts) in enumerate(parts):
            base = str(folders[-1].resolve()) if folders else series.recipe.base
            changes = _changes(series, number, base)
            folders += series.run([Member(facts.name, changes, path)]).values()
        reports = [Report.load(folder) for folder in folders]
        first, last = reports[0], reports[-1]
        base_side, _ = read_predictions(folders[0] / PREDICTIONS)
        _, tuned_side = read_predictions(folders[-1] / PREDICTIONS)
        run = last.run.model_copy(update={"id": series.record.id, "base_model": first.run.base_model})
        base_side, tuned_side, num_others = _comparable(base_side, tuned_side)
        remarks = [
            *open_dataset(series.dataset).remarks,
            *last.remarks,
            _OF_THE_LAST,
            *([_OF_BASE] if last.preferences else []),
            *([_OTHER_TOKENS.format(num_others)] if num_others else []),
        ]
        report = build_report(
            base_side, tuned_side, run=run, curve=last.curve, default_metric=last.default_metric,
            rules=Rules(last.margin, last.fewest, last.resamples), remarks=remarks, noise=first.noise,
            data_map=last.data_map, fits=last.fits, memory=last.memory,
        )  # fmt: skip
        every = [
            replace(facts, num_records=int(read_run(folder)["examples"]))
            for (_, facts), folder in zip(parts, folders, strict=True)
        ]
        return Outcome(report.model_copy(update={"stages": stages_of(every, reports)}), folders[-1].name)


def _changes(series: Series, number: int, base: str) -> dict[str, Any]:
    stage = series.recipe.stage[number]
    named = {"objective": stage.objective, "learning_rate": stage.learning_rate,
             "num_train_epochs": stage.num_train_epochs, "max_steps": stage.max_steps, "mixing.replay": stage.replay,
             "mixing.replay_share": stage.replay_share}  # fmt: skip
    changes: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if stage.objective is None and stage.data is not None and not _data_path(series, stage).is_dir():
        # All tokens of raw text are trained by any objective, and what is measured stays the same.
        changes["objective"] = "sft"
    if number:
        changes["continue_adapter"] = stage.continued
    return {"stage": [], "base": base, **changes}


def _data_path(series: Series, stage: StageRecipe) -> Path:
    return Path(series.record.recipe_folder) / str(stage.data)


def _parts(series: Series, work: Path, *, is_said: bool) -> list[tuple[Path, StageFacts]]:
    """Write what each stage trains on below ``work``; say what of it is left out, and what gives the exam away."""
    stages, own = series.recipe.stage, open_dataset(series.dataset)
    opened: dict[str, Dataset] = {}
    for number, stage in enumerate(stages):
        if stage.data is not None and stage.data not in opened:
            opened[stage.data] = _open(_data_path(series, stage), _name(stage, number), own)
    exams = [own, *(data for data in opened.values() if data is not own)]
    exam = {split: [row for data in exams for row in data.splits[split]] for split in ("validation", "test")}
    parts = []
    for number, stage in enumerate(stages):
        data = own if stage.data is None else opened[stage.data]
        shown = stage.data or str(series.dataset)
        parts.append(_write_part(work, _name(stage, number), shown, data, exams, exam, is_said=is_said))
    return parts


def _open(path: Path, name: str, own: Dataset) -> Dataset:
    # The data of a stage, whose records have names of their own.
    if not path.is_dir():
        try:
            texts = general_rows(path)
        except TrainError as error:
            # Its hint speaks of the text that is measured.
            hint = 'Name a text or JSONL file, or what `curate export` wrote, as "data" of the stage.'
            raise TrainError("E883 bad-stage", f"{name}: {error.message}", hint) from None
        rows = [replace(row, id=f"{name}/{row.id}", cluster=f"{name}/{row.cluster}") for row in texts]
        manifest = {"objective_hint": "domain", "name": path.name}
        return Dataset(path, manifest, {"train": rows, "validation": [], "test": []}, "")
    opened = open_dataset(path)
    if opened.digest == own.digest:
        return own
    splits = {
        split: [replace(row, id=f"{name}/{row.id}", cluster=f"{name}/{row.cluster}") for row in rows]
        for split, rows in opened.splits.items()
    }
    # Only an export that counts such findings says which records they are of.
    flagged = sorted(f"{name}/{record}" for record in opened.flagged())
    return replace(opened, splits=splits, manifest=opened.manifest | {"flagged": flagged})


def _comparable(base: Sequence[Scored], tuned: Sequence[Scored]) -> tuple[list[Scored], list[Scored], int]:
    # Likelihoods of two objectives may be of other tokens of a record; they are left out where they are, and counted.
    sizes = {(record.split, record.id): record.num_tokens for record in base}
    other = {key for record in tuned if sizes.get(key := (record.split, record.id)) != record.num_tokens}
    unknown: dict[str, Any] = {"nll": None, "num_tokens": 0, "num_bytes": 0, "rejected": None}
    first, last = (
        [replace(record, **unknown) if (record.split, record.id) in other else record for record in side]
        for side in (base, tuned)
    )
    return first, last, len(other)


def _name(stage: StageRecipe, number: int) -> str:
    return stage.name or f"stage-{number + 1}"


def _data_folder(name: str) -> str:
    return f"data-{name}"


def _write_part(
    work: Path, name: str, shown: str, data: Dataset, exams: Sequence[Dataset], exam: Mapping[str, Sequence[Row]],
    *, is_said: bool,
) -> tuple[Path, StageFacts]:  # fmt: skip
    rows, path = data.splits["train"], work / _data_folder(name)
    every = [row for split in exam.values() for row in split]
    same = is_same_text(rows, every)
    train = [row for row, is_same in zip(rows, same, strict=True) if not is_same]
    # Within one export `curate` has seen to it.
    own = {id(row) for split in ("validation", "test") for row in data.splits[split]}
    others = [row for row in every if id(row) not in own]
    shared = [others[index] for index in overlapping(train, others)]
    if not train:
        raise TrainError("E883 bad-stage", f"{name}: no record of {shown} is left to train on", "Name other data.")
    if is_said and any(same):
        console.talk(f"warning: {name}: {sum(same)} of {len(rows):,} training records are exam records; left out")
    validation = {id(row) for row in exam["validation"]}
    named = [row.id for row in shared if id(row) in validation][:_MOST_NAMED]
    if is_said and shared:
        of_validation = f", of validation {console.join_names(named, 5)}" if named else ""
        console.talk(
            f"warning: {name}: {len(shared)} of {len(others):,} exam records share {NUM_WORDS} words in a row with "
            f"training records{of_validation}"
        )
    _write_export(path, {"train": train, **exam}, data, exams)
    return path, StageFacts(
        name, shown, sum(same), len(shared), named, is_text=all(row.text is not None for row in train)
    )


def _write_export(
    path: Path, splits: Mapping[str, Sequence[Row]], data: Dataset, exams: Sequence[Dataset]
) -> None:  # fmt: skip
    categories: dict[str, Any] = {}
    for each in exams:
        for name, entry in each.manifest.get("categories", {}).items():
            scored = [{key: of.get(key) for key in ("scorer", "options", "contract")} if isinstance(of, dict) else of
                      for of in (categories.get(name, entry), entry)]  # fmt: skip
            if scored[0] != scored[1]:
                first, second = (json.dumps(of, sort_keys=True) for of in scored)
                raise TrainError(
                    "E883 bad-stage", f"the category {name!r} is scored by {second} in {each.path}, and by {first} in "
                    "another of these exports", "Give it the same scorer in both workspaces, or another name in one.",
                )  # fmt: skip
            categories.setdefault(name, entry)
    files, written = {}, {}
    for split, rows in splits.items():
        lines = written[f"{split}.jsonl"] = [json.dumps(_line_of(row)) + "\n" for row in rows]
        raw = "".join(lines).encode()
        files[f"{split}.jsonl"] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw), "records": len(rows)}
    flagged = sorted(name for each in exams if each.digest for name in each.flagged())
    manifest = {
        "version": VERSION, "name": data.manifest.get("name"), "categories": categories, "files": files,
        "objective_hint": data.manifest.get("objective_hint", "sft"), "flagged": flagged,
        "slices": exams[0].manifest.get("slices"),
    }  # fmt: skip
    text = json.dumps(manifest, indent=1) + "\n"
    if (path / MANIFEST).is_file() and sha256_of(path / MANIFEST) != hashlib.sha256(text.encode()).hexdigest():
        raise TrainError("E870 series-changed", f"{data.path} is no longer what the series was begun with",
                         "Bring it back as it was, or begin a new series.")  # fmt: skip
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    for name, lines in (*written.items(), (MANIFEST, [text])):
        write_whole(path / name, lines)


def _line_of(row: Row) -> dict[str, Any]:
    kind = "domain" if row.messages is None else "preference" if row.answers else "chat"
    line: dict[str, Any] = {
        "id": row.id, "kind": kind, "category": row.category, "cluster": row.cluster, "messages": row.messages,
        "tools": row.tools, "text": row.text, "source": row.source, "weight": None if row.weight == 1 else row.weight,
    }  # fmt: skip
    line |= {} if row.slices is None else {"slices": row.slices}
    return line | ({"answers": [vars(answer) for answer in row.answers]} if row.answers else {})
