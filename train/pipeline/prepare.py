"""Check everything that can be wrong before a step is computed: digests, recipe, model, template, every row.

General text that is trained along against forgetting is never the text that forgetting is measured on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from train.base import console
from train.base.cache import open_cache
from train.base.errors import TrainError, require_extra
from train.base.run_folder import versions, weights_digest
from train.base.storage import installed_version
from train.data.dataset import Dataset, Row, TooLongFault, open_dataset, reasoning_remark, sample_rows, trace_of
from train.data.overlap import is_same_text
from train.data.rendering import (
    Example,
    Examples,
    JoinedExamples,
    PreferenceExample,
    PreferenceExamples,
    Rendered,
    Renderer,
    RowFault,
    preference_examples,
    render_cached,
)
from train.data.rendering.preferences import EQUAL_SIDES, NO_PAIR
from train.data.subset import nested_subset
from train.evaluate.answers import questions
from train.evaluate.evaluation import worse_sides
from train.evaluate.general import general_rows, readable_general
from train.evaluate.preferences import comparison_remark
from train.evaluate.scoring import CategorySpec, category_specs, rows_with_choices
from train.loop import Placement
from train.model import (
    add_lora,
    continue_lora,
    continued_shape,
    eos_ids,
    find_base,
    how_begun,
    load_base,
    load_tokenizer,
    pick_device,
    pick_dtype,
    pick_four_bits,
    pick_threads,
    read_length,
)
from train.model import num_parameters as count_parameters
from train.model.batch import BatchSampler
from train.model.capabilities import capabilities_of, checkpoint_activations
from train.model.distributed import SINGLE_PROCESS, DistributedContext
from train.model.parallel import ParallelStrategy, num_shards, pick_strategy
from train.pipeline.base_samples import base_samples
from train.pipeline.contest_plan import warn_of_unscored
from train.pipeline.plan import Plan, make_plan, needs_checkpointing, size_micro_batches
from train.recipe import (
    OF_BASE,
    PREFERENCES,
    SHIPPED_TEXT,
    MixingRecipe,
    Objective,
    Recipe,
    load_recipe,
    recipe_digest,
)
from train.recipe.forgetting import Tuning, tuning_of
from train.report.judge import announce_judge, require_judge

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to begin; in ``recipe`` bf16 and threads are no longer "auto"."""

    dataset: Dataset
    recipe: Recipe
    objective: Objective
    categories: dict[str, CategorySpec]
    model: Any
    tokenizer: Any
    renderer: Renderer
    steps: BatchSampler
    base_path: Path
    device: torch.device
    dtype: torch.dtype
    facts: dict[str, Any]
    folder: Path | None = None
    """That of the recipe file, which its paths are read from."""
    context: DistributedContext = SINGLE_PROCESS
    strategy: ParallelStrategy = "ddp"
    trained_ids: frozenset[str] | None = None
    """The training records that are learnt from; None where that is each of them."""

    @property
    def trained_rows(self) -> Iterable[Row]:
        """The training records that are learnt from."""
        rows, ids = self.dataset.splits["train"], self.trained_ids
        return rows if ids is None else (row for row in rows if row.id in ids)

    @property
    def general(self) -> Path | None:
        """The recipe's file of general text; None is the shipped one."""
        return _general(self.recipe, self.folder)

    @property
    def tuning(self) -> Tuning:
        """What the recipe does against forgetting on this base."""
        width = self.model.get_input_embeddings().weight.shape[1]
        return tuning_of(self.recipe, width, str(self.model.config.model_type))

    @property
    def evaluated_rows(self) -> list[Row]:
        """The validation records that evaluations during training score."""
        return sample_rows(self.dataset.splits["validation"], self.recipe.eval.during_training)

    @property
    def placement(self) -> Placement:
        """Where training computes."""
        return Placement(self.device, self.dtype, self.context, self.strategy)

    @property
    def is_sharded(self) -> bool:
        """True where training cuts the model into shards, which it then stays in."""
        return self.strategy != "ddp"

    @property
    def shards(self) -> int:
        """Into how many."""
        return num_shards(self.strategy, self.context)


