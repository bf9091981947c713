"""Check everything that can be wrong before a step is computed: digests, recipe, model, template, every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch

from train.base import console
from train.base.cache import open_cache
from train.base.errors import TrainError, require_extra
from train.base.run_folder import versions, weights_digest
from train.base.storage import digest_of, installed_version
from train.data.dataset import Dataset, Row, open_dataset, reasoning_remark, sample_rows
from train.data.overlap import flag_exam_copies, nested_subset
from train.data.rendering import (
    Example,
    Examples,
    Rendered,
    Renderer,
    preference_examples,
    render_cached,
)
from train.evaluate.evaluation import choice_examples, rejected_rows
from train.evaluate.general import SPLIT as GENERAL
from train.evaluate.general import general_rows, readable_general
from train.evaluate.scoring import CategorySpec, category_specs, comparison_remark, rows_with_choices
from train.loop import Placement
from train.model import (
    add_lora,
    cast_frozen,
    describe_init,
    eos_ids,
    find_base,
    load_base,
    load_tokenizer,
    num_parameters,
    pick_device,
    pick_dtype,
    pick_four_bit_dtype,
    pick_threads,
    read_num_positions,
    with_adapter_shape,
)
from train.model.batch import BatchSampler
from train.model.capabilities import capabilities_of, checkpoint_activations
from train.model.distributed import SINGLE_PROCESS, DistributedContext, ParallelStrategy
from train.pipeline.plan import needs_checkpointing
from train.recipe import PREFERENCES, SHIPPED_TEXT, Objective, Recipe, load_recipe, recipe_digest
from train.recipe.schedule import Tuning, tuning_of
from train.report.judge import announce_judge, require_judge
from train.report.results import warn_of_unscored

_READ = {"max_length", "on_too_long", "on_unrenderable", "reasoning", "allow_special_tokens", "bf16", "device",
         "threads", "load_in_4bit"}  # fmt: skip
_READ_OF_EVAL = {"max_new_tokens", "max_reasoning_tokens", "batch_tokens", "fit_records"}


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to begin; in ``recipe`` bf16, threads and objective are no longer "auto".

    ``facts`` must be the same for a resumed run to be the same run. ``folder`` is what the recipe's paths are read
    from; ``placement`` is where training computes; ``rendered`` says of each split how many records were cut or
    skipped, and ``remarks`` what a report has to say of all that.
    """

    recipe: Recipe
    dataset: Dataset
    categories: dict[str, CategorySpec]
    renderer: Renderer
    placement: Placement
    model: Any
    steps: BatchSampler
    base_path: Path
    facts: dict[str, Any]
    folder: Path
    rendered: dict[str, Any]
    remarks: list[str]

    @property
    def eval_recipe(self) -> Recipe:
        """The recipe that evaluation is handed: of the run's the settings that it may read, else defaults.

        So no other setting can change what is measured, and the key of the cache needs no list of what does not matter.
        """
        read = {name: getattr(self.recipe, name) for name in _READ}
        of_eval = {name: getattr(self.recipe.eval, name) for name in _READ_OF_EVAL}
        return Recipe.model_construct(**{**Recipe().__dict__, **read, "eval": type(self.recipe.eval)(**of_eval)})

    @property
    def splits(self) -> list[str]:
        """What a report is about: the splits of the recipe, and the general text."""
        return [*(split for split in ("validation", "test", "train") if split in self.recipe.eval.splits), GENERAL]

    @property
    def general(self) -> Path | None:
        """The recipe's file of general text; None is the shipped one."""
        return None if self.recipe.eval.general is None else self.folder / self.recipe.eval.general

    @property
    def trained_rows(self) -> list[Row]:
        """The training records that are learnt from."""
        ids = {example.id for example in self.steps.examples if not example.is_replay}
        return [row for row in self.dataset.splits["train"] if row.id in ids]

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
    folder = folder or Path()
    # The cheap checks first: a large base takes minutes to load.
    _check_machine(recipe, context.world_size)
    strategy: ParallelStrategy = "fsdp" if recipe.method == "full" and context.world_size > 1 else "ddp"
    dataset, recipe = _open(dataset_path, recipe)
    categories = category_specs(dataset.manifest.get("categories", {}), dataset.splits["train"])
    require_judge(recipe, categories)
    announce_judge(recipe, dataset, categories)
    model, tokenizer = load_base(
        recipe.base, device=recipe.device, folder=folder, four_bits=pick_four_bit_dtype(recipe),
        is_continued=recipe.continue_adapter,
        # What is trained in shards is trained in float32, which they become as they are cut.
        frozen_for=recipe if recipe.method == "lora" or strategy != "ddp" else None,
    )  # fmt: skip
    base_path = find_base(recipe.base, folder)
    recipe = with_adapter_shape(model, recipe) if recipe.continue_adapter else recipe
    if how := describe_init(recipe, base_path):
        console.info(how)
    recipe, placement = _place(model, recipe, Placement(context=context, strategy=strategy))
    num_positions = getattr(model.config, "max_position_embeddings", None)
    renderer = make_renderer(dataset, recipe, tokenizer, eos_ids(model), num_positions)
    general = None if recipe.eval.general is None else folder / recipe.eval.general
    measured = [split for split in ("validation", "test") if split in recipe.eval.splits]
    remarks = _remarks(dataset, recipe, measured)
    rendered = {split: _render_split(renderer, dataset, split, remarks) for split in ("train", *measured)}
    examples = _training_examples(rendered["train"], recipe, remarks)
    _check_evaluation(renderer, dataset, categories, rendered)
    measured_rows = [*readable_general(renderer, general), *dataset.splits["validation"], *dataset.splits["test"]]
    replay, replay_digest = _replay(renderer, recipe, folder, measured_rows, remarks)
    if replay:
        is_compared = recipe.objective in PREFERENCES
        replayed = Examples.of([
            replace(text, is_replay=True, second_text=(len(text.ids), 0) if is_compared else None) for text in replay
        ])  # fmt: skip
        examples = Examples.joined([examples.arrays, replayed.arrays])
    steps = BatchSampler(examples, recipe, is_packed=capabilities_of(model).has_packing, num_ranks=context.world_size)
    bits = {"bitsandbytes"} if recipe.optim == "adamw_8bit" or recipe.load_in_4bit else set()
    facts = {
        "dataset": dataset.digest, "order": steps.digest(), "tokenizer and template": renderer.digest,
        "recipe": _recipe_digest(recipe), "base": weights_digest(base_path), "threads": recipe.threads,
        "device": placement.device.type,
        "versions": versions() | {name: installed_version(name) for name in bits},
        "ranks": "1" if context.world_size == 1 else f"{context.world_size} {strategy}",
    } | ({"replayed text": replay_digest} if replay else {})  # fmt: skip
    context.require_equal(facts)
    return Prepared(
        recipe, dataset, categories, renderer, placement, model, steps, base_path, facts, folder,
        {split: each.counts for split, each in rendered.items()}, remarks,
    )  # fmt: skip


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
        splits = {name: [row.with_trained_answer for row in part] for name, part in dataset.splits.items()}
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
            "slower than in 16 bits"
        )
    recipe = recipe.model_copy(update={"bf16": dtype.itemsize == 2, "threads": threads})
    return recipe, replace(placement, device=device, dtype=dtype)


