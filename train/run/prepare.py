"""Everything that can be wrong is found here, before a step is computed: digests, recipe, model, template, every
row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train import say
from train.batch import MICRO_BATCH_TOKENS, Steps
from train.choices import questions
from train.compute import can_pack
from train.data import Dataset, Row, open_dataset
from train.errors import TrainError
from train.evaluate import CategorySpec, asked_by_choice, category_specs, readable_general
from train.model import add_lora, eos_ids, find_base, load_base, pick_dtype, pick_threads
from train.recipe import CheckpointRecipe, Objective, Recipe, recipe_digest
from train.render import Example, Renderer
from train.run.folder import versions, weights_digest

if TYPE_CHECKING:
    import torch

_MOST_NAMED = 10


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to begin; ``recipe`` has no "auto" left where the result or the evaluation depends on it."""

    dataset: Dataset
    recipe: Recipe
    objective: Objective
    categories: dict[str, CategorySpec]
    model: Any
    tokenizer: Any
    renderer: Renderer
    examples: list[Example]
    steps: Steps
    base_path: Path
    device: torch.device
    dtype: torch.dtype
    threads: int
    facts: dict[str, Any]


def prepare(dataset_path: Path, recipe: Recipe, *, folder: Path | None = None) -> Prepared:
    """Return the run of ``recipe`` on a dataset, with the base loaded (adapters not yet added).

    ``folder`` is that of the recipe file, from which its relative paths are read. Raises TrainError for whatever
    stands in the way; nothing has been written by then.
    """
    import torch

    dataset = open_dataset(dataset_path)
    categories = category_specs(dataset.manifest.get("categories", {}))
    if not dataset.splits["train"]:
        raise TrainError(
            "E912 bad-dataset", f"{dataset_path}: no record to train on", "export a dataset with a train split"
        )
    model, tokenizer = load_base(recipe.base, device=recipe.device, folder=folder)
    num_parameters = sum(p.numel() for p in model.parameters())
    device = next(model.parameters()).device
    threads, dtype = pick_threads(recipe, num_parameters), pick_dtype(recipe, device, num_parameters)
    torch.set_num_threads(threads)
    recipe = recipe.model_copy(update={"dtype": str(dtype).removeprefix("torch."), "threads": threads})
    if recipe.micro_batch_tokens == "auto":
        recipe = recipe.model_copy(update={"micro_batch_tokens": MICRO_BATCH_TOKENS if device.type == "cpu" else 8192})
    objective = _objective(recipe, dataset)
    renderer = make_renderer(model, tokenizer, recipe, objective)
    examples = _examples(renderer, dataset.splits["train"])
    _check_evaluation(renderer, dataset, categories, general_path(recipe, folder))
    steps = Steps(examples, recipe, is_packed=can_pack(model))
    base_path = find_base(recipe.base, folder)
    facts = _facts(dataset, recipe, tokenizer, renderer, steps, base_path, device)
    return Prepared(
        dataset,
        recipe,
        objective,
        categories,
        model,
        tokenizer,
        renderer,
        examples,
        steps,
        base_path,
        device,
        dtype,
        threads,
        facts,
    )


def open_renderer(dataset_path: Path, recipe: Recipe, *, folder: Path | None = None) -> tuple[Dataset, Renderer]:
    """Return a dataset and the renderer of its base, for a look at tokens."""
    dataset = open_dataset(dataset_path)
    model, tokenizer = load_base(recipe.base, device="cpu", folder=folder)
    return dataset, make_renderer(model, tokenizer, recipe, _objective(recipe, dataset))


def make_renderer(model: Any, tokenizer: Any, recipe: Recipe, objective: Objective) -> Renderer:
    """Return the renderer that a recipe asks for; says on stderr what is odd about the template."""
    reads = getattr(model.config, "max_position_embeddings", None)
    renderer = Renderer(
        tokenizer,
        objective,
        reads if recipe.max_length == "auto" else recipe.max_length,
        on_too_long=recipe.on_too_long,
        allow_special_tokens=recipe.allow_special_tokens,
        stop_ids=eos_ids(model),
    )
    for warning in renderer.warnings:
        say.talk(f"warning: {warning}")
    return renderer


