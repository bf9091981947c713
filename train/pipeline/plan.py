"""What a run will do, said before it does it: exact counts, memory, time, and what to set for less of it.

    make_plan(model, steps, placement, threads=1, is_measured=True).lines()

Three steps on this machine give memory and time. Without them memory is what the state takes: weights, gradients and
the optimizer's moments.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from train.base import console
from train.base.errors import Exit, TrainError, first_line
from train.loop import Expected, FitResult, Placement, Trainer, backward
from train.model import num_parameters
from train.model.attention import has_varlen
from train.model.batch import MICRO_BATCH_TOKENS, BatchSampler, Step
from train.model.capabilities import checkpoint_activations, is_checkpointing
from train.model.device import Meter, free_memory, memory_limit
from train.model.parallel import num_shards
from train.recipe import Checkpointing, Recipe
from train.recipe.forgetting import Remedy, risks, tuning_of
from train.recipe.schedule import betas, validations_from, warmup_steps, weight_decay

USABLE = 0.9
"""Share of a device's memory that is planned with; the rest is the context's, the kernels' and what lies scattered."""
# Bytes of both moments of a trained number; of 8 bits with the scale of each block of 256.
_MOMENTS = {"adamw_torch_fused": 8.0, "adamw_8bit": 2 + 8 / 256}
_GRAPH_SECONDS, _TIMES = 15, 10
"""An estimate: inductor takes 8 to 20 seconds for both passes of a layer. Steps become a fifth shorter, so a run that
takes ten times as long has it back twice.
"""
_PEAK = 1e15
"""Operations a second of an H100 in bfloat16, by which a run that was not measured takes least."""


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak of a step; ``activations`` are those of one micro-batch, with logits and everything else."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Plan(Expected):
    """The counts of a run, and its memory beside the ``device_bytes`` that there are.

    ``seconds``, of training alone, is None where no steps were measured.
    """

    parameters: int
    trained: int
    records: int
    tokens: int
    supervised: int
    longest: int
    steps: int
    run_tokens: int
    step_size: str
    micro_batch_tokens: int
    learning_rate: float
    warmup_steps: int
    betas: tuple[float, float]
    weight_decay: float
    memory: Memory
    device_bytes: int
    device: str
    dtype: str
    threads: int
    gradient_checkpointing: Checkpointing
    optim: str
    is_sharded: bool
    num_validations: int
    mixture: str
    risks: tuple[Remedy, ...]
    """What of the recipe is known to make a model forget, with the lines that would change it."""
    cost_per_hour: float | None
    seconds: float | None = None
    compile: bool = False
    compile_reason: str = ""

    @property
    def peak_bytes(self) -> int:
        """Most bytes that a step takes."""
        return self.memory.total

    @property
    def fits(self) -> bool:
        """True where the peak lies within what is planned with."""
        return self.peak_bytes <= USABLE * self.device_bytes

    @property
    def cost(self) -> float | None:
        """Money of training and evaluation, where time and price are known."""
        if self.seconds is None or self.cost_per_hour is None:
            return None
        return (self.seconds + self.evaluation) / 3600 * self.cost_per_hour

    @property
    def evaluation(self) -> float:
        """Seconds of all validations and of the evaluation after the training; 0 where unknown."""
        return self.num_validations * self.validation_seconds + self.evaluation_seconds

    def values(self) -> dict[str, Any]:
        """Return the plan as plain values for JSON."""
        memory = asdict(self.memory) | {"total": self.memory.total}
        state = self.memory.total - self.memory.activations
        computed = {"peak_bytes": self.peak_bytes, "fits": self.fits, "cost": self.cost}
        return asdict(self) | {"memory": memory, "state_bytes": state, **computed}

    def facts(self) -> dict[str, str]:
        """Return the plan for people: each fact by its name."""
        memory, method = self.memory, "LoRA" if self.trained < self.parameters else "full"
        parts = {"weights": memory.weights, "gradients": memory.gradients, "optimizer": memory.optimizer,
                 "activations": memory.activations}  # fmt: skip
        times = ["time not measured; leave --no-measure out to measure three steps"]
        if self.seconds is not None:
            times = [f"{duration(self.seconds)} of training by three steps here"]
        if self.evaluation:
            times.append(f"{duration(self.evaluation)} of evaluation")
        return {
            "records": f"{self.records:,} records, {self.tokens:,} tokens an epoch "
            f"({self.supervised / self.tokens:.1%} trained), {self.run_tokens:,} in the run; "
            f"the longest has {self.longest:,}",
            "mixture": f"an epoch mixes {self.mixture}" * bool(self.mixture),
            "steps": f"{self.steps:,} steps, {self.step_size}, micro-batches of up to "
            f"{self.micro_batch_tokens:,} tokens",
            "rate": f"learning_rate {self.learning_rate:.3g} after {self.warmup_steps} steps of warmup; AdamW's betas "
            f"{self.betas[0]:g} and {self.betas[1]:g}, weight decay {self.weight_decay:g}",
            "model": f"{method}, {self.trained:,} of {self.parameters:,} parameters trained",
            "machine": self._machine(),
            "memory": f"{_mb(self.peak_bytes)} MB at the {'most' if self.seconds else 'least'} of "
            f"{_mb(self.device_bytes)}: {'it fits' if self.fits else f'it does NOT FIT into {USABLE:.0%} of that'} ("
            + ", ".join(f"{name} {_mb(size)}" for name, size in parts.items()) + ")",
            "time": ", ".join(times),
            "cost": "" if self.cost is None else f"{self.cost:,.2f} at {self.cost_per_hour:,.2f} an hour",
            "advice": "" if self.fits else self.advice(),
            "forgetting": "; ".join(f"{risk.text}: {'  '.join(risk.lines)}" for risk in self.risks),
        }  # fmt: skip

    def sentence(self) -> str:
        """Return the plan in one line."""
        return "; ".join(text for name, text in self.facts().items() if text and name != "forgetting")

    def lines(self) -> list[str]:
        """Return the plan for people, a fact a line."""
        return [f"{name:<11} {text}" for name, text in self.facts().items() if text]

    def advice(self) -> str:
        """Return what to set where it does not fit, what costs least first."""
        current, settings = self.micro_batch_tokens, list[str]()
        smaller = max(16, 1 << ((current - 1).bit_length() - 1))
        if min(self.longest, current) <= smaller < current:
            settings.append(f"--set micro_batch_tokens={smaller}")
        if not self.gradient_checkpointing:
            settings.append("--set gradient_checkpointing=true")
        elif self.gradient_checkpointing is True and self.device != "cpu":
            settings.append("--set gradient_checkpointing=offload")
        if self.optim == "adamw_torch_fused" and not self.is_sharded and self.memory.optimizer > self.peak_bytes / 10:
            settings.append("--set optim=adamw_8bit")
        if not settings:
            settings.append(f"--set max_length={max(8, self.longest // 2)} (with on_too_long = cut or skip)")
        return f"Add {' or '.join(settings)}; a step keeps its batch and its gradient."

    def _machine(self) -> str:
        how = {False: "", True: ", activations computed again", "offload": ", activations computed again, their inputs "
               "offloaded"}[self.gradient_checkpointing]  # fmt: skip
        how += ", moments in 8 bits" * (self.optim == "adamw_8bit")
        how += f", {'' if self.compile else 'not '}compiled ({self.compile_reason})"
        return f"{self.dtype} on {self.device}" + f", {self.threads} threads" * (self.device == "cpu") + how


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def duration(seconds: float) -> str:
    """Return seconds as people say them, as "12 minutes"."""
    text = f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
    return f"{seconds:.0f} seconds" if seconds < 90 else text


