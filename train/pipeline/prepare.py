"""Check everything that can be wrong before a step is computed: digests, recipe, model, template, every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch

from train.base import console
from train.base.cache import open_cache
from train.base.errors import TrainError, require_extra
from train.base.run_folder import versions, weights_digest
from train.base.storage import installed_version
from train.data.dataset import Dataset, Row, open_dataset, reasoning_remark, sample_rows, trace_of
from train.data.overlap import nested_subset
from train.data.rendering import Examples, Rendered, Renderer, preference_examples, render_cached
from train.evaluate.answers import questions
from train.evaluate.evaluation import worse_sides
from train.evaluate.general import SPLIT as GENERAL
from train.evaluate.general import readable_general
from train.evaluate.preferences import comparison_remark
from train.evaluate.scoring import category_specs, rows_with_choices
from train.loop import Placement
from train.model import (
    add_lora,
    continued_shape,
    describe_init,
    eos_ids,
    find_base,
    freeze,
    load_base,
    load_tokenizer,
    num_parameters,
    pick_device,
    pick_dtype,
    pick_four_bits,
    pick_threads,
    read_length,
)
from train.model.batch import BatchSampler
from train.model.capabilities import capabilities_of, checkpoint_activations
from train.model.distributed import SINGLE_PROCESS, DistributedContext
from train.model.parallel import pick_strategy
from train.pipeline.base_results import EvaluationSpec, measured_recipe
from train.pipeline.contest_plan import warn_of_unscored
from train.pipeline.plan import Plan, make_plan, needs_checkpointing
from train.pipeline.replay import load_replay
from train.recipe import PREFERENCES, Objective, Recipe, load_recipe, recipe_digest
from train.recipe.forgetting import Tuning, tuning_of
from train.report.judge import announce_judge, require_judge


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to begin; in ``recipe`` bf16, threads and objective are no longer "auto".

    ``facts`` must be the same for a resumed run to be the same run. ``folder`` is what the recipe's paths are read
    from; ``trained_ids`` are the training records that are learnt from, None where that is each of them.
    """

    recipe: Recipe
    evaluation: EvaluationSpec
    model: Any
    steps: BatchSampler
    base_path: Path
    facts: dict[str, Any]
    folder: Path
    trained_ids: frozenset[str] | None

    @property
    def dataset(self) -> Dataset:
        """The dataset of the run."""
        return self.evaluation.dataset

    @property
    def placement(self) -> Placement:
        """Where training computes."""
        return self.evaluation.placement

    @property
    def trained_rows(self) -> Iterable[Row]:
        """The training records that are learnt from."""
        rows, ids = self.dataset.splits["train"], self.trained_ids
        return rows if ids is None else (row for row in rows if row.id in ids)

    @property
    def evaluated_rows(self) -> list[Row]:
        """The validation records that evaluations during training score."""
        return sample_rows(self.dataset.splits["validation"], self.recipe.eval.during_training)

    @property
    def tuning(self) -> Tuning:
        """What the recipe does against forgetting on this base."""
        width = self.model.get_input_embeddings().weight.shape[1]
        return tuning_of(self.recipe, width, str(self.model.config.model_type))


