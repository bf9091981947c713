"""What a run will do, said before it does it: exact counts, memory by arithmetic, and what to set for less of it.

    make_plan(model, steps, device=..., dtype=..., threads=1, is_measured=True).lines()

`memory` has the arithmetic; three steps on this machine correct it and give the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from train.base import console
from train.base.errors import Exit, TrainError, first_line
from train.evaluate.dynamics import Dynamics
from train.loop import Expected, FitResult
from train.loop.gradients import Gradients, Optimizer, Placement
from train.model.attention import has_varlen
from train.model.batch import MICRO_BATCH_TOKENS, BatchSampler, Step
from train.model.capabilities import is_checkpointing
from train.model.device import Meter, free_memory, memory_limit
from train.model.distributed import SINGLE_PROCESS, DistributedContext
from train.model.parallel import parallelize
from train.pipeline.memory import USABLE, Memory, peak, shape_of, tokens_of, useful_flops
from train.recipe import Checkpointing
from train.recipe.forgetting import Remedy, risks, tuning_of
from train.recipe.schedule import betas, validations_from, warmup_steps, weight_decay

CALIBRATION_STEPS = 3
_GRAPH_SECONDS, _TIMES = 15, 10
"""An estimate: inductor takes 8 to 20 seconds for both passes of a layer. Steps become a fifth shorter, so a run that
takes ten times as long has it back twice.
"""
_PEAK = 1e15
"""Operations a second of an H100 in bfloat16, by which a run that was not measured takes least."""


@dataclass(frozen=True)
class Plan(Expected):
    """The counts of a run, and its memory beside the ``device_bytes`` that there are.

    Where a few steps were measured, ``memory.overhead`` corrects the arithmetic; else ``seconds`` is None.
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
    memory: Memory
    device_bytes: int
    device: str
    dtype: str
    threads: int
    gradient_checkpointing: Checkpointing = False
    optim: str = "adamw_torch_fused"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    is_sharded: bool = False
    """Whether several ranks cut the model."""
    seconds: float | None = None
    cost_per_hour: float | None = None
    num_validations: int = 0
    mixture: str = ""
    compile: bool = False
    compile_reason: str = ""
    """Why layers are compiled, or are not."""
    risks: tuple[Remedy, ...] = ()
    """What of the recipe is known to make a model forget, with the lines that would change it."""

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
        state = self.memory.weights + self.memory.gradients + self.memory.optimizer
        computed = {"peak_bytes": self.peak_bytes, "fits": self.fits, "cost": self.cost}
        return asdict(self) | {"memory": memory, "state_bytes": state, **computed}

    def sentence(self) -> str:
        """Return the plan in one line."""
        return (
            f"{self.records:,} records, {self.tokens:,} tokens an epoch ({self.supervised / self.tokens:.0%} trained), "
            f"{self.steps:,} steps, {self.step_size}, learning_rate {self.learning_rate:.2e}; "
            f"{'LoRA' if self.trained < self.parameters else 'full'}, "
            f"{self.trained:,} of {self.parameters:,} parameters, {self._machine()}; "
            f"{_mb(self.peak_bytes)} MB at the {'most' if self.seconds else 'least'}"
            + (f", {duration(self.seconds)}" if self.seconds is not None else "")
            + (f" and {duration(self.evaluation)} of evaluation" if self.evaluation else "")
            + (f"; an epoch mixes {self.mixture}" if self.mixture else "")
        )

    def lines(self) -> list[str]:
        """Return the plan for people, a fact a line."""
        memory, bound = self.memory, "most" if self.seconds else "least"
        return [
            f"records     {self.records:,} to train on, the longest has {self.longest:,} tokens",
            f"tokens      {self.tokens:,} an epoch, {self.supervised:,} ({self.supervised / self.tokens:.1%}) trained; "
            f"{self.run_tokens:,} in the run",
            *([f"mixture     {self.mixture}"] if self.mixture else []),
            f"steps       {self.steps:,}, {self.step_size}, micro-batches of up to {self.micro_batch_tokens:,} tokens",
            f"rate        {self.learning_rate:.3g} after {self.warmup_steps} steps of warmup; AdamW's betas "
            f"{self.betas[0]:g} and {self.betas[1]:g}, weight decay {self.weight_decay:g}",
            f"parameters  {self.trained:,} trained of {self.parameters:,}",
            f"machine     {self._machine()}",
            f"memory      {_mb(self.peak_bytes)} MB at the {bound} of {_mb(self.device_bytes)}: "
            + ("it fits" if self.fits else f"it does NOT FIT into {USABLE:.0%} of that"),
            f"            weights {_mb(memory.weights)}, gradients {_mb(memory.gradients)}, optimizer "
            f"{_mb(memory.optimizer)}, activations {_mb(memory.activations)}, logits {_mb(memory.head)}, "
            f"the rest {_mb(memory.overhead)}",
            *self._time(),
            *([] if self.fits else [f"            {self.advice()}"]),
            *(f"{'' if n else 'forgetting':<11} {r.text}: {'  '.join(r.lines)}" for n, r in enumerate(self.risks)),
        ]

    def _time(self) -> list[str]:
        if self.seconds is None:
            return ["time        not measured; leave --no-measure out to measure three steps"]
        text = f"{duration(self.seconds)} of training, without evaluation, by {CALIBRATION_STEPS} steps here"
        lines = [f"time        {text}"]
        if self.cost is not None:
            lines.append(f"cost        {self.cost:,.2f} at {self.cost_per_hour:,.2f} an hour")
        return lines

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
        again = ", activations computed again" if self.gradient_checkpointing else ""
        again += ", their inputs offloaded" if self.gradient_checkpointing == "offload" else ""
        again += ", moments in 8 bits" if self.optim == "adamw_8bit" else ""
        again += f", {'' if self.compile else 'not '}compiled ({self.compile_reason})"
        return f"{self.dtype} on {self.device}" + (f", {self.threads} threads" if self.device == "cpu" else "") + again


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def duration(seconds: float) -> str:
    """Return seconds as people say them, as "12 minutes"."""
    text = f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
    return f"{seconds:.0f} seconds" if seconds < 90 else text


