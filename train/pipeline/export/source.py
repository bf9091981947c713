"""A finished run, opened again for export: everything that it was made of is proved to be as it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.base.errors import TrainError
from train.data.dataset import Dataset, Row, open_dataset
from train.data.rendering import Renderer
from train.evaluate.predictions import PREDICTIONS, Scored, pair, read_predictions
from train.model import check_folder, find_base
from train.pipeline.run.folder import RECIPE, RUN, read_run, recipe_folder, weights_digest
from train.pipeline.run.prepare import open_renderer
from train.recipe import Recipe, load_recipe
from train.report import CardFacts, Report, card_facts
from train.report.evaluation import CategorySpec, category_specs


@dataclass(frozen=True)
class Source:
    """A finished run: its record and report, its data, the renderer of its base, and where its weights are.

    ``reads`` is how many positions the model has, None without a limit. No weight is loaded.
    """

    record: dict[str, Any]
    recipe: Recipe
    folder: Path
    report: Report
    dataset: Dataset
    categories: dict[str, CategorySpec]
    reads: int | None
    renderer: Renderer
    tuned: Path
    answers: list[Scored]

    @property
    def is_lora(self) -> bool:
        """True where the run made an adapter, and false where it made a whole model."""
        return self.tuned.name == "adapter"

    @property
    def name(self) -> str:
        """The run's id."""
        return str(self.record["id"])

    @property
    def facts(self) -> CardFacts:
        """What the model card says of the run."""
        return card_facts(self.record, self.dataset.manifest)

    def rows(self) -> list[Row]:
        """The records that were answered: validation, then test, without raw text."""
        return [row for split in ("validation", "test") for row in self.dataset.splits[split] if row.messages]


@dataclass(frozen=True)
class Written:
    """What an export made: where a model is that can be loaded again, if there is one, and the command that uses it.

    In the command FOLDER stands for the place of the export.
    """

    model: Path | None
    command: str = ""


def open_source(run: Path, dataset: Path | None = None) -> Source:
    """Return a finished run; ``dataset`` says where its data lies now.

    Raises:
        TrainError: E942 unfinished-run; E952 run-changed where data, base, tokenizer or template are not those that the
            run was made of; E934 not-finite; and what opening each part raises.
    """
    import torch

    record = _read_finished(run)
    report = Report.load(run)
    sides = read_predictions(run / PREDICTIONS)
    # Raises where one of them is not finite.
    pair(*sides)
    recipe, folder = load_recipe(run / RECIPE, is_own=True), recipe_folder(run)
    opened = _open_same_dataset(record, dataset)
    tuned = run / record["saved"]
    check_folder(tuned, needs_weights=record["saved"] == "model")
    if weights_digest(find_base(recipe.base, folder)) != record["facts"]["base"]:
        raise _changed(run, f"the weights of the base {recipe.base}")
    if isinstance(recipe.threads, int):
        torch.set_num_threads(recipe.threads)
    renderer, reads = open_renderer(opened, recipe, folder=folder)
    if renderer.digest != record["facts"]["tokenizer and template"]:
        raise _changed(run, "the tokenizer or the chat template of the base")
    categories = category_specs(opened.manifest.get("categories", {}))
    return Source(record, recipe, folder, report, opened, categories, reads, renderer, tuned, sides[1])


def _read_finished(run: Path) -> dict[str, Any]:
    if not (run / RUN).is_file():
        raise TrainError(
            "E942 unfinished-run", f"{run} has no run.json, so it is not a run", "name a folder such as runs/ID"
        )
    record = read_run(run)
    if record.get("status") != "finished":
        message = f"{run}: the run is {str(record.get('status'))[:40]!r}, not finished"
        raise TrainError("E942 unfinished-run", message, "train run DATASET --resume --out goes on with a stopped one")
    facts = record.get("facts")
    has_facts = isinstance(facts, dict) and {"base", "tokenizer and template"} <= facts.keys()
    counts = [record.get(name) for name in ("examples", "step")]
    if (
        not has_facts
        or record.get("saved") not in ("adapter", "model")
        or not all(isinstance(count, int) for count in counts)
        or not record.get("id")
    ):
        raise TrainError("E942 unfinished-run", f"{run / RUN} does not say what the run made", "train it again")
    return record


def _open_same_dataset(record: dict[str, Any], moved: Path | None) -> Dataset:
    recorded = record.get("dataset")
    path = moved or Path(str(recorded.get("path")) if isinstance(recorded, dict) else "")
    if not (path / "manifest.json").is_file():
        raise TrainError(
            "E912 bad-dataset", f"the run's data set {path} is not there", "--dataset says where it is now"
        )
    opened = open_dataset(path)
    if not isinstance(recorded, dict) or opened.digest != recorded.get("sha256"):
        raise TrainError(
            "E911 dataset-changed", f"{path} is not the data set of the run", "--dataset names the one that is"
        )
    return opened


def _changed(run: Path, what: str) -> TrainError:
    return TrainError("E952 run-changed", f"{run}: {what} changed since the run", "bring back what the run was made of")