def prepare(
    dataset_path: Path | Dataset, recipe: Recipe, *, folder: Path | None = None,
    context: DistributedContext = SINGLE_PROCESS,
) -> Prepared:  # fmt: skip
    """Return the run of ``recipe`` on a dataset, with the base loaded (adapters not yet added).

    ``folder`` is that of the recipe file, from which its relative paths are read. Each rank prepares for
    itself. Raises TrainError for whatever stands in the way, "E948 ranks-differ" among it; nothing has been written by
    then.
    """
    import torch

    _check_machine(recipe, context.world_size)
    strategy = pick_strategy(recipe.parallel, is_lora=recipe.method == "lora", context=context)
    # The cheap checks first: a large base takes minutes to load.
    dataset, categories, recipe = _open(dataset_path, recipe)
    model, tokenizer = load_base(
        recipe.base, device=recipe.device, folder=folder, four_bits=pick_four_bits(recipe),
        new_tokens=recipe.new_tokens, is_continued=recipe.continue_adapter,
        # What is trained in shards is trained in float32, which they become as they are cut.
        frozen_for=recipe if recipe.method == "lora" or strategy != "ddp" else None,
    )  # fmt: skip
    base_path = find_base(recipe.base, folder)
    if recipe.continue_adapter:
        recipe = continued_shape(model, recipe)
    if how := how_begun(recipe, base_path):
        console.talk(how)
    if recipe.new_tokens:
        console.talk(
            f"{len(recipe.new_tokens)} new tokens: their rows begin at the mean of the others, for the base too"
        )
    num_parameters = count_parameters(model)
    device = next(model.parameters()).device
    threads = pick_threads(recipe, num_parameters, context.local_world_size)
    dtype = pick_dtype(recipe, device, num_parameters)
    torch.set_num_threads(threads)
    recipe = _on_this_machine(recipe, device, dtype, threads)
    objective = _objective(recipe, dataset)
    reads = getattr(model.config, "max_position_embeddings", None)
    renderer = _renderer(tokenizer, recipe, objective, reads, eos_ids(model))
    examples = _subset(_examples(renderer, dataset), recipe)
    is_whole = isinstance(examples, Examples) and len(examples) == len(dataset.splits["train"])
    trained_ids = None if is_whole else frozenset(example.id for example in examples)
    measured = _check_evaluation(renderer, dataset, categories, recipe.eval.splits, _general(recipe, folder))
    texts = None
    if recipe.mixing.replay == OF_BASE:
        texts = base_samples(model, tokenizer, renderer, recipe, len(examples), base_path)
    measured += [*dataset.splits["validation"], *dataset.splits["test"]]
    replay, replay_digest = load_replay(renderer, recipe.mixing, measured, folder, texts)
    examples = _with_replay(examples, replay, objective)
    steps = BatchSampler(examples, recipe, is_packed=capabilities_of(model).has_packing, num_ranks=context.world_size)
    facts = _facts(dataset, recipe, renderer, steps, base_path, device)
    facts |= {"replayed text": replay_digest} if replay else {}
    facts["ranks"] = "1" if context.world_size == 1 else f"{context.world_size} {strategy}"
    context.require_equal(facts)
    return Prepared(
        dataset, recipe, objective, categories, model, tokenizer, renderer, steps, base_path, device, dtype, facts,
        folder, context, strategy, trained_ids,
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


def _with_replay(examples: Sequence[Example], replay: list[Example], objective: Objective) -> Sequence[Example]:
    if not replay:
        return examples
    return JoinedExamples(examples, [*map(PreferenceExample.replayed, replay)] if objective in PREFERENCES else replay)


def _on_this_machine(recipe: Recipe, device: torch.device, dtype: torch.dtype, threads: int) -> Recipe:
    # With what "auto" means here.
    if device.type == "cuda" and recipe.bf16 == "auto" and dtype.itemsize == 4:
        import torch

        # T4 and V100: 8.1 and 15.7 TFLOP/s, 65 and 125 in 16 bits.
        console.talk(
            f"warning: {torch.cuda.get_device_name(device)} has no bfloat16, so products are float32, about 8 times "
            "slower than in 16 bits, and attention is a call an example; newer GPUs have it (Ampere, from 2020 on)"
        )
    return recipe.model_copy(update={"bf16": dtype.itemsize == 2, "threads": threads})


def _open(path: Path | Dataset, recipe: Recipe) -> tuple[Dataset, dict[str, CategorySpec], Recipe]:
    dataset = path if isinstance(path, Dataset) else open_dataset(path)
    recipe = load_recipe(recipe, {"objective": _objective(recipe, dataset)})
    categories = category_specs(dataset.manifest.get("categories", {}), dataset.splits["train"])
    require_judge(recipe, categories)
    announce_judge(recipe, dataset, categories)
    if not dataset.splits["train"]:
        message = f"{dataset.path}: no record to train on"
        raise TrainError("E912 bad-dataset", message, "Export a dataset with a train split.")
    if recipe.objective == "kto":
        # Of the other objectives nobody learns an answer that was not liked.
        dataset = replace(
            dataset, splits={name: [row.unmasked for row in part] for name, part in dataset.splits.items()}
        )
    return dataset, categories, recipe


def open_renderer(
    dataset: Dataset, recipe: Recipe, *, folder: Path | None = None
) -> tuple[Renderer, int | None]:  # fmt: skip
    """Return the renderer of a recipe's base, and how many positions the base has, None without a limit.

    No weight is read.
    """
    tokenizer, stop_ids = load_tokenizer(recipe.base, folder=folder, new_tokens=recipe.new_tokens)
    reads = read_length(recipe.base, folder=folder)
    return _renderer(tokenizer, recipe, _objective(recipe, dataset), reads, stop_ids), reads


def renderer_of(model: Any, tokenizer: Any, recipe: Recipe, dataset: Dataset) -> Renderer:
    """Return the renderer that a run of ``recipe`` on ``dataset`` evaluates ``model`` with."""
    reads = getattr(model.config, "max_position_embeddings", None)
    return _renderer(tokenizer, recipe, _objective(recipe, dataset), reads, eos_ids(model))


def _renderer(tokenizer: Any, recipe: Recipe, objective: Objective, reads: int | None, stop_ids: list[int]) -> Renderer:
    # What is odd about the template is said here, before anything is rendered by it.
    renderer = Renderer(
        tokenizer,
        objective,
        reads if recipe.max_length == "auto" else recipe.max_length,
        on_too_long=recipe.on_too_long,
        on_unrenderable=recipe.on_unrenderable,
        reasoning=recipe.reasoning,
        allow_special_tokens=recipe.allow_special_tokens,
        stop_ids=stop_ids,
    )
    warnings = list(renderer.warnings)
    if recipe.eval.max_reasoning_tokens and not renderer.reasoning_end:
        warnings.append("the chat template marks no reasoning, so eval.max_reasoning_tokens ends none")
    for warning in warnings:
        console.talk(f"warning: {warning}")
    return renderer


def add_adapters(prepared: Prepared) -> Any:
    """Return the model to train: with adapters, or with every weight trainable; it may compute activations again."""
    recipe, model = prepared.recipe, prepared.model
    if recipe.continue_adapter:
        model = continue_lora(model, dtype=prepared.dtype)
    elif recipe.method == "lora":
        ids = prepared.tokenizer.convert_tokens_to_ids(recipe.new_tokens)
        model = add_lora(model, recipe, dtype=prepared.dtype, seed=recipe.seed, new_ids=ids)
    else:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    how = needs_checkpointing(model, prepared.steps, prepared.device, prepared.dtype, shards=prepared.shards)
    if how:
        if recipe.gradient_checkpointing == "auto":
            console.talk(
                "activations are computed again in the backward pass: the plan does not fit in memory otherwise"
            )
        checkpoint_activations(model, how)
    return model


def plan_run(
    model: Any, prepared: Prepared, *, is_measured: bool, memory_bytes: int | None = None,
    cost_per_hour: float | None = None,
) -> Plan:  # fmt: skip
    """Return the plan, see `make_plan`; with ``is_measured`` corrected by three steps where the model stays whole.

    A model that will be sharded is not measured: it is still whole here, and its gradients and moments may not fit.
    Where the recipe leaves micro_batch_tokens to the plan, it is chosen here.
    """
    steps, device, dtype = prepared.steps, prepared.device, prepared.dtype
    is_measured = is_measured and not prepared.is_sharded
    if prepared.recipe.micro_batch_tokens == "auto":
        steps = size_micro_batches(model, steps, device, dtype, prepared.context, is_measured=is_measured)
    return make_plan(
        model, steps, device=device, dtype=dtype, threads=int(prepared.recipe.threads), is_measured=is_measured,
        memory_bytes=memory_bytes, cost_per_hour=cost_per_hour, shards=prepared.shards,
    )  # fmt: skip


_LEFT_TO_PLAN = ("micro_batch_tokens", "gradient_checkpointing", "compile")


def fill_in(recipe: Recipe, chosen: Mapping[str, Any]) -> Recipe:
    """Return ``recipe`` with what it leaves to the plan as ``chosen``: by a plan, or in the record of a run."""
    return recipe.model_copy(update={n: chosen[n] for n in _LEFT_TO_PLAN if getattr(recipe, n) == "auto"})


def settle(prepared: Prepared, plan: Plan) -> Prepared:
    """Return the run with what its recipe left to ``plan``."""
    recipe = fill_in(prepared.recipe, vars(plan))
    steps = BatchSampler(
        prepared.steps.examples, recipe, is_packed=prepared.steps.is_packed, num_ranks=prepared.steps.num_ranks
    )
    return replace(prepared, recipe=recipe, steps=steps, facts=prepared.facts | {"recipe": _same(recipe)})


def _objective(recipe: Recipe, dataset: Dataset) -> Objective:
    if recipe.objective != "auto":
        return recipe.objective
    hint = dataset.manifest.get("objective_hint", "sft")
    if hint not in ("sft", "chat", "domain", "dpo", "kto"):
        message = f"the manifest's objective_hint {hint!r} is not an objective"
        raise TrainError("E912 bad-dataset", message, "Add --set objective=sft.")
    return cast("Objective", hint)


def reasoning_length(renderer: Renderer, rows: Sequence[Row]) -> str:
    """Return in words how long the reasoning in ``rows`` is, by up to 1,000 of them; "" where none has any."""
    traces = [
        trace for row in sample_rows(rows, 1000) for message in row.messages or () if (trace := trace_of(message))
    ]
    if not traces:
        return ""
    sizes = [len(ids) for ids in renderer.tokenizer(traces, add_special_tokens=False).input_ids]
    return f"{sum(sizes) / len(sizes):,.0f} tokens in the mean, {max(sizes):,} at the most"


def _render_split(renderer: Renderer, dataset: Dataset, split: str) -> Rendered:
    # The examples of a split; `open_dataset` has proved that the file's SHA-256 is the manifest's.
    file = dataset.manifest["files"].get(f"{split}.jsonl")
    rows, digest = dataset.splits[split], "" if file is None else file["sha256"]
    is_compared = split == "train" and renderer.objective in PREFERENCES
    rendered = (preference_examples if is_compared else render_cached)(renderer, rows, digest, open_cache())
    for warning in rendered.warnings(split):
        console.talk(f"warning: {warning}")
    totals = Counter(row.category for row in rows) if rendered.left_out else {}
    for name in sorted(totals.keys() - {row.category for row in rows if row.id not in rendered.left_out}):
        named = console.one_line(name) or "-"
        console.talk(f"warning: category {named} has no {split} record left: all {totals[name]} are left out")
    return rendered


def _examples(renderer: Renderer, dataset: Dataset) -> Sequence[Example]:
    for remark in reasoning_remark(dataset.splits["train"], "train", renderer.reasoning):
        console.talk(f"{remark} It has {reasoning_length(renderer, dataset.splits['train'])}.")
    for remark in comparison_remark(renderer.objective, dataset):
        console.talk(f"warning: {remark}")
    rendered = _render_split(renderer, dataset, "train")
    examples = rendered.examples
    # Flat arrays have all weights at hand; of a list each example is asked.
    has_all = isinstance(examples, Examples | PreferenceExamples) and bool(examples.weights.all())
    if not has_all and (weightless := [example.id for example in examples if not example.weight]):
        console.talk(
            f"warning: {len(weightless)} records of weight 0 are not trained: {console.join_names(weightless)}"
        )
        examples = [example for example in examples if example.weight]
    if not examples:
        reasons = Counter(rendered.left_out.values())
        code = reasons.most_common(1)[0][0][0] if reasons else "E923 bad-rows"
        skipped = "".join(f"; {number} skipped, {reason}" for (_, reason), number in reasons.items())
        hint = "Give records weights above 0, or take a base whose chat template has what they need."
        if code in (NO_PAIR, EQUAL_SIDES):
            hint = 'Export records that compare answers (schema = "preference"), or take another objective.'
        if code == TooLongFault.error_code:
            hint = "Raise max_length, or let long records be cut: --set on_too_long=cut"
        raise TrainError(code, f"no training record is left{skipped or ': all have weight 0'}", hint)
    return examples


def _subset(examples: Sequence[Example], recipe: Recipe) -> Sequence[Example]:
    """The examples of mixing.share, which is said."""
    share = recipe.mixing.share
    if share == 1:
        return examples
    if isinstance(examples, Examples):
        names = [examples.name(index) for index in range(len(examples))]
    else:
        names = [(example.id, example.category, example.cluster) for example in examples]
    indices = nested_subset(names, share, recipe.seed)
    sizes = Counter(names[index][1] for index in indices)
    each = ", ".join(f"{console.one_line(name) or '-'} {sizes[name]:,}" for name in sorted(sizes))
    console.talk(f"mixing.share {share:g}: {len(indices):,} of {len(names):,} training records are taken: {each}")
    return examples.take(indices) if isinstance(examples, Examples) else [examples[index] for index in indices]


def _check_evaluation(
    renderer: Renderer, dataset: Dataset, categories: Mapping[str, CategorySpec], measured: Sequence[str],
    general: Path | None,
) -> list[Row]:  # fmt: skip
    # Rows that could not be evaluated after the training must be known before it; returns the general ones.
    splits = [split for split in ("validation", "test") if split in measured]
    ids = {example.id for split in splits for example in _render_split(renderer, dataset, split).examples}
    rows: list[Row] = []
    for split in splits:
        rows += (mine := [row for row in dataset.splits[split] if row.id in ids])
        references = {row.id: prompt.reference for row in mine if (prompt := renderer.prompt(row))}
        warn_of_unscored(mine, references, categories, split)
    questions(renderer, rows_with_choices(rows, categories))
    # What `evaluate_model` reads of preferences.
    renderer.examples(worse_sides(rows))
    if not ids:
        raise TrainError(
            "E937 nothing-to-report",
            f"no record can be evaluated of what eval.splits measures: {' and '.join(splits)}",
            "Export a dataset with a test split, or more records; else nothing shows whether training helped.",
        )
    return readable_general(renderer, general)


def _general(recipe: Recipe, folder: Path | None) -> Path | None:
    return None if recipe.eval.general is None else (folder or Path()) / recipe.eval.general


def _facts(
    dataset: Dataset,
    recipe: Recipe,
    renderer: Renderer,
    steps: BatchSampler,
    base_path: Path,
    device: torch.device,
) -> dict[str, Any]:
    # What must be the same for a resumed run to be the same run.
    name, has_bits = "bitsandbytes", recipe.optim == "adamw_8bit" or recipe.load_in_4bit
    return {
        "dataset": dataset.digest,
        "order": steps.digest(),
        "tokenizer and template": renderer.digest,
        "recipe": _same(recipe),
        "base": weights_digest(base_path),
        "threads": recipe.threads,
        "device": device.type,
        "versions": versions() | ({name: installed_version(name)} if has_bits else {}),
    }


def _same(recipe: Recipe) -> str:
    # How often a checkpoint is written and how many stay does not change the result; threads and ranks are facts of
    # their own.
    # The base is known by its weights, wherever it lies.
    free = ("base", "save_steps", "save_total_limit", "threads", "parallel")
    return recipe_digest(recipe.model_copy(update={name: Recipe.model_fields[name].default for name in free}))


def load_replay(
    renderer: Renderer, recipe: MixingRecipe, measured: Sequence[Row], folder: Path | None,
    texts: Sequence[Row] | None = None,
) -> tuple[list[Example], str]:  # fmt: skip
    """Return the examples of the recipe's general text and the SHA-256 of their texts; ([], "") where it names none.

    Texts that ``measured`` has too are left out, and so are texts over max_length; both are said. The path is read from
    ``folder``, that of the recipe file; ``texts`` stand in its place. Raises TrainError "E944 bad-general-text" where
    nothing is left, and "E924 control-token-in-data".
    """
    if recipe.replay is None:
        return [], ""
    try:
        rows = (
            list(texts)
            if texts is not None
            else general_rows(None if recipe.replay == SHIPPED_TEXT else (folder or Path()) / recipe.replay)
        )
    except TrainError as error:
        # Its hint speaks of the text that is measured.
        hint = f'Name a JSONL or text file with mixing.replay, or set it to "{SHIPPED_TEXT}".'
        raise TrainError(error.code, f"mixing.replay: {error.message}", hint) from None
    # What was trained says nothing of what was forgotten, and nothing of what was learnt.
    fresh = [row for row, is_same in zip(rows, is_same_text(rows, measured), strict=True) if not is_same]
    examples, num_long = [], 0
    for row in fresh:
        try:
            example = renderer.whole(replace(row, id=f"replay-{row.id}"))
        except RowFault as fault:
            raise TrainError(
                fault.code, f"replayed text {row.id} of {row.source}: {fault.reason}", fault.hint
            ) from None
        if renderer.max_length and len(example.ids) > renderer.max_length:
            num_long += 1
        else:
            examples.append(replace(example, is_replay=True))
    num_measured = len(rows) - len(fresh)
    if not examples:
        raise TrainError(
            "E944 bad-general-text",
            f"mixing.replay: of {len(rows)} texts {num_measured} are exam records or those of eval.general, and "
            f"{num_long} are over max_length, so none is left to replay",
            "Name another file for mixing.replay or for eval.general.",
        )
    if num_measured:
        console.talk(
            f"warning: {num_measured} of {len(rows)} replayed texts are exam records or those of eval.general; left out"
        )
    if num_long:
        console.talk(f"warning: {num_long} of {len(rows)} replayed texts are over max_length; left out")
    digest = hashlib.sha256("\0".join(row.text or "" for row in fresh).encode()).hexdigest()
    return examples, digest
