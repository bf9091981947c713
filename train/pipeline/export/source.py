"""A finished run, opened again for export: everything that it was made of is proved to be as it was.

Also its tuned weights, merged and compared by what they answer; and the tokens that a program which is sent text makes
of a record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.base.errors import TrainError
from train.base.run_folder import RECIPE, read_finished, recipe_folder, weights_digest
from train.data.dataset import Dataset, Row, sample_rows
from train.data.rendering import Prompt, Renderer
from train.evaluate.evaluation import predict
from train.evaluate.predictions import PREDICTIONS, Scored, read_predictions
from train.model import (
    check_finite,
    check_folder,
    computing,
    find_base,
    load_adapter,
    load_base,
    pick_dtype,
    root_base,
)
from train.pipeline.prepare import open_renderer
from train.pipeline.stages import open_run_dataset
from train.recipe import Recipe, load_recipe
from train.report import Report
from train.report.tables import ReportPart


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
    def base(self) -> Path:
        """The folder or the .gguf file of the base."""
        return find_base(self.recipe.base, self.folder)

    @property
    def stop_texts(self) -> list[str]:
        """The text of each token that ends an answer."""
        return [self.renderer.encoder.decode([number], has_control=True) for number in self.renderer.stop_ids]

    def rows(self) -> list[Row]:
        """The records that were answered: validation, then test, without raw text."""
        return [row for split in ("validation", "test") for row in self.dataset.splits[split] if row.messages]


EXPORT = "export.json"


class GgufProof(ReportPart):
    """A .gguf file, and what llama.cpp was seen to do with it."""

    file: str
    sha256: str
    llama_cpp: str
    """Version of xllamacpp, which has llama.cpp in it."""
    num_records: int
    """Validation records whose prompts have the same tokens."""
    num_tokens: int
    """Places in the answers to validation records where the run's likeliest token leads the next one by more than
    `tolerance`.
    """
    num_same: int
    """Those of them where the file names the same token: all, but for files of fewer bits."""
    tolerance: float
    """In nats."""


class ExportManifest(ReportPart, title="export.json of `train export`"):
    """What was exported, and of what."""

    version: Literal[1] = 1
    to: str
    run: str
    dtype: str
    """Number format of the weights, or of a .gguf file."""
    dataset: str
    """SHA-256 of the dataset's manifest."""
    weights: str
    """SHA-256 over what the run saved."""
    gguf: GgufProof | None = None


@dataclass(frozen=True)
class Written:
    """What an export made: where a model is that can be loaded again, if there is one, and the command that uses it.

    In the command FOLDER stands for the place of the export. ``proof`` is that of a .gguf file.
    """

    model: Path | None
    command: str = ""
    proof: GgufProof | None = None


def inexpressible(what: str, hint: str = "Use --to merged.") -> TrainError:
    """Return the refusal of a run that a target cannot express."""
    return TrainError("E905 cannot-express", what, hint)


def open_source(run: Path, dataset: Path | None = None) -> Source:
    """Return a finished run; ``dataset`` says where its data lies now.

    Raises TrainError: E942 unfinished-run; E952 run-changed where data, base, tokenizer or template are not those that
    the run was made of; and what opening each part raises.
    """
    import torch

    record = read_finished(run)
    sides = read_predictions(run / PREDICTIONS)
    recipe, folder = load_recipe(run / RECIPE, is_own=True), recipe_folder(run)
    opened = open_run_dataset(run, record, dataset)
    tuned = run / record["saved"]
    check_folder(tuned, needs_weights=record["saved"] == "model")
    if isinstance(recipe.threads, int):
        torch.set_num_threads(recipe.threads)
    renderer, reads = open_renderer(opened, recipe, folder=folder)
    source = Source(record, recipe, folder, Report.load(run), opened, reads, renderer, tuned, sides[1])
    for what, digest in (("base", weights_digest(source.base)), ("tokenizer and template", renderer.digest)):
        if digest != record["facts"][what]:
            message, hint = f"{run}: {what} changed since the run", "Bring back what the run was made of."
            raise TrainError("E952 run-changed", message, hint)
    return source


def tuned_model(source: Source) -> Any:
    """Return the tuned model in float32, without adapters: merged where the run made one; raises as `reload` does."""
    model = reload(source, source.tuned)
    if source.is_lora:
        model = model.merge_and_unload()
        check_finite(model.named_parameters(), str(source.tuned))
    return model


def reload(source: Source, folder: Path) -> Any:
    """Return the model or the base with the adapter of ``folder``, loaded as others would load it."""
    device = source.recipe.device
    if not (folder / "adapter_config.json").is_file():
        return load_base(str(folder), device=device)[0]
    return load_adapter(load_base(str(root_base(source.recipe, source.folder)), device=device)[0], folder)


def compare_answers(source: Source, model: Any, number: int) -> tuple[int, list[str]]:
    """Return how many recorded greedy answers were compared with ``model``'s, at most ``number``, and ids that differ.

    They are records of the validation split, or of test where validation has none.
    """
    recorded = {answer.id: answer for answer in source.answers if answer.is_generated}
    rows = [row for row in source.rows() if row.id in recorded]
    rows = [row for row in rows if recorded[row.id].split == recorded[rows[0].id].split]
    rows, limits = sample_rows(rows, number), source.recipe.eval
    device = next(model.parameters()).device
    with computing(device, pick_dtype(source.recipe, device, 0)):
        predictions = predict(
            model, source.renderer, rows, max_new_tokens=limits.max_new_tokens, batch_tokens=limits.batch_tokens,
            max_reasoning_tokens=limits.max_reasoning_tokens,
        )  # fmt: skip
    return len(rows), [prediction.id for prediction in predictions if prediction.text != recorded[prediction.id].text]


def served_prompt(renderer: Renderer, prompt: Prompt) -> str:
    """Return a record's prompt as text that holds every token."""
    return renderer.served_bos + prompt.text


def ids_served_differently(renderer: Renderer, rows: Iterable[Row]) -> list[str]:
    """Return the ids of records that a server would ask in other tokens than evaluation did.

    Control tokens that stand in data are mere text in training, where the recipe allows them; a server that is sent
    such a text takes them for structure.
    """
    return [
        row.id
        for row in rows
        if (prompt := renderer.prompt(row)) is not None
        and renderer.tokenizer(served_prompt(renderer, prompt), add_special_tokens=False).input_ids != prompt.ids
    ]