def add_adapters(prepared: Prepared) -> Any:
    """Return the model to train: with adapters, or with every weight trainable."""
    if prepared.recipe.method == "lora":
        return add_lora(prepared.model, prepared.recipe.lora, dtype=prepared.dtype, seed=prepared.recipe.seed)
    for parameter in prepared.model.parameters():
        parameter.requires_grad_(True)
    return prepared.model


def _objective(recipe: Recipe, dataset: Dataset) -> Objective:
    if recipe.objective != "auto":
        return recipe.objective
    hint = dataset.manifest.get("objective_hint", "sft")
    if hint not in ("sft", "chat", "domain"):
        raise TrainError("E912 bad-dataset", f"the manifest's objective_hint {hint!r} is none", "--set objective=sft")
    chosen: Objective = hint
    return chosen


def _examples(renderer: Renderer, rows: list[Row]) -> list[Example]:
    rendered = renderer.examples(rows)
    if rendered.skipped:
        ids = _named(rendered.skipped)
        say.talk(f"warning: {len(rendered.skipped)} records over max_length are skipped: {ids}")
    if rendered.cut:
        say.talk(
            f"warning: {len(rendered.cut)} records over max_length are cut by {sum(rendered.cut.values())} tokens: "
            + _named(list(rendered.cut))
        )
    if not rendered.examples:
        raise TrainError("E925 too-long", "every training record is over max_length", "raise max_length")
    return rendered.examples


def _check_evaluation(
    renderer: Renderer, dataset: Dataset, categories: Mapping[str, CategorySpec], general: Path | None
) -> None:
    """Rows that could not be evaluated after the training must be known before it."""
    kept = {
        example.id for split in ("validation", "test") for example in renderer.examples(dataset.splits[split]).examples
    }
    rows = [row for split in ("validation", "test") for row in dataset.splits[split] if row.id in kept]
    questions(renderer, asked_by_choice(rows, categories))
    if not kept:
        raise TrainError(
            "E937 nothing-to-report",
            "neither the validation nor the test split has a record that can be evaluated",
            "export a data set with a test split, or more records; without one nobody knows whether it helped",
        )
    readable_general(renderer, general)


def general_path(recipe: Recipe, folder: Path | None) -> Path | None:
    """Return the recipe's file of general text, found from the recipe's folder; None is the shipped text."""
    return None if recipe.eval.general is None else (folder or Path()) / recipe.eval.general


def _facts(
    dataset: Dataset,
    recipe: Recipe,
    tokenizer: Any,
    renderer: Renderer,
    steps: Steps,
    base_path: Path,
    device: torch.device,
) -> dict[str, Any]:
    """What must be the same for a resumed run to be the same run."""
    words = tokenizer.backend_tokenizer.to_str() + renderer.template
    # How often a checkpoint is written and how many stay does not change the result.
    same = recipe.model_copy(update={"checkpoint": CheckpointRecipe()})
    return {
        "dataset": dataset.digest,
        "order": steps.digest(),
        "tokenizer and template": hashlib.sha256(words.encode()).hexdigest(),
        "recipe": recipe_digest(same),
        "base": weights_digest(base_path),
        "threads": recipe.threads,
        "device": device.type,
        "versions": versions(),
    }


def _named(ids: list[str]) -> str:
    return say.visible(", ".join(ids[:_MOST_NAMED])) + (
        f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    )


def chosen_for_training(rows: list[Row], most: int) -> list[Row]:
    """Return at most ``most`` rows, the same ones whatever their order and number, for the looks during training."""
    return sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())[:most]


def shown_settings(recipe: Recipe) -> Mapping[str, Any]:
    """Return the recipe as plain values."""
    return recipe.model_dump(mode="json")