def make_plan(
    model: Any, steps: BatchSampler, placement: Placement, *, threads: int, is_measured: bool = False,
    memory_bytes: int | None = None, cost_per_hour: float | None = None,
) -> Plan:  # fmt: skip
    """Return the plan of a run; with ``is_measured`` three steps are computed and thrown away for memory and time.

    A model that will be sharded is not measured: it is still whole here, and its gradients and moments may not fit.
    Where the recipe leaves micro_batch_tokens to the plan, it is chosen here. ``memory_bytes`` replaces the memory of
    this device; ``cost_per_hour`` turns the time into a cost. Raises TrainError "E947 out-of-memory" where the three
    steps do not fit.
    """
    device, dtype, recipe = placement.device, placement.dtype, steps.recipe
    is_sharded = num_shards(placement.strategy, placement.context) > 1
    is_measured = is_measured and not is_sharded
    if recipe.micro_batch_tokens == "auto":
        steps = size_micro_batches(model, steps, placement, is_measured=is_measured)
    how: Checkpointing = is_checkpointing(model)
    # A CPU has no other memory to put anything into, unless it stands in for a GPU.
    if how and recipe.gradient_checkpointing == "offload" and (device.type != "cpu" or memory_bytes):
        how = "offload"
    memory = state_memory(model, recipe, placement)
    tuning = tuning_of(recipe, model.get_input_embeddings().weight.shape[1], str(model.config.model_type))
    plan = Plan(
        parameters=num_parameters(model), trained=num_parameters(model, is_trained_only=True),
        records=len(steps.mixture), tokens=steps.tokens, supervised=steps.trained, longest=int(steps.lengths.max()),
        steps=len(steps), run_tokens=steps.num_tokens(), step_size=steps.step_size,
        micro_batch_tokens=steps.micro_batch_tokens, learning_rate=tuning.lr,
        warmup_steps=warmup_steps(recipe, len(steps)), betas=betas(recipe), weight_decay=weight_decay(recipe),
        memory=memory, device_bytes=memory_bytes or memory_limit(device),
        device=str(device), dtype=str(dtype).removeprefix("torch."), threads=threads, gradient_checkpointing=how,
        optim=recipe.optim, is_sharded=is_sharded,
        risks=tuple(risks(tuning)), cost_per_hour=cost_per_hour, flops=useful_flops(model, steps),
        num_validations=validations_from(recipe, 1, len(steps)), mixture=console.one_line(steps.mixture.sentence()),
    )  # fmt: skip
    if is_measured:
        with explain_oom(plan, "calibration"):
            seconds_per_token, grown = calibrate(model, steps, placement)
        memory = replace(memory, activations=max(0, grown - memory.gradients - memory.optimizer))
        plan = replace(plan, memory=memory, seconds=seconds_per_token * plan.run_tokens)
    is_compiled, reason = _compilation(plan, model, steps, device)
    return replace(plan, compile=is_compiled, compile_reason=reason)