def prepare(
    dataset_path: Path | Dataset, recipe: Recipe, *, folder: Path | None = None,
    context: DistributedContext = SINGLE_PROCESS,
) -> Prepared:  # fmt: skip
    """Return the run of ``recipe`` on a dataset, with the base loaded (adapters not yet added).

    ``folder`` is that of the recipe file, from which its relative paths are read. Each rank prepares for
    itself. Raises TrainError for whatever stands in the way, "E948 ranks-differ" among it; nothing has been written by
    then.
    """
    # The cheap checks first: a large base takes minutes to load.
    _check_machine(recipe, context.world_size)
    strategy = pick_strategy(recipe.parallel, is_lora=recipe.method == "lora", context=context)
    dataset, recipe = _open(dataset_path, recipe)
    categories = category_specs(dataset.manifest.get("categories", {}), dataset.splits["train"])
    require_judge(recipe, categories)
    announce_judge(recipe, dataset, categories)
    model, tokenizer = load_base(
        recipe.base, device=recipe.device, folder=folder, four_bits=pick_four_bits(recipe),
        is_continued=recipe.continue_adapter,
        # What is trained in shards is trained in float32, which they become as they are cut.
        frozen_for=recipe if recipe.method == "lora" or strategy != "ddp" else None,
    )  # fmt: skip
    base_path = find_base(recipe.base, folder)
    recipe = continued_shape(model, recipe) if recipe.continue_adapter else recipe
    if how := describe_init(recipe, base_path):
        console.info(how)
    recipe, placement = _place(model, recipe, Placement(context=context, strategy=strategy))
    general = None if recipe.eval.general is None else (folder or Path()) / recipe.eval.general
    splits = [*(split for split in ("validation", "test", "train") if split in recipe.eval.splits), GENERAL]
    renderer = renderer_of(model, tokenizer, recipe, dataset)
    evaluation = EvaluationSpec(dataset, categories, renderer, measured_recipe(recipe), splits, general, placement)
    examples = _subset(_examples(renderer, dataset), recipe)
    is_whole = recipe.objective not in PREFERENCES and len(examples) == len(dataset.splits["train"])
    trained_ids = None if is_whole else frozenset(example.id for example in examples)
    measured = [*_check_evaluation(evaluation), *dataset.splits["validation"], *dataset.splits["test"]]
    replay, replay_digest = load_replay(renderer, recipe.mixing, measured, folder)
    if replay:
        is_compared = recipe.objective in PREFERENCES
        replayed = Examples.of([record.replayed(is_compared=is_compared) for record in replay])
        examples = Examples.joined([examples.arrays, replayed.arrays])
    steps = BatchSampler(examples, recipe, is_packed=capabilities_of(model).has_packing, num_ranks=context.world_size)
    bits = {"bitsandbytes"} if recipe.optim == "adamw_8bit" or recipe.load_in_4bit else set()
    facts = {
        "dataset": dataset.digest, "order": steps.digest(), "tokenizer and template": renderer.digest,
        "recipe": _same(recipe), "base": weights_digest(base_path), "threads": recipe.threads,
        "device": placement.device.type,
        "versions": versions() | {name: installed_version(name) for name in bits},
        "ranks": "1" if context.world_size == 1 else f"{context.world_size} {strategy}",
    } | ({"replayed text": replay_digest} if replay else {})  # fmt: skip
    context.require_equal(facts)
    return Prepared(recipe, evaluation, model, steps, base_path, facts, folder or Path(), trained_ids)


def _check_machine(recipe: Recipe, num_ranks: int) -> None:
    pick_dtype(recipe, pick_device(recipe.device), 0)
    if num_ranks > 1 and ":" in recipe.device:
        raise TrainError("E920 bad-recipe", f"device: {recipe.device} is one, and there are {num_ranks} ranks",
                         "Set device = cuda; each rank takes its own.")  # fmt: skip
    if recipe.optim == "adamw_8bit":
        require_extra("bitsandbytes", 'optim "adamw_8bit"', "quantize")
        if num_ranks > 1 and recipe.method == "full":
            message = f'optim "adamw_8bit" has no shards, and {num_ranks} ranks cut the model into them'
            raise TrainError("E872 no-shards", message, "Set optim = adamw_torch_fused.")


def _open(path: Path | Dataset, recipe: Recipe) -> tuple[Dataset, Recipe]:
    dataset = path if isinstance(path, Dataset) else open_dataset(path)
    recipe = load_recipe(recipe, {"objective": _objective(recipe, dataset)})
    if not dataset.splits["train"]:
        message = f"{dataset.path}: no record to train on"
        raise TrainError("E912 bad-dataset", message, "Export a dataset with a train split.")
    if recipe.objective == "kto":
        # Of the other objectives nobody learns an answer that was not liked.
        splits = {name: [row.unmasked for row in part] for name, part in dataset.splits.items()}
        dataset = replace(dataset, splits=splits)
    return dataset, recipe


def _objective(recipe: Recipe, dataset: Dataset) -> Objective:
    if recipe.objective != "auto":
        return recipe.objective
    hint = dataset.manifest.get("objective_hint", "sft")
    if hint == "orpo" or hint not in get_args(Objective):
        message = f"the manifest's objective_hint {hint!r} is not an objective"
        raise TrainError("E912 bad-dataset", message, "Add --set objective=sft.")
    return cast("Objective", hint)


def _place(model: Any, recipe: Recipe, placement: Placement) -> tuple[Recipe, Placement]:
    # Return the recipe with what "auto" means on this machine, and where it computes.
    device, size = next(model.parameters()).device, num_parameters(model)
    threads, dtype = pick_threads(recipe, size, placement.context.local_world_size), pick_dtype(recipe, device, size)
    torch.set_num_threads(threads)
    if device.type == "cuda" and recipe.bf16 == "auto" and dtype.itemsize == 4:
        # T4 and V100: 8.1 and 15.7 TFLOP/s, 65 and 125 in 16 bits.
        console.info(
            f"warning: {torch.cuda.get_device_name(device)} has no bfloat16, so products are float32, about 8 times "
            "slower than in 16 bits, and attention is a call an example; newer GPUs have it (Ampere, from 2020 on)"
        )
    recipe = recipe.model_copy(update={"bf16": dtype.itemsize == 2, "threads": threads})
    return recipe, replace(placement, device=device, dtype=dtype)