def open_renderer(dataset: Dataset, recipe: Recipe, *, folder: Path | None = None) -> Renderer:
    """Return the renderer of a recipe's base; no weight is read."""
    tokenizer, stop_ids = load_tokenizer(recipe.base, folder=folder)
    return make_renderer(dataset, recipe, tokenizer, stop_ids, read_num_positions(recipe.base, folder=folder))


def make_renderer(
    dataset: Dataset, recipe: Recipe, tokenizer: Any, stop_ids: list[int], num_positions: int | None
) -> Renderer:  # fmt: skip
    """Return the renderer that a run of ``recipe`` on ``dataset`` has, and say what is odd about its template.

    ``num_positions`` is how many tokens the model reads, None without a limit.
    """
    renderer = Renderer(
        tokenizer, _objective(recipe, dataset), num_positions if recipe.max_length == "auto" else recipe.max_length,
        on_too_long=recipe.on_too_long, on_unrenderable=recipe.on_unrenderable, reasoning=recipe.reasoning,
        allow_special_tokens=recipe.allow_special_tokens, stop_ids=stop_ids,
    )  # fmt: skip
    warnings = [*renderer.warnings]
    if recipe.eval.max_reasoning_tokens and not renderer.reasoning_end:
        warnings.append("the chat template marks no reasoning, so eval.max_reasoning_tokens ends none")
    for warning in warnings:
        console.info(f"warning: {warning}")
    return renderer