def _sampled(steps: BatchSampler) -> list[Step]:
    # At most 200 steps spread over the run.
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
        meter = Meter(device)
        trainer = Trainer(model, steps, Placement(device, dtype))
        # The heaviest comes first: it has the largest micro-batch of the run, which shows the memory, and it pays for
        # what the others find made, so their time counts.
        began = 0.0
        for step in (largest(steps)[0], *timed):
            # At a rate of zero the update, decay included, leaves each weight bit for bit what it is.
            trainer.optimizer.clip(backward(trainer, step))
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

    Two sizes are trained with and thrown away: what they take lies on a line. Without ``is_measured`` 8,192 stand for
    the answer. All ranks get that of the one with the least memory. Raises TrainError "E947 out-of-memory" where the
    smaller size does not fit.
    """
    if placement.device.type != "cuda":
        return steps
    largest_step = max(int(steps.lengths[step.indices].sum()) for step in _sampled(steps))
    most, fitting = -(-largest_step // placement.context.world_size), 4 * MICRO_BATCH_TOKENS
    if is_measured:
        torch.cuda.empty_cache()
        usable, points = int(USABLE * free_memory(placement.device)), list[tuple[int, int]]()
        smaller = "Add --set gradient_checkpointing=true, or --set micro_batch_tokens=1024."
        for size in (MICRO_BATCH_TOKENS, fitting):
            sized = resized(steps, size)
            lengths = steps.lengths[largest(sized)[1]]
            padded = int(lengths.sum()) if steps.is_packed else int(lengths.max()) * len(lengths)
            # Where the larger one does not fit, the smaller one is all there is.
            with suppress(torch.OutOfMemoryError) if points else explain_oom(None, "calibration", smaller):
                points.append((padded, _grown(model, sized, placement, is_first=not points)))
        model.zero_grad()
        (few, low), (many, high) = points[0], points[-1]
        fitting = few + (usable - low) * (many - few) // max(1, high - low)
    tokens = -placement.context.max(-max(MICRO_BATCH_TOKENS, min(most, fitting)))
    console.info(f"micro_batch_tokens = {tokens:,}: {fitting:,} fit, and the largest step has {most:,}")
    return resized(steps, tokens)


def _grown(model: Any, steps: BatchSampler, placement: Placement, *, is_first: bool) -> int:
    try:
        return calibrate(model, steps, placement)[1]
    except torch.OutOfMemoryError:
        if not is_first or steps.recipe.gradient_checkpointing != "auto" or is_checkpointing(model):
            raise
    console.info("activations are computed again in the backward pass: the plan does not fit in memory otherwise")
    checkpoint_activations(model, True)
    return calibrate(model, steps, placement)[1]


def resized(steps: BatchSampler, tokens: int) -> BatchSampler:
    """Return the same steps in micro-batches of up to ``tokens``."""
    recipe = steps.recipe.model_copy(update={"micro_batch_tokens": tokens})
    return BatchSampler(steps.examples, recipe, is_packed=steps.is_packed, num_ranks=steps.num_ranks)


def state_memory(model: Any, recipe: Recipe, placement: Placement) -> Memory:
    """Return the memory that a device's part of weights, gradients and optimizer takes; activations are 0."""
    trained = num_parameters(model, is_trained_only=True)
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    sizes = 4 * trained + frozen, 4 * trained, int(trained * _MOMENTS[recipe.optim])
    shards = num_shards(placement.strategy, placement.context)
    weights, gradients, optimizer = (size // shards for size in sizes)
    return Memory(weights, gradients, optimizer, activations=0)


def needs_checkpointing(model: Any, recipe: Recipe, placement: Placement) -> Checkpointing:
    """Return whether activations must be computed again: the recipe says so, or leaves it to the plan, and on a GPU the
    state alone takes over a third of the memory. Where less is taken, `size_micro_batches` finds out.
    """
    if recipe.gradient_checkpointing != "auto":
        return recipe.gradient_checkpointing
    limit = memory_limit(placement.device)
    return placement.device.type == "cuda" and 3 * state_memory(model, recipe, placement).total > limit


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


def _compilation(plan: Plan, model: Any, steps: BatchSampler, device: torch.device) -> tuple[bool, str]:
    # Return whether layers are compiled, and why.
    recipe = steps.recipe
    no_graph = steps.is_packed and (plan.dtype == "float32" or not has_varlen(device))
    reasons = {
        "compile = false": recipe.compile is False,
        'compile = "auto" is for CUDA': recipe.compile == "auto" and device.type != "cuda",
        "weights in 4 bits were never tried in compiled layers": recipe.load_in_4bit,
        'no graph has what gradient_checkpointing = "offload" moves': recipe.gradient_checkpointing == "offload",
        f"the attention of packed rows in {plan.dtype} on {device.type} is of no graph": no_graph,
    }
    if reason := next((reason for reason, is_so in reasons.items() if is_so), ""):
        return False, reason
    if recipe.compile is True:
        return True, "compile = true"
    # Where adapters alone are trained, the first layer's input needs no gradient, unless it is computed again; a padded
    # batch of one text is a shape of its own.
    layers = getattr(model.config.get_text_config(), "layer_types", None)
    kinds, is_lora = len(set(layers or [None])), recipe.method == "lora"
    graphs = (kinds + (is_lora and not plan.gradient_checkpointing)) * (2 - steps.is_packed)
    training = (plan.seconds or plan.flops * plan.run_tokens / _PEAK) / steps.num_ranks
    compiling = _GRAPH_SECONDS * graphs
    is_worth = training >= _TIMES * compiling
    return is_worth, (
        f"{duration(training)} of steps{'' if plan.seconds else ' at the least'} are {'over' if is_worth else 'under'} "
        f"{_TIMES} times the {compiling} seconds of compiling, estimated at {_GRAPH_SECONDS} a graph"
    )


# torch's CPU allocator raises a plain RuntimeError; its words are all there is to know it by.
_ALLOCATOR = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


@contextmanager
def explain_oom(plan: Plan | None, stage: str, hint: str = "") -> Iterator[None]:
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
            message += f"; planned were {_mb(plan.peak_bytes)} MB of {_mb(plan.device_bytes)} MB of {plan.device}, "
            message += f"with micro_batch_tokens = {plan.micro_batch_tokens:,}"
            hint = hint or plan.advice()
        raise TrainError("E947 out-of-memory", message, hint, exit_code=Exit.MISSING) from error


def report_accuracy(plan: Plan, result: FitResult, peak_bytes: int) -> dict[str, Any]:
    """Return planned against real, and say it; the planned time is that of the tokens that were read here.

    An error is planned / real - 1, None where not planned. ``peak_bytes`` are those of the training, with validations.
    """
    seconds = None if plan.seconds is None else plan.seconds / plan.run_tokens * result.step_tokens
    planned = {"seconds": seconds, "peak_bytes": plan.peak_bytes}
    real = {"seconds": round(result.step_seconds, 3), "peak_bytes": peak_bytes}
    errors = {key: round(value / real[key] - 1, 4) if value and real[key] else None for key, value in planned.items()}
    # Where steps are short, answers that are written between them take more than they do; the plan is of steps.
    text = f"memory {_mb(peak_bytes)} MB, planned were {_mb(plan.peak_bytes)} MB for the steps"
    if seconds is not None:
        text += f"; steps {duration(result.step_seconds)}, planned were {duration(seconds)}"
    console.info(text)
    return {"planned": planned, "real": real, "error": errors}
