"""What a run will do, said before it does it: exact counts, memory, time, and what to set for less of it.

A plan is a dict of plain values, as `train plan --json` prints it and run.json keeps it. Three steps on this machine
give memory and time. Without them memory is what the state takes: weights, gradients and the optimizer's moments.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch

from train.base import console
from train.base.errors import Exit, TrainError, first_line
from train.loop import Placement, Trainer
from train.model import num_parameters
from train.model.attention import has_varlen
from train.model.batch import MICRO_BATCH_TOKENS, BatchSampler, Step
from train.model.capabilities import checkpoint_activations, is_checkpointing
from train.model.device import MemoryMeter, free_memory, memory_limit
from train.recipe import Checkpointing, Recipe
from train.recipe.schedule import adam_betas, find_risks, num_validations_left, tuning_of, warmup_steps, weight_decay

USABLE = 0.9
"""Share of a device's memory that is planned with; the rest is the context's, the kernels' and what lies scattered."""
# Bytes of both moments of a trained number; of 8 bits with the scale of each block of 256.
_MOMENTS = {"adamw_torch_fused": 8.0, "adamw_8bit": 2 + 8 / 256}
_LONG = 300
"""Seconds of steps from which layers are compiled: inductor takes up to a minute, and steps become a fifth shorter."""
Plan = Mapping[str, Any]