def _warn(text: str, remarks: list[str], ids: Sequence[str] = ()) -> None:
    # A report may be handed on, and names no record.
    console.info(f"warning: {text}{': ' * bool(ids)}{console.join_names(ids)}")
    remarks.append(f"{text}.")


def _remarks(dataset: Dataset, recipe: Recipe, measured: Sequence[str]) -> list[str]:
    remarks = list[str]()
    for remark in reasoning_remark(dataset.splits["train"], "train", recipe.reasoning):
        console.info(remark)
    for remark in comparison_remark(_objective(recipe, dataset), dataset):
        _warn(remark.removesuffix("."), remarks)
    if not dataset.splits["validation"] or not recipe.eval.during_training:
        _warn("No validation record is scored while training, so the last step counts as the best, and eval_steps does "
              "nothing", remarks)  # fmt: skip
    measured_categories = {row.category for split in measured for row in dataset.splits[split]}
    if alone := sorted({row.category for row in dataset.splits["train"]} - measured_categories):
        _warn(f"Training alone has records of {console.join_names(name or '-' for name in alone)}, so nothing shows "
              "whether it helped there", remarks)  # fmt: skip
    return remarks


def _render_split(renderer: Renderer, dataset: Dataset, split: str, remarks: list[str]) -> Rendered:
    # The examples of a split; `open_dataset` has proved that the file's SHA-256 is the manifest's.
    rows, file = dataset.splits[split], dataset.manifest["files"].get(f"{split}.jsonl", {"sha256": ""})
    is_compared = split == "train" and renderer.objective in PREFERENCES
    rendered = (preference_examples if is_compared else render_cached)(renderer, rows, file["sha256"], open_cache())
    for text, ids in rendered.describe_incomplete(split).items():
        _warn(text, remarks, ids)
    totals = Counter(row.category for row in rows) if rendered.left_out else {}
    for name in sorted(totals.keys() - {row.category for row in rows if row.id not in rendered.left_out}):
        named = console.one_line(name) or "-"
        _warn(f"Category {named} has no {split} record left: all {totals[name]} are left out", remarks)
    return rendered


def _training_examples(rendered: Rendered, recipe: Recipe, remarks: list[str]) -> Examples:
    # Those that have a weight, and of them mixing.share.
    examples = rendered.examples
    if weightless := [examples.key(n)[0] for n in (examples.weights == 0).nonzero()[0].tolist()]:
        _warn(f"{len(weightless)} records of weight 0 are not trained", remarks, weightless)
        examples = examples.take(examples.weights.nonzero()[0].tolist())
    if not examples:
        reasons = Counter(rendered.left_out.values())
        code = reasons.most_common(1)[0][0][0] if reasons else "E923 bad-rows"
        skipped = "".join(f"; {number} skipped, {reason}" for (_, reason), number in reasons.items())
        hint = "Export other records, raise max_length, or cut long ones: --set on_too_long=cut"
        if recipe.objective in PREFERENCES:
            hint = 'Export records that compare answers (schema = "preference"), or take another objective.'
        raise TrainError(code, f"no training record is left{skipped or ': all have weight 0'}", hint)
    share = recipe.mixing.share
    if share == 1:
        return examples
    taken = nested_subset([examples.key(index) for index in range(len(examples))], share, recipe.seed)
    console.info(f"mixing.share {share:g}: {len(taken):,} of {len(examples):,} training records are taken")
    return examples.take(taken)