def open_renderer(
    dataset: Dataset, recipe: Recipe, *, folder: Path | None = None
) -> tuple[Renderer, int | None]:  # fmt: skip
    """Return the renderer of a recipe's base, and how many positions the base has, None without a limit.

    No weight is read.
    """
    tokenizer, stop_ids = load_tokenizer(recipe.base, folder=folder)
    reads = read_length(recipe.base, folder=folder)
    return _renderer(tokenizer, recipe, _objective(recipe, dataset), reads, stop_ids), reads


def renderer_of(model: Any, tokenizer: Any, recipe: Recipe, dataset: Dataset) -> Renderer:
    """Return the renderer that a run of ``recipe`` on ``dataset`` evaluates ``model`` with."""
    reads = getattr(model.config, "max_position_embeddings", None)
    return _renderer(tokenizer, recipe, _objective(recipe, dataset), reads, eos_ids(model))


def _renderer(tokenizer: Any, recipe: Recipe, objective: Objective, reads: int | None, stop_ids: list[int]) -> Renderer:
    recipe = measured_recipe(recipe)
    renderer = Renderer(
        tokenizer, objective, reads if recipe.max_length == "auto" else recipe.max_length,
        on_too_long=recipe.on_too_long, on_unrenderable=recipe.on_unrenderable, reasoning=recipe.reasoning,
        allow_special_tokens=recipe.allow_special_tokens, stop_ids=stop_ids,
    )  # fmt: skip
    # What is odd about the template is said here, before anything is rendered by it.
    for warning in renderer.warnings:
        console.info(f"warning: {warning}")
    if recipe.eval.max_reasoning_tokens and not renderer.reasoning_end:
        console.info("warning: the chat template marks no reasoning, so eval.max_reasoning_tokens ends none")
    return renderer


def reasoning_length(renderer: Renderer, rows: Sequence[Row]) -> str:
    """Return in words how long the reasoning in ``rows`` is, by up to 1,000 of them; "" where none has any."""
    messages = [message for row in sample_rows(rows, 1000) for message in row.messages or ()]
    traces = [trace for message in messages if (trace := trace_of(message))]
    if not traces:
        return ""
    sizes = [len(ids) for ids in renderer.tokenizer(traces, add_special_tokens=False).input_ids]
    return f"{sum(sizes) / len(sizes):,.0f} tokens in the mean, {max(sizes):,} at the most"


def _render_split(renderer: Renderer, dataset: Dataset, split: str) -> Rendered:
    # The examples of a split; `open_dataset` has proved that the file's SHA-256 is the manifest's.
    rows, file = dataset.splits[split], dataset.manifest["files"].get(f"{split}.jsonl", {"sha256": ""})
    is_compared = split == "train" and renderer.objective in PREFERENCES
    rendered = (preference_examples if is_compared else render_cached)(renderer, rows, file["sha256"], open_cache())
    for warning in rendered.warnings(split):
        console.info(f"warning: {warning}")
    totals = Counter(row.category for row in rows) if rendered.left_out else {}
    for name in sorted(totals.keys() - {row.category for row in rows if row.id not in rendered.left_out}):
        named = console.one_line(name) or "-"
        console.info(f"warning: category {named} has no {split} record left: all {totals[name]} are left out")
    return rendered


def _examples(renderer: Renderer, dataset: Dataset) -> Examples:
    for remark in reasoning_remark(dataset.splits["train"], "train", renderer.reasoning):
        console.info(f"{remark} It has {reasoning_length(renderer, dataset.splits['train'])}.")
    for remark in comparison_remark(renderer.objective, dataset):
        console.info(f"warning: {remark}")
    rendered = _render_split(renderer, dataset, "train")
    examples = rendered.examples
    if weightless := [examples.name(n)[0] for n in (examples.weights == 0).nonzero()[0].tolist()]:
        names = console.join_names(weightless)
        console.info(f"warning: {len(weightless)} records of weight 0 are not trained: {names}")
        examples = examples.take(examples.weights.nonzero()[0].tolist())
    if examples:
        return examples
    reasons = Counter(rendered.left_out.values())
    code = reasons.most_common(1)[0][0][0] if reasons else "E923 bad-rows"
    skipped = "".join(f"; {number} skipped, {reason}" for (_, reason), number in reasons.items())
    hint = "Export other records, raise max_length, or cut long ones: --set on_too_long=cut"
    if renderer.objective in PREFERENCES:
        hint = 'Export records that compare answers (schema = "preference"), or take another objective.'
    raise TrainError(code, f"no training record is left{skipped or ': all have weight 0'}", hint)