def make_plan(
    model: Any, steps: BatchSampler, placement: Placement, *, is_measured: bool = False,
    memory_bytes: int | None = None, cost_per_hour: float | None = None, validation_seconds: float = 0.0,
    evaluation_seconds: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """Return the plan of a run; with ``is_measured`` three steps are computed and thrown away for memory and time.

    A model that will be sharded is not measured: it is still whole here, and its gradients and moments may not fit.
    Where the recipe leaves micro_batch_tokens to the plan, it is chosen here. ``memory_bytes`` replaces the memory of
    this device; ``cost_per_hour`` turns the time of training into a cost; the seconds, 0 where unknown, are those of
    one validation and of the evaluation after the training. Raises TrainError "E947 out-of-memory" where the three
    steps do not fit.
    """
    device, recipe = placement.device, steps.recipe
    is_sharded = placement.num_shards > 1
    is_measured = is_measured and not is_sharded
    if recipe.micro_batch_tokens == "auto":
        steps = size_micro_batches(model, steps, placement, is_measured=is_measured)
    how: Checkpointing = is_checkpointing(model)
    # A CPU has no other memory to put anything into, unless it stands in for a GPU.
    if how and recipe.gradient_checkpointing == "offload" and (device.type != "cpu" or memory_bytes):
        how = "offload"
    tuning = tuning_of(recipe, model.get_input_embeddings().weight.shape[1], str(model.config.model_type))
    memory, seconds = state_memory(model, recipe, placement), None
    plan: dict[str, Any] = {
        "parameters": num_parameters(model), "trained": num_parameters(model, is_trained_only=True),
        "records": len(steps.mixture), "tokens": steps.epoch_tokens, "supervised": steps.epoch_supervised,
        "longest": int(steps.lengths.max()), "mixture": console.one_line(steps.mixture.describe()),
        "steps": len(steps), "run_tokens": steps.num_tokens(), "step_size": steps.step_size,
        "micro_batch_tokens": steps.micro_batch_tokens, "gradient_checkpointing": how, "optim": recipe.optim,
        "learning_rate": tuning.lr, "warmup_steps": warmup_steps(recipe, len(steps)), "betas": adam_betas(recipe),
        "weight_decay": weight_decay(recipe), "risks": [asdict(risk) for risk in find_risks(tuning)],
        "device": str(device), "dtype": str(placement.dtype).removeprefix("torch."), "is_sharded": is_sharded,
        "device_bytes": memory_bytes or memory_limit(device), "state_bytes": sum(memory.values()),
        "flops": useful_flops(model, steps), "num_validations": num_validations_left(recipe, 1, len(steps)),
        "validation_seconds": validation_seconds, "evaluation_seconds": evaluation_seconds,
    }  # fmt: skip
    if is_measured:
        with explain_oom("calibration", plan):
            seconds_per_token, grown = calibrate(model, steps, placement)
        memory["activations"] = max(0, grown - memory["gradients"] - memory["optimizer"])
        seconds = seconds_per_token * plan["run_tokens"]
    peak = sum(memory.values())
    why_not = _why_not_compiled(recipe, seconds, device, placement.dtype, is_packed=steps.is_packed)
    return plan | {
        "memory": memory | {"total": peak}, "peak_bytes": peak, "fits": peak <= USABLE * plan["device_bytes"],
        "seconds": seconds, "cost_per_hour": cost_per_hour, "compile": not why_not, "compile_reason": why_not,
        "cost": None if seconds is None or cost_per_hour is None else seconds / 3600 * cost_per_hour,
    }  # fmt: skip


def plan_facts(plan: Plan) -> dict[str, str]:
    """Return a plan for people: each fact by its name, "" where there is nothing to say."""
    method = "LoRA" if plan["trained"] < plan["parameters"] else "full"
    memory = ", ".join(f"{name} {_mb(size)}" for name, size in plan["memory"].items() if name != "total")
    fits = "it fits" if plan["fits"] else f"it does NOT FIT into {USABLE:.0%} of that"
    time_text = "time not measured"
    if plan["seconds"] is not None:
        time_text = f"{duration(plan['seconds'])} of training by three steps here"
    if evaluation := plan["num_validations"] * plan["validation_seconds"] + plan["evaluation_seconds"]:
        time_text += f", {duration(evaluation)} of evaluation"
    machine = [f"{plan['dtype']} on {plan['device']}"]
    machine += [f"{torch.get_num_threads()} threads"] if plan["device"] == "cpu" else []
    machine += ["activations computed again"] if plan["gradient_checkpointing"] else []
    machine += ["their inputs offloaded"] if plan["gradient_checkpointing"] == "offload" else []
    machine += ["moments in 8 bits"] if plan["optim"] == "adamw_8bit" else []
    machine += [f"not compiled ({plan['compile_reason']})" if plan["compile_reason"] else "compiled"]
    return {
        "records": f"{plan['records']:,} records, {plan['tokens']:,} tokens an epoch "
        f"({plan['supervised'] / plan['tokens']:.1%} trained), {plan['run_tokens']:,} in the run; "
        f"the longest has {plan['longest']:,}",
        "mixture": plan["mixture"] and f"an epoch mixes {plan['mixture']}",
        "steps": f"{plan['steps']:,} steps, {plan['step_size']}, micro-batches of up to "
        f"{plan['micro_batch_tokens']:,} tokens",
        "rate": f"learning_rate {plan['learning_rate']:.3g} after {plan['warmup_steps']} steps of warmup; AdamW's "
        f"betas {plan['betas'][0]:g} and {plan['betas'][1]:g}, weight decay {plan['weight_decay']:g}",
        "model": f"{method}, {plan['trained']:,} of {plan['parameters']:,} parameters trained",
        "machine": ", ".join(machine),
        "memory": f"{_mb(plan['peak_bytes'])} MB at the {'most' if plan['seconds'] else 'least'} of "
        f"{_mb(plan['device_bytes'])}: {fits} ({memory})",
        "time": time_text,
        "cost": "" if plan["cost"] is None else f"{plan['cost']:,.2f} at {plan['cost_per_hour']:,.2f} an hour",
        "advice": "" if plan["fits"] else advice(plan),
        "forgetting": "; ".join(f"{risk['text']}: {'  '.join(risk['lines'])}" for risk in plan["risks"]),
    }


def plan_sentence(plan: Plan) -> str:
    """Return a plan in one line."""
    return "; ".join(text for name, text in plan_facts(plan).items() if text and name != "forgetting")


def advice(plan: Plan) -> str:
    """Return what to set where a plan does not fit, what costs least first."""
    current, longest, how = plan["micro_batch_tokens"], plan["longest"], plan["gradient_checkpointing"]
    smaller = max(16, current // 2)
    settings = {
        f"micro_batch_tokens={smaller}": longest <= smaller < current,
        "gradient_checkpointing=true": not how,
        "gradient_checkpointing=offload": how is True and plan["device"] != "cpu",
        # It has no shards, and adapters have few moments.
        "optim=adamw_8bit": plan["optim"] != "adamw_8bit"
        and plan["trained"] == plan["parameters"]
        and not plan["is_sharded"],
    }
    chosen = [name for name, is_left in settings.items() if is_left]
    chosen = chosen or [f"max_length={max(8, longest // 2)} (with on_too_long = cut or skip)"]
    return f"Add --set {' or --set '.join(chosen)}; a step keeps its batch and its gradient."


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def duration(seconds: float) -> str:
    """Return seconds as people say them, as "12 minutes"."""
    text = f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
    return f"{seconds:.0f} seconds" if seconds < 90 else text


def _sampled(steps: BatchSampler) -> list[Step]:
    return [steps[number] for number in sorted({n * (len(steps) - 1) // 199 for n in range(200)})]


def largest(steps: BatchSampler) -> tuple[Step, list[int]]:
    """Return the step, of at most 200 spread over the run, with the largest micro-batch, and that micro-batch."""
    pairs = [(step, group) for step in _sampled(steps) for group in step.micro_batches]
    return max(pairs, key=lambda pair: int(steps.lengths[pair[1]].sum()))


def calibrate(model: Any, steps: BatchSampler, placement: Placement) -> tuple[float, int]:
    """Return the seconds of a token of training, optimizer included, and the peak over what was there, in bytes.

    Three steps of the loop are computed at a rate of zero; weights and random numbers stay as they were.
    """
    device, dtype, was_training = placement.device, placement.dtype, model.training
    timed = [steps[number * len(steps) // 2] for number in range(2)]
    model.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        meter = MemoryMeter(device)
        trainer = Trainer(model, steps, Placement(device, dtype))
        # The heaviest comes first: it has the largest micro-batch of the run, which shows the memory, and it pays for
        # what the others find made, so their time counts.
        began = 0.0
        for step in (largest(steps)[0], *timed):
            # At a rate of zero the update, decay included, leaves each weight bit for bit what it is.
            trainer.optimizer.clip(trainer.backward(step))
            trainer.optimizer.step(lr=0.0)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            began = began or time.monotonic()
        spent, grown = time.monotonic() - began, meter.peak_increase_bytes()
    model.train(was_training)
    if device.type == "cpu" and dtype == torch.bfloat16:
        # A CPU compiles more kernels in many steps than in three of them, and its heap lies scattered between:
        # `benchmarks/plan.py` saw about a tenth and 96 MiB more.
        grown = int(grown * 1.1) + (96 << 20)
    return spent / sum(int(steps.lengths[step.indices].sum()) for step in timed), grown


def size_micro_batches(
    model: Any, steps: BatchSampler, placement: Placement, *, is_measured: bool
) -> BatchSampler:  # fmt: skip
    """Return the steps in micro-batches of as many tokens as the free memory of a GPU takes, but no more than the
    largest step gives a rank, nor less than 2,048.

    Three steps of 2,048 are computed and thrown away; activations, and whatever else they take but gradients and
    moments, are taken to grow with the tokens. Without ``is_measured`` 8,192 stand for the answer. All ranks get that
    of the one with the least memory. Raises TrainError "E947 out-of-memory" where these steps do not fit.
    """
    if placement.device.type != "cuda":
        return steps
    heaviest = max(int(steps.lengths[step.indices].sum()) for step in _sampled(steps))
    most, fitting = -(-heaviest // placement.context.world_size), 4 * MICRO_BATCH_TOKENS
    if is_measured:
        torch.cuda.empty_cache()
        usable, sized = int(USABLE * free_memory(placement.device)), resized(steps, MICRO_BATCH_TOKENS)
        lengths, state = steps.lengths[largest(sized)[1]], state_memory(model, steps.recipe, placement)
        tokens = int(lengths.sum()) if steps.is_packed else int(lengths.max()) * len(lengths)
        smaller = "Add --set gradient_checkpointing=true, or --set micro_batch_tokens=1024."
        with explain_oom("calibration", hint=smaller):
            grown = _grown(model, sized, placement)
        model.zero_grad()
        kept = state["gradients"] + state["optimizer"]
        fitting = tokens * (usable - kept) // max(1, grown - kept)
    chosen = -placement.context.max(-max(MICRO_BATCH_TOKENS, min(most, fitting)))
    console.info(f"micro_batch_tokens = {chosen:,}: {fitting:,} fit, and the largest step has {most:,}")
    return resized(steps, chosen)


def _grown(model: Any, steps: BatchSampler, placement: Placement) -> int:
    try:
        return calibrate(model, steps, placement)[1]
    except torch.OutOfMemoryError:
        if steps.recipe.gradient_checkpointing != "auto" or is_checkpointing(model):
            raise
    console.info("activations are computed again in the backward pass: the plan does not fit in memory otherwise")
    checkpoint_activations(model, True)
    return calibrate(model, steps, placement)[1]


def resized(steps: BatchSampler, tokens: int) -> BatchSampler:
    """Return the same steps in micro-batches of up to ``tokens``."""
    return steps.with_recipe(steps.recipe.model_copy(update={"micro_batch_tokens": tokens}))


def state_memory(model: Any, recipe: Recipe, placement: Placement) -> dict[str, int]:
    """Return the bytes of a device's part of weights, gradients and optimizer; activations are 0."""
    trained = num_parameters(model, is_trained_only=True)
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    sizes = {"weights": 4 * trained + frozen, "gradients": 4 * trained, "optimizer": _MOMENTS[recipe.optim] * trained}
    return {name: int(size) // placement.num_shards for name, size in sizes.items()} | {"activations": 0}


def needs_checkpointing(model: Any, recipe: Recipe, placement: Placement) -> Checkpointing:
    """Return whether activations must be computed again: the recipe says so, or leaves it to the plan, and on a GPU the
    state alone takes over a third of the memory. Where less is taken, `size_micro_batches` finds out.
    """
    if recipe.gradient_checkpointing != "auto":
        return recipe.gradient_checkpointing
    limit = memory_limit(placement.device)
    return placement.device.type == "cuda" and 3 * sum(state_memory(model, recipe, placement).values()) > limit


def useful_flops(model: Any, steps: BatchSampler) -> float:
    """Return the floating-point operations that a token of the run is worth in the mean, a multiplication and its
    addition being two: the head's of supervised tokens, attention within each text, nothing for padding or twice.
    """
    config, head = model.config.get_text_config(), model.get_output_embeddings().weight
    tables = sum(p.numel() for p in {model.get_input_embeddings().weight, head})
    body = num_parameters(model) - tables
    trained = num_parameters(model, is_trained_only=True) - tables * head.requires_grad
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    tokens, supervised = int(steps.lengths.sum()), int(steps.supervised.sum())
    # Forward, and the gradients of what comes in and of the weight, which frozen ones do without.
    of_head = (4 + 2 * head.requires_grad) * head.numel() * supervised
    # Scores and their use, half of the square.
    of_attention = 6 * width * config.num_hidden_layers * int((steps.lengths**2).sum())
    return float(4 * body + 2 * trained + (of_head + of_attention) / tokens)


def _why_not_compiled(
    recipe: Recipe, seconds: float | None, device: torch.device, dtype: torch.dtype, *, is_packed: bool
) -> str:  # fmt: skip
    # Return why layers are not compiled, "" where they are; steps that nobody measured may take long.
    is_auto = recipe.compile == "auto"
    reasons = {
        "compile = false": recipe.compile is False,
        'compile = "auto" is for CUDA': is_auto and device.type != "cuda",
        "weights in 4 bits were never tried in compiled layers": recipe.load_in_4bit,
        'no graph has what gradient_checkpointing = "offload" moves': recipe.gradient_checkpointing == "offload",
        f"the attention of packed rows in {dtype} on {device.type} is of no graph": is_packed
        and (dtype == torch.float32 or not has_varlen(device)),
        f"steps take under {_LONG // 60} minutes": is_auto and seconds is not None and seconds < _LONG,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")


# torch's CPU allocator raises a plain RuntimeError; its words are all there is to know it by.
_ALLOCATOR = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


@contextmanager
def explain_oom(stage: str, plan: Plan | None = None, hint: str = "") -> Iterator[None]:
    """Within, a lack of memory is raised as TrainError "E947 out-of-memory" (exit 3) that names what would fit.

    ``hint`` stands in for the plan's advice where it is not about steps. Nothing is changed for the run: another size
    of batch is for its owner to choose.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        is_known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not is_known and not any(words in str(error) for words in _ALLOCATOR):
            raise
        message = f"{stage}: {first_line(error)}"
        if plan is not None:
            message, hint = f"{message}; micro_batch_tokens = {plan['micro_batch_tokens']:,}", advice(plan)
        raise TrainError("E947 out-of-memory", message, hint, exit_code=Exit.MISSING) from error