def _check_evaluation(
    renderer: Renderer, dataset: Dataset, categories: Mapping[str, CategorySpec], rendered: Mapping[str, Rendered]
) -> None:  # fmt: skip
    # Rows that could not be evaluated after the training must be known before it.
    splits, rows = [split for split in rendered if split != "train"], list[Row]()
    for split in splits:
        ids = {example.id for example in rendered[split].examples}
        rows += (evaluated := [row for row in dataset.splits[split] if row.id in ids])
        warn_of_unscored(evaluated, categories, split)
    if not rows:
        raise TrainError(
            "E937 nothing-to-report",
            f"no record can be evaluated of what eval.splits measures: {' and '.join(splits)}",
            "Export a dataset with a test split, or more records; else nothing shows whether training helped.",
        )
    choice_examples(renderer, rows_with_choices(rows, categories))
    # What `evaluate_model` reads of preferences.
    renderer.render(rejected_rows(rows))


def _replay(
    renderer: Renderer, recipe: Recipe, folder: Path, measured: Sequence[Row], remarks: list[str]
) -> tuple[list[Example], str]:  # fmt: skip
    # The records of the general text that is trained along, and the SHA-256 of their texts. Those that are measured
    # are left out: what was trained says nothing of what was forgotten, and nothing of what was learnt.
    if recipe.mixing.replay is None:
        return [], ""
    try:
        rows = general_rows(None if recipe.mixing.replay == SHIPPED_TEXT else folder / recipe.mixing.replay)
        fresh = [row for row, is_same in zip(rows, flag_exam_copies(rows, measured), strict=True) if not is_same]
        records = [renderer.render_uncut(replace(row, id=f"replay-{row.id}")) for row in fresh]
    except TrainError as error:
        # The hint of general text speaks of what is measured.
        hint = f'Name another JSONL or text file with mixing.replay, or set it to "{SHIPPED_TEXT}".'
        raise TrainError(error.code, f"mixing.replay: {error.message}", hint) from None
    short = [record for record in records if not renderer.max_length or len(record.ids) <= renderer.max_length]
    left_out = {"are test records or those of eval.general": len(rows) - len(fresh),
                "are over max_length": len(records) - len(short)}  # fmt: skip
    for reason, num in left_out.items():
        if num:
            _warn(f"{num} of {len(rows)} replayed texts {reason}; left out", remarks)
    if not short:
        hint = "Name another file for mixing.replay or for eval.general."
        raise TrainError("E944 bad-general-text", "mixing.replay: none is left to replay", hint)
    return short, digest_of([row.text for row in fresh])


def add_adapters(prepared: Prepared) -> Any:
    """Return the model to train: with adapters, or with every weight trainable; it may compute activations again."""
    recipe, model, dtype = prepared.recipe, prepared.model, prepared.placement.dtype
    if recipe.continue_adapter:
        cast_frozen(model, dtype)
    elif recipe.method == "lora":
        model = add_lora(model, recipe, dtype=dtype, seed=recipe.seed)
    else:
        model.requires_grad_(True)
    if how := needs_checkpointing(model, recipe, prepared.placement):
        checkpoint_activations(model, how)
    return model


def with_plan_choices(recipe: Recipe, chosen: Mapping[str, Any]) -> Recipe:
    """Return ``recipe`` with what it leaves to the plan as ``chosen``: by a plan, or in the record of a run."""
    names = ("micro_batch_tokens", "gradient_checkpointing", "compile")
    return recipe.model_copy(update={name: chosen[name] for name in names if getattr(recipe, name) == "auto"})


def apply_plan(prepared: Prepared, plan: Mapping[str, Any]) -> Prepared:
    """Return the run with what its recipe left to ``plan``."""
    recipe = with_plan_choices(prepared.recipe, plan)
    facts = prepared.facts | {"recipe": _recipe_digest(recipe)}
    return replace(prepared, recipe=recipe, steps=prepared.steps.with_recipe(recipe), facts=facts)


def _recipe_digest(recipe: Recipe) -> str:
    # How often a checkpoint is written and how many stay does not change the result; threads and ranks are facts of
    # their own. The base is known by its weights, wherever it lies.
    free = ("base", "save_steps", "save_total_limit", "threads")
    return recipe_digest(recipe.model_copy(update={name: Recipe.model_fields[name].default for name in free}))