_MOST_SAMPLED = 200
_SMALLER = "Add --set gradient_checkpointing=true, or --set micro_batch_tokens=1024."


def _sampled(steps: BatchSampler) -> list[Step]:
    # At most 200 steps spread over the run.
    chosen = sorted({round(n * (len(steps) - 1) / max(1, _MOST_SAMPLED - 1)) for n in range(_MOST_SAMPLED)})
    return [steps[number] for number in chosen]


def largest(steps: BatchSampler) -> tuple[Step, list[int]]:
    """Return the step, of at most 200 spread over the run, with the largest micro-batch, and that micro-batch."""
    pairs = [(step, group) for step in _sampled(steps) for group in step.micro_batches]
    return max(pairs, key=lambda pair: int(steps.lengths[pair[1]].sum()))


def calibrate(
    model: Any, steps: BatchSampler, heaviest: Step, device: torch.device, dtype: torch.dtype
) -> tuple[float, int]:
    """Return the seconds of a token of training, optimizer included, and the peak over what was there, in bytes.

    Three steps of the loop are computed at a rate of zero; weights and random numbers stay as they were.
    """
    timed = [steps[number * len(steps) // 2] for number in range(CALIBRATION_STEPS - 1)]
    was_training, devices = model.training, [device] if device.type == "cuda" else []
    model.train()
    with torch.random.fork_rng(devices):
        meter = Meter(device)
        parallel = parallelize(model, "ddp", SINGLE_PROCESS, dtype=dtype)
        dynamics = Dynamics(steps.chosen.tolist(), device)
        gradients = Gradients(model, steps, Placement(device, dtype), parallel, dynamics, attention=0.0)
        optimizer = Optimizer(model, parallel, steps.recipe)
        # The heaviest comes first: it has the largest micro-batch of the run, which shows the memory, and it pays for
        # what the others find made, so their time counts.
        began = 0.0
        for step in (heaviest, *timed):
            # At a rate of zero the update, decay included, leaves each weight bit for bit what it is.
            optimizer.step(gradients.backward(step), lr=0.0)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            began = began or time.monotonic()
        spent = time.monotonic() - began
        grown = meter.grown()
    model.train(was_training)
    tokens = sum(int(steps.lengths[group].sum()) for step in timed for group in step.micro_batches)
    return spent / tokens, grown


def size_micro_batches(
    model: Any, steps: BatchSampler, device: torch.device, dtype: torch.dtype, context: DistributedContext, *,
    is_measured: bool,
) -> BatchSampler:  # fmt: skip
    """Return the steps in micro-batches for the device: on CUDA of as many tokens as its free memory takes, but no more
    than the largest step gives a rank, nor less than the 2,048 that they have elsewhere.

    Two sizes are trained with and thrown away: what they take lies on a line. Without ``is_measured`` 8,192 stand for
    the answer. All ranks get that of the one with the least memory. Raises TrainError "E947 out-of-memory" where the
    smaller size does not fit.
    """
    if device.type != "cuda":
        return steps
    most = -(-max(int(steps.lengths[step.indices].sum()) for step in _sampled(steps)) // context.world_size)
    fitting = 4 * MICRO_BATCH_TOKENS
    if is_measured:
        torch.cuda.empty_cache()
        usable, points = int(USABLE * free_memory(device)), list[tuple[int, int]]()
        for size in (MICRO_BATCH_TOKENS, fitting):
            # Where the larger one does not fit, the smaller one is all there is.
            with suppress(torch.OutOfMemoryError) if points else explain_oom(None, "calibration", _SMALLER):
                sized = resized(steps, size)
                step, group = largest(sized)
                points.append((tokens_of(sized, group), calibrate(model, sized, step, device, dtype)[1]))
        model.zero_grad()
        (few, low), (many, high) = points[0], points[-1]
        fitting = few + (usable - low) * (many - few) // max(1, high - low)
    tokens = -context.max(-max(MICRO_BATCH_TOKENS, min(most, fitting)))
    console.talk(f"micro_batch_tokens = {tokens:,}: {fitting:,} fit, and the largest step has {most:,}")
    return resized(steps, tokens)


def resized(steps: BatchSampler, tokens: int) -> BatchSampler:
    """Return the same steps in micro-batches of up to ``tokens``."""
    recipe = steps.recipe.model_copy(update={"micro_batch_tokens": tokens})
    return BatchSampler(steps.examples, recipe, is_packed=steps.is_packed, num_ranks=steps.num_ranks)


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
        known = MemoryError | torch.OutOfMemoryError
        if not isinstance(error, known) and not any(words in str(error) for words in _ALLOCATOR):
            raise
        message = f"{stage}: {first_line(error)}"
        if plan is not None:
            message += f"; planned were {_mb(plan.peak_bytes)} MB of {_mb(plan.device_bytes)} MB of {plan.device}, "
            message += f"with micro_batch_tokens = {plan.micro_batch_tokens:,}"
            hint = hint or plan.advice()
        raise TrainError("E947 out-of-memory", message, hint, exit_code=Exit.MISSING) from error


# In bfloat16 a CPU compiles more kernels in many steps than in three of them, and its heap lies scattered between:
# `benchmarks/plan.py` saw about a tenth and 96 MiB more than three steps show.
_SCATTERED, _LATER_KERNELS = 1.1, 96 << 20


def make_plan(
    model: Any, steps: BatchSampler, *, device: torch.device, dtype: torch.dtype, threads: int,
    is_measured: bool = False, memory_bytes: int | None = None, cost_per_hour: float | None = None, shards: int = 1,
) -> Plan:  # fmt: skip
    """Return the plan of a run; with ``is_measured`` three steps are computed and thrown away to correct it.

    ``memory_bytes`` replaces the memory of this device; ``cost_per_hour`` turns the time into a cost. ``shards`` is the
    number of parts that the run will cut the model into, which is whole here. Raises TrainError "E947 out-of-memory"
    where the three steps do not fit.
    """
    recipe = steps.recipe
    how: Checkpointing = is_checkpointing(model)
    # A CPU has no other memory to put anything into, unless it stands in for a GPU.
    if how and recipe.gradient_checkpointing == "offload" and (device.type != "cpu" or memory_bytes):
        how = "offload"
    limit = memory_bytes or memory_limit(device)
    shape = shape_of(model, recipe, dtype.itemsize, checkpointing=how, shards=shards, limit=limit)
    heaviest, group = largest(steps)
    memory = peak(shape, steps, group, device)
    tuning = tuning_of(recipe, model.get_input_embeddings().weight.shape[1], str(model.config.model_type))
    run_tokens = steps.num_tokens()
    plan = Plan(
        parameters=shape.parameters, trained=shape.trained, records=len(steps.mixture), tokens=steps.tokens,
        supervised=steps.trained, longest=int(steps.lengths.max()), steps=len(steps),
        run_tokens=run_tokens, step_size=steps.step_size,
        micro_batch_tokens=steps.micro_batch_tokens, learning_rate=tuning.lr,
        warmup_steps=warmup_steps(recipe, len(steps)), memory=memory,
        device_bytes=limit,
        device=str(device), dtype=str(dtype).removeprefix("torch."), threads=threads,
        gradient_checkpointing=shape.checkpointing, optim=recipe.optim, betas=betas(recipe),
        weight_decay=weight_decay(recipe), is_sharded=shards > 1, risks=tuple(risks(tuning)),
        cost_per_hour=cost_per_hour, num_validations=validations_from(recipe, 1, len(steps)),
        flops=useful_flops(shape, steps), mixture=console.one_line(steps.mixture.sentence()),
    )  # fmt: skip
    if is_measured:
        with explain_oom(plan, "calibration"):
            seconds_per_token, grown = calibrate(model, steps, heaviest, device, dtype)
        if device.type == "cpu" and dtype == torch.bfloat16:
            grown = int(grown * _SCATTERED) + _LATER_KERNELS
        # What was measured does not include the weights.
        memory = replace(memory, overhead=grown - (memory.total - memory.weights))
        plan = replace(plan, memory=memory, seconds=seconds_per_token * run_tokens)
    is_compiled, reason = _compilation(plan, model, steps, device, steps.num_ranks)
    return replace(plan, compile=is_compiled, compile_reason=reason)


def _compilation(plan: Plan, model: Any, steps: BatchSampler, device: torch.device, num_ranks: int) -> tuple[bool, str]:
    # Return whether layers are compiled, and why.
    recipe = steps.recipe
    if recipe.compile is False:
        return False, "compile = false"
    if recipe.compile == "auto" and device.type != "cuda":
        return False, 'compile = "auto" is for CUDA'
    if recipe.load_in_4bit:
        return False, "weights in 4 bits were never tried in compiled layers"
    if recipe.gradient_checkpointing == "offload":
        return False, 'no graph has what gradient_checkpointing = "offload" moves'
    if steps.is_packed and (plan.dtype == "float32" or not has_varlen(device)):
        return False, f"the attention of packed rows in {plan.dtype} on {device.type} is of no graph"
    if recipe.compile is True:
        return True, "compile = true"
    # Where adapters alone are trained, the first layer's input needs no gradient, unless it is computed again; a padded
    # batch of one text is a shape of its own.
    kinds, is_lora = len(set(getattr(model.config, "layer_types", None) or [None])), recipe.method == "lora"
    graphs = (kinds + (is_lora and not plan.gradient_checkpointing)) * (2 - steps.is_packed)
    least = plan.flops * plan.run_tokens / _PEAK
    training, compiling = (plan.seconds or least) / num_ranks, _GRAPH_SECONDS * graphs
    is_worth = training >= _TIMES * compiling
    return is_worth, (
        f"{duration(training)} of steps{'' if plan.seconds else ' at the least'} are {'over' if is_worth else 'under'} "
        f"{_TIMES} times the {compiling} seconds of compiling, estimated at {_GRAPH_SECONDS} a graph"
    )


def report_accuracy(plan: Plan, result: FitResult, grown: int, model: Any) -> dict[str, Any]:
    """Return planned against real, and say it; the planned time is that of the tokens that were read here.

    ``grown`` are the bytes that training took beside the weights, with validations.
    """
    values = plan.values()
    if plan.seconds is not None:
        values["seconds"] = plan.seconds / plan.run_tokens * result.step_tokens
    began_with = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    comparison = accuracy(values, seconds=result.step_seconds, peak_bytes=began_with + grown)
    real, planned = comparison["real"], comparison["planned"]
    # Where steps are short, answers that are written between them take more than they do; the plan is of steps.
    text = f"memory {_mb(real['peak_bytes'])} MB, planned were {_mb(planned['peak_bytes'])} MB for the steps"
    if planned["seconds"] is not None:
        text += f"; steps {duration(real['seconds'])}, planned were {duration(planned['seconds'])}"
    console.talk(text)
    return comparison


def accuracy(plan: Mapping[str, Any], *, seconds: float, peak_bytes: int) -> dict[str, Any]:
    """Return a plan's time and memory beside the real ones; an error is planned / real - 1, None where not planned."""
    real = {"seconds": round(seconds, 3), "peak_bytes": peak_bytes}
    planned = {key: plan.get(key) for key in real}
    errors = {
        key: None if value is None or not real[key] else round(value / real[key] - 1, 4)
        for key, value in planned.items()
    }
    return {"planned": planned, "real": real, "error": errors}


def needs_checkpointing(
    model: Any, steps: BatchSampler, device: torch.device, dtype: torch.dtype, *, shards: int = 1
) -> Checkpointing:
    """Return whether activations must be computed again: the recipe says so, or leaves it to the plan and the largest
    micro-batch fits this way only, beside what a device holds of a model in ``shards``.
    """
    # By the same arithmetic as the plan's: a run that was planned to fit must not find out otherwise.
    recipe = steps.recipe
    if recipe.gradient_checkpointing != "auto":
        return recipe.gradient_checkpointing
    limit, (_, group) = memory_limit(device), largest(steps)
    without, with_it = (
        peak(
            shape_of(model, recipe, dtype.itemsize, checkpointing=is_on, shards=shards, limit=limit),
            steps, group, device,
        ).total
        for is_on in (False, True)
    )  # fmt: skip
    return with_it <= USABLE * limit < without