def _subset(examples: Examples, recipe: Recipe) -> Examples:
    # The examples of mixing.share, which is said.
    share = recipe.mixing.share
    if share == 1:
        return examples
    names = [examples.name(index) for index in range(len(examples))]
    indices = nested_subset(names, share, recipe.seed)
    sizes = Counter(names[index][1] for index in indices)
    each = console.join_names(f"{name or '-'} {sizes[name]:,}" for name in sorted(sizes))
    console.info(f"mixing.share {share:g}: {len(indices):,} of {len(names):,} training records are taken: {each}")
    return examples.take(indices)


def _check_evaluation(evaluation: EvaluationSpec) -> list[Row]:
    # Rows that could not be evaluated after the training must be known before it; returns the general ones.
    renderer, dataset, categories = evaluation.renderer, evaluation.dataset, evaluation.categories
    splits, rows = [split for split in ("validation", "test") if split in evaluation.splits], list[Row]()
    for split in splits:
        ids = {example.id for example in _render_split(renderer, dataset, split).examples}
        rows += (mine := [row for row in dataset.splits[split] if row.id in ids])
        references = {row.id: prompt.reference for row in mine if (prompt := renderer.prompt(row))}
        warn_of_unscored(mine, references, categories, split)
    if not rows:
        raise TrainError(
            "E937 nothing-to-report",
            f"no record can be evaluated of what eval.splits measures: {' and '.join(splits)}",
            "Export a dataset with a test split, or more records; else nothing shows whether training helped.",
        )
    questions(renderer, rows_with_choices(rows, categories))
    # What `evaluate_model` reads of preferences.
    renderer.examples(worse_sides(rows))
    return readable_general(renderer, evaluation.general)


def add_adapters(prepared: Prepared) -> Any:
    """Return the model to train: with adapters, or with every weight trainable; it may compute activations again."""
    recipe, model, dtype = prepared.recipe, prepared.model, prepared.placement.dtype
    if recipe.continue_adapter:
        freeze(model, dtype)
    elif recipe.method == "lora":
        model = add_lora(model, recipe, dtype=dtype, seed=recipe.seed)
    else:
        model.requires_grad_(True)
    if how := needs_checkpointing(model, recipe, prepared.placement):
        if recipe.gradient_checkpointing == "auto":
            why = "the plan does not fit in memory otherwise"
            console.info(f"activations are computed again in the backward pass: {why}")
        checkpoint_activations(model, how)
    return model


def plan_run(model: Any, prepared: Prepared, *, is_measured: bool, **options: Any) -> Plan:
    """Return the plan of a run, see `make_plan`."""
    threads = int(prepared.recipe.threads)
    return make_plan(model, prepared.steps, prepared.placement, threads=threads, is_measured=is_measured, **options)


def fill_in(recipe: Recipe, chosen: Mapping[str, Any]) -> Recipe:
    """Return ``recipe`` with what it leaves to the plan as ``chosen``: by a plan, or in the record of a run."""
    names = ("micro_batch_tokens", "gradient_checkpointing", "compile")
    return recipe.model_copy(update={name: chosen[name] for name in names if getattr(recipe, name) == "auto"})


def settle(prepared: Prepared, plan: Plan) -> Prepared:
    """Return the run with what its recipe left to ``plan``."""
    recipe, steps = fill_in(prepared.recipe, vars(plan)), prepared.steps
    steps = BatchSampler(steps.examples, recipe, is_packed=steps.is_packed, num_ranks=steps.num_ranks)
    return replace(prepared, recipe=recipe, steps=steps, facts=prepared.facts | {"recipe": _same(recipe)})


def _same(recipe: Recipe) -> str:
    # How often a checkpoint is written and how many stay does not change the result; threads and ranks are facts of
    # their own. The base is known by its weights, wherever it lies.
    free = ("base", "save_steps", "save_total_limit", "threads", "parallel")
    return recipe_digest(recipe.model_copy(update={name: Recipe.model_fields[name].default for name in free}))
