"""Several trainings one after another: each begins from the model of the one before, all have one test set.

That is the test set of DATASET and, beside it, of each export that a stage is trained on, so that the columns of the
table can be held against one another. A training record that is in it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from train.base import console
from train.base.errors import TrainError
from train.base.run_folder import RECIPE, SERIES, read_run
from train.base.storage import digest_of
from train.data.dataset import Dataset, Row, open_dataset, open_same_dataset
from train.data.overlap import NUM_WORDS, find_contaminated, flag_exam_copies
from train.evaluate.general import general_rows
from train.evaluate.predictions import PREDICTIONS, read_predictions
from train.recipe import Recipe, StageRecipe, load_recipe
from train.report import Report, Rules, build_report
from train.report.series import StageFacts, stages_table


@dataclass(frozen=True)
class Stage:
    """One training: what it changes in the recipe, what it trains on with the test set of all, and its ``facts``."""

    changes: dict[str, Any]
    data: Dataset
    facts: StageFacts


def open_stages(recipe: Recipe, folder: Path, dataset: Dataset) -> list[Stage]:
    """Return the stages of ``recipe`` on ``dataset``; says what gives the test set away.

    Paths are read from ``folder``. Raises TrainError "E883 bad-stage", and those of `open_dataset`.
    """
    names = [stage.name or f"stage-{number}" for number, stage in enumerate(recipe.stage, 1)]
    if taken := [name for name in names if names.count(name) > 1]:
        message = f"two stages need the same folder, {taken[0]!r}"
        raise TrainError("E883 bad-stage", message, "Give each stage a name of its own.")
    opened: dict[str | None, Dataset] = {None: dataset}
    for name, stage in zip(names, recipe.stage, strict=True):
        if stage.data not in opened:
            opened[stage.data] = _open_stage_data(folder / str(stage.data), name, dataset)
    # An export that is DATASET itself is opened once.
    sources = list({id(data): data for data in opened.values()}.values())
    categories: dict[str, Any] = {}
    for source in sources:
        for name, entry in source.manifest.get("categories", {}).items():
            if _scorer(categories.setdefault(name, entry)) != _scorer(entry):
                raise TrainError(
                    "E883 bad-stage", f"the category {name!r} of {source.path} is scored in another way elsewhere",
                    "Give it the same scorer in both workspaces, or another name in one.",
                )  # fmt: skip
    test_sets = {split: [row for data in sources for row in data.splits[split]] for split in ("validation", "test")}
    flagged = sorted(name for data in sources for name in data.flagged_ids())
    stages = list[Stage]()
    for name, stage in zip(names, recipe.stage, strict=True):
        data = opened[stage.data]
        train, facts = _training_rows(name, stage.data or str(dataset.path), data, test_sets)
        digest = digest_of([data.digest, *(source.digest for source in sources)])
        manifest = data.manifest | {
            "categories": categories, "flagged": flagged,
            "files": {f"{split}.jsonl": {"sha256": f"{digest} {split}"} for split in ("train", *test_sets)},
        }  # fmt: skip
        changes = _changes(stage, is_first=not stages, is_text=facts.is_text)
        shared = Dataset(dataset.path, manifest, {"train": train, **test_sets}, digest, dataset.remarks)
        stages.append(Stage({"base": recipe.base, **changes}, shared, facts))
    return stages


def open_run_dataset(run: Path, record: dict[str, Any], moved: Path | None) -> Dataset:
    """Return the dataset of a run; that of a stage lies in no folder, so it is put together as its series did.

    ``moved`` is where DATASET is now. Raises as `open_same_dataset` and `open_stages` do.
    """
    run = run.resolve()
    series = read_run(run.parent, SERIES) if (run.parent / SERIES).is_file() else {}

    def read(path: Path) -> Dataset:
        recipe, dataset = load_recipe(run.parent / RECIPE, is_recorded=True), open_dataset(path)
        stages = open_stages(recipe, Path(series["recipe_folder"]), dataset)
        return {stage.facts.name: stage.data for stage in stages}.get(run.name, dataset)

    return open_same_dataset(record, moved, read if series.get("kind") == "stages" else open_dataset)


def _changes(stage: StageRecipe, *, is_first: bool, is_text: bool) -> dict[str, Any]:
    # All tokens of raw text are trained by any objective, and what is measured stays the same.
    objective = stage.objective or ("sft" if stage.data is not None and is_text else None)
    changes: dict[str, Any] = {
        "stage": [], "objective": objective, "learning_rate": stage.learning_rate,
        "num_train_epochs": stage.num_train_epochs, "max_steps": stage.max_steps, "mixing.replay": stage.replay,
        "mixing.replay_share": stage.replay_share, "continue_adapter": None if is_first else stage.continued,
    }  # fmt: skip
    return {key: value for key, value in changes.items() if value is not None}


def _scorer(entry: Any) -> Any:
    return [entry.get(key) for key in ("scorer", "options", "contract")] if isinstance(entry, dict) else entry


def _open_stage_data(path: Path, name: str, dataset: Dataset) -> Dataset:
    """Return the data of a stage, whose records have names of their own."""
    if path.is_dir():
        data = open_dataset(path)
        if data.digest == dataset.digest:
            return dataset
    else:
        try:
            rows = general_rows(path)
        except TrainError as error:
            # Its hint speaks of the text that is measured.
            hint = 'Name a text or JSONL file, or what `curate export` wrote, as "data" of the stage.'
            raise TrainError("E883 bad-stage", f"{name}: {error.message}", hint) from None
        splits = {"train": rows, "validation": [], "test": []}
        digest = digest_of([row.text for row in rows])
        data = Dataset(path, {"objective_hint": "domain", "name": path.name}, splits, digest)
    splits = {
        split: [replace(row, id=f"{name}/{row.id}", cluster=f"{name}/{row.cluster}") for row in rows]
        for split, rows in data.splits.items()
    }
    flagged = sorted(f"{name}/{record}" for record in data.flagged_ids())
    return replace(data, splits=splits, manifest=data.manifest | {"flagged": flagged})


def _training_rows(
    name: str, source: str, data: Dataset, test_sets: Mapping[str, Sequence[Row]]
) -> tuple[list[Row], StageFacts]:
    exam, rows = [row for split in test_sets.values() for row in split], data.splits["train"]
    train = [row for row, is_same in zip(rows, flag_exam_copies(rows, exam), strict=True) if not is_same]
    if not train:
        raise TrainError("E883 bad-stage", f"{name}: no record of {source} is left to train on", "Name other data.")
    # Within one export `curate` has seen to it.
    checked = {id(row) for split in test_sets for row in data.splits[split]}
    exam = [row for row in exam if id(row) not in checked]
    shared = {id(exam[index]) for index in find_contaminated(train, exam)}
    num_left_out = len(rows) - len(train)
    if num_left_out:
        console.info(f"warning: {name}: {num_left_out} of {len(rows):,} training records are exam records; left out")
    if shared:
        named = console.join_names([row.id for row in test_sets["validation"] if id(row) in shared], 5)
        console.info(
            f"warning: {name}: {len(shared)} of {len(exam):,} exam records share {NUM_WORDS} words in a row with "
            f"training records, of validation {named or 'none'}"
        )
    return train, StageFacts(name, num_left_out, len(shared), all(row.text is not None for row in train))


def stage_report(facts: Sequence[StageFacts], folders: Sequence[Path], name: str) -> Report:
    """Return the report of the last stage's model against the first one's base, called ``name``."""
    reports = [Report.load(folder) for folder in folders]
    first, last = reports[0], reports[-1]
    base, tuned = read_predictions(folders[0] / PREDICTIONS)[0], read_predictions(folders[-1] / PREDICTIONS)[1]
    # Likelihoods of two objectives may be of other tokens of a record; they are left out where they are, and counted.
    sizes = {(record.split, record.id): record.num_tokens for record in base}
    incomparable = {key for record in tuned if sizes.get(key := (record.split, record.id)) != record.num_tokens}
    unknown: dict[str, Any] = {"nll": None, "num_tokens": 0, "num_bytes": 0, "rejected": None}
    base, tuned = (
        [replace(record, **unknown) if (record.split, record.id) in incomparable else record for record in side]
        for side in (base, tuned)
    )
    remarks = [*last.remarks, "The loss curve, over-fitting, what is known by heart and the hardest records are those "
               "of the last stage; what people prefer is told against the base of the first one."]  # fmt: skip
    if incomparable:
        remarks.append(
            f"{len(incomparable)} records have no bits per byte here: the objectives of the first and the last stage "
            "count other tokens of them."
        )
    report = build_report(
        base, tuned, run=last.run.model_copy(update={"id": name, "base_model": first.run.base_model}),
        curve=last.curve, rules=Rules(last.margin, last.resamples),
        remarks=remarks, tables=last.measured().tables,
    )  # fmt: skip
    num_records = [int(read_run(folder)["examples"]) for folder in folders]
    return report.with_tables([stages_table(facts, num_records, reports)])
