"""What a run will do, said before it does it: exact counts, memory by arithmetic, and both time and memory corrected by
three steps on this machine.

    make_plan(model, steps, device=..., dtype=..., threads=1, is_measured=True).lines()
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from train.base import console
from train.base.errors import Exit, TrainError, first_line
from train.model import computing
from train.model.batch import BatchSampler, Step, collate, few_lengths
from train.model.distributed import SINGLE_PROCESS
from train.model.layers import is_checkpointing
from train.model.loss import supervised_loss
from train.model.memory import Meter, memory_limit
from train.model.parallel import ParallelStrategy, pick_strategy
from train.pipeline.memory import USABLE, Memory, Shape, estimate, fitting_tokens, shape_of
from train.recipe.forgetting import Remedy, risks, tuning_of
from train.recipe.schedule import warmup_steps

CALIBRATION_STEPS = 3


@dataclass(frozen=True)
class Choices:
    """What follows from the plan, as advice: nothing of it is set by itself but activation checkpointing."""

    micro_batch_tokens: int
    """The largest power of two that fits, 0 where none does."""
    checkpointing: bool
    ranks: ParallelStrategy
    """How to share the run between GPUs."""


@dataclass(frozen=True)
class Plan:
    """The counts of a run. ``seconds`` is None where nothing was measured; ``peak_bytes`` is computed, and corrected
    by ``memory.overhead`` where a few steps were. ``device_bytes`` is the memory that it is held against.
    """

    parameters: int
    trained: int
    records: int
    tokens: int
    supervised: int
    longest: int
    steps: int
    run_tokens: int
    batch_size: int | None
    micro_batch_tokens: int
    lr: float
    warmup: int
    memory: Memory
    peak_bytes: int
    device_bytes: int
    device: str
    dtype: str
    threads: int
    choices: Choices
    checkpointing: bool = False
    seconds: float | None = None
    cost_per_hour: float | None = None
    mixture: str = ""
    risks: tuple[Remedy, ...] = ()
    """What of the recipe is known to make a model forget, with the lines that would change it."""

    @property
    def fits(self) -> bool:
        """True where the peak lies within what is planned with."""
        return self.peak_bytes <= USABLE * self.device_bytes

    @property
    def cost(self) -> float | None:
        """Money of the training, where time and price are known."""
        known = self.seconds is not None and self.cost_per_hour is not None
        return self.seconds / 3600 * self.cost_per_hour if known else None  # type: ignore[operator]

    def values(self) -> dict[str, Any]:
        """Return the plan as plain values for JSON."""
        memory = asdict(self.memory) | {"total": self.memory.total}
        state = self.memory.weights + self.memory.gradients + self.memory.optimizer
        return asdict(self) | {"memory": memory, "state_bytes": state, "fits": self.fits, "cost": self.cost}

    def sentence(self) -> str:
        """Return the plan in one line."""
        return (
            f"{self.records:,} records, {self.tokens:,} tokens an epoch ({self.supervised / self.tokens:.0%} trained), "
            f"{self.steps:,} steps of {self._size()}, lr {self.lr:.2e}; {self.trained:,} of {self.parameters:,} "
            f"parameters, {self._machine()}; {self.peak_bytes / 1e6:,.0f} MB at the most"
            + (f", {_duration(self.seconds)}" if self.seconds is not None else "")
            + (f"; an epoch mixes {self.mixture}" if self.mixture else "")
        )

    def lines(self) -> list[str]:
        """Return the plan for people, a fact a line."""
        memory, heads = self.memory, ["forgetting ", *[" " * 11] * len(self.risks)]
        return [
            f"records     {self.records:,} to train on, the longest has {self.longest:,} tokens",
            f"tokens      {self.tokens:,} an epoch, {self.supervised:,} ({self.supervised / self.tokens:.1%}) trained; "
            f"{self.run_tokens:,} in the run",
            *([f"mixture     {self.mixture}"] if self.mixture else []),
            f"steps       {self.steps:,} of {self._size()}, micro-batches of {self.micro_batch_tokens:,} tokens",
            f"rate        {self.lr:.3g} after {self.warmup} steps of warmup",
            f"parameters  {self.trained:,} trained of {self.parameters:,}",
            f"machine     {self._machine()}",
            f"memory      {self.peak_bytes / 1e6:,.0f} MB at the most of {self.device_bytes / 1e6:,.0f}, "
            + ("which fits" if self.fits else f"over the {USABLE:.0%} of it that are planned with: it does NOT FIT"),
            f"            weights {_mb(memory.weights)}, gradients {_mb(memory.gradients)}, optimizer "
            f"{_mb(memory.optimizer)}, activations {_mb(memory.activations)}, logits {_mb(memory.head)}, "
            f"the rest {_mb(memory.overhead)}",
            *self._time(),
            *self._advice(),
            *(f"{head} {risk.text}: {'  '.join(risk.lines)}" for head, risk in zip(heads, self.risks, strict=False)),
        ]

    def _time(self) -> list[str]:
        if self.seconds is None:
            return ["time        not measured; without --no-measure three steps tell it"]
        text = f"{_duration(self.seconds)} of training, without evaluation, by {CALIBRATION_STEPS} steps here"
        lines = [f"time        {text}"]
        if self.cost is not None:
            lines.append(f"cost        {self.cost:,.2f} at {self.cost_per_hour:,.2f} an hour")
        return lines

    def _advice(self) -> list[str]:
        choices = self.choices
        most = choices.micro_batch_tokens
        how = " with checkpointing = true" if choices.checkpointing and not self.checkpointing else ""
        size = f"up to {most:,} tokens fit{how}" if most else "none fits: take a smaller model or max_length, or lora"
        ranks = {
            "ddp": "DDP: what each GPU must hold fits beside the whole model",
            "fsdp": "FSDP2: weights, gradients and optimizer are too large for each GPU to hold them whole",
        }[choices.ranks]
        return [f"micro-batch {size}", f"several GPUs {ranks}"]

    def _size(self) -> str:
        return f"{self.batch_size} records" if self.batch_size else "a token budget"

    def _machine(self) -> str:
        again = ", activations computed again" if self.checkpointing else ""
        return f"{self.dtype} on {self.device}" + (f", {self.threads} threads" if self.device == "cpu" else "") + again


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


_MOST_SAMPLED = 200


def largest(steps: BatchSampler) -> tuple[Step, list[int]]:
    """Return the step, of at most 200 spread over the run, with the largest micro-batch, and that micro-batch."""
    chosen = sorted({round(n * (len(steps) - 1) / max(1, _MOST_SAMPLED - 1)) for n in range(_MOST_SAMPLED)})
    sample_rows = [steps[number] for number in chosen if number < len(steps)]
    pairs = [(step, group) for step in sample_rows for group in step.micro_batches]
    return max(pairs, key=lambda pair: int(steps.lengths[pair[1]].sum()))


def calibrate(
    model: Any, steps: BatchSampler, heaviest: Step, device: torch.device, dtype: torch.dtype
) -> tuple[float, int]:
    """Return the seconds of a token of training, optimizer included, and the peak over what was there, in bytes.

    Three steps are computed with their updates at a rate of zero; weights and random numbers stay as they were.

    ``heaviest`` comes first: it has the largest micro-batch of the run, which shows the memory, and it pays for what
    the others find made, so their time counts.
    """
    timed = [steps[number * len(steps) // 2] for number in range(CALIBRATION_STEPS - 1)]
    trained = [p for p in model.parameters() if p.requires_grad]
    was_training, devices = model.training, [device] if device.type == "cuda" else []
    model.train()
    with torch.random.fork_rng(devices):
        meter = Meter(device)
        # Steps that move nothing: a rate of zero and no decay leave each weight bit for bit what it is.
        optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, fused=True)
        _step(model, steps, heaviest, optimizer, device, dtype)
        began = time.monotonic()
        for step in timed:
            _step(model, steps, step, optimizer, device, dtype)
        spent = time.monotonic() - began
        grown = meter.grown()
    model.train(was_training)
    tokens = sum(int(steps.lengths[group].sum()) for step in timed for group in step.micro_batches)
    return spent / tokens, grown


def _step(
    model: Any,
    steps: BatchSampler,
    step: Step,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    for group in step.micro_batches:
        batch = collate(
            [steps.examples[index] for index in group], device, is_packed=steps.is_packed, round_to=few_lengths(device)
        )
        with computing(device, dtype):
            loss, _ = supervised_loss(model, batch, scale=1 / step.weight)
        loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _oom_error(plan, stage, error, hint) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _ALLOCATOR):
            raise
        raise _oom_error(plan, stage, error, hint) from error


def _oom_error(plan: Plan | None, stage: str, error: BaseException, hint: str) -> TrainError:
    message = f"{stage}: {first_line(error)}"
    if plan is not None:
        message += (
            f"; planned were {plan.peak_bytes / 1e6:,.0f} MB of {plan.device_bytes / 1e6:,.0f} MB of {plan.device}, "
            f"with micro_batch_tokens = {plan.micro_batch_tokens:,}"
        )
        hint = hint or _advice(plan)
    return TrainError("E947 out-of-memory", message, hint, exit_code=Exit.MISSING)


def _advice(plan: Plan) -> str:
    tokens, current = plan.choices.micro_batch_tokens, plan.micro_batch_tokens
    # By the plan the present size should have fitted, so something else takes memory: half of it is the next to try.
    smaller = min(tokens, max(16, 1 << ((current - 1).bit_length() - 1)))
    settings = []
    if tokens and smaller < current and smaller >= min(plan.longest, current):
        settings.append(f"--set micro_batch_tokens={smaller}")
    if not plan.checkpointing:
        settings.append("--set checkpointing=true")
    if not settings:
        settings.append(f"--set max_length={max(8, plan.longest // 2)} (with on_too_long = cut or skip)")
    return f"{' or '.join(settings)}; no step has another batch or gradient for it"


# Memory of GPUs by name, in GB as their makers count it.
GPUS = {
    "t4": 16, "l4": 24, "a10": 24, "rtx3090": 24, "rtx4090": 24, "rtx5090": 32, "v100": 32, "a100-40": 40, "l40s": 48,
    "a6000": 48, "a100": 80, "h100": 80, "h200": 141, "b200": 180,
}  # fmt: skip
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
    shape = shape_of(model, recipe, dtype.itemsize, checkpointing=is_checkpointing(model), shards=shards)
    limit = memory_bytes or memory_limit(device)
    heaviest, group = largest(steps)
    memory = peak(shape, steps, group, device)
    tuning = tuning_of(recipe, model.get_input_embeddings().weight.shape[1], str(model.config.model_type))
    run_tokens = steps.num_tokens()
    plan = Plan(
        parameters=shape.parameters, trained=shape.trained, records=len(steps.mixture), tokens=steps.tokens,
        supervised=steps.trained, longest=int(steps.lengths.max()), steps=len(steps),
        run_tokens=run_tokens, batch_size=None if recipe.batch_tokens else steps.batch_size,
        micro_batch_tokens=steps.micro_batch_tokens, lr=tuning.lr,
        warmup=warmup_steps(recipe, len(steps)), memory=memory, peak_bytes=memory.total, device_bytes=limit,
        device=str(device), dtype=str(dtype).removeprefix("torch."), threads=threads,
        choices=choose_settings(shape, steps, device, limit), checkpointing=shape.checkpointing,
        risks=tuple(risks(tuning)), cost_per_hour=cost_per_hour, mixture=console.visible(steps.mixture.sentence()),
    )  # fmt: skip
    if not is_measured:
        return plan
    with explain_oom(plan, "calibration"):
        seconds_per_token, grown = calibrate(model, steps, heaviest, device, dtype)
    if device.type == "cpu" and dtype == torch.bfloat16:
        grown = int(grown * _SCATTERED) + _LATER_KERNELS
    # What was measured does not include the weights.
    memory = replace(memory, overhead=grown - (memory.total - memory.weights))
    return replace(
        plan, memory=memory, peak_bytes=memory.total, seconds=seconds_per_token * run_tokens,
        choices=choose_settings(shape, steps, device, limit, memory.overhead),
    )  # fmt: skip


def peak(shape: Shape, steps: BatchSampler, group: Sequence[int], device: torch.device) -> Memory:
    """Return the memory of the micro-batch of the examples ``group`` (indices)."""
    lengths = steps.lengths[group]
    tokens = int(lengths.sum()) if steps.is_packed else int(lengths.max()) * len(lengths)
    return estimate(
        shape, tokens=tokens, longest=int(lengths.max()), supervised=int(steps.supervised[group].sum()),
        is_blocked=device.type == "cpu",
    )  # fmt: skip


def choose_settings(shape: Shape, steps: BatchSampler, device: torch.device, limit: int, overhead: int = 0) -> Choices:
    """Return what fits into ``limit`` bytes; with checkpointing only where nothing else does."""

    def most(*, checkpointing: bool) -> int:
        return fitting_tokens(
            replace(shape, checkpointing=checkpointing), limit, longest=int(steps.lengths.max()), overhead=overhead,
            share=float(steps.supervised.sum() / steps.lengths.sum()), is_blocked=device.type == "cpu",
        )  # fmt: skip

    tokens = most(checkpointing=shape.checkpointing)
    needs_it = not tokens and not shape.checkpointing
    tokens = most(checkpointing=True) if needs_it else tokens
    strategy = pick_strategy(
        "auto", is_lora=steps.recipe.method == "lora", trained=shape.parameters, memory=limit, context=SINGLE_PROCESS
    )
    return Choices(tokens, shape.checkpointing or (needs_it and tokens > 0), strategy)


def needs_checkpointing(
    model: Any, steps: BatchSampler, device: torch.device, dtype: torch.dtype, *, shards: int = 1
) -> bool:
    """Return whether activations must be computed again: the recipe says so, or leaves it to the plan and the largest
    micro-batch fits this way only, beside what a device holds of a model in ``shards``.
    """
    recipe = steps.recipe
    if recipe.checkpointing != "auto":
        return recipe.checkpointing
    limit, (_, group) = USABLE * memory_limit(device), largest(steps)
    without, with_it = (
        peak(shape_of(model, recipe, dtype.itemsize, checkpointing=is_on, shards=shards), steps, group, device).total
        for is_on in (False, True)
    )
    return with_it <= limit < without


def accuracy(plan: Mapping[str, Any], *, seconds: float, peak_bytes: int) -> dict[str, Any]:
    """Return a plan's time and memory beside the real ones; an error is planned / real - 1, None where not planned."""
    planned: dict[str, Any] = {"seconds": plan.get("seconds"), "peak_bytes": plan.get("peak_bytes")}
    real: dict[str, float] = {"seconds": round(seconds, 3), "peak_bytes": peak_bytes}
    errors = {
        key: None if value is None or not real[key] else round(value / real[key] - 1, 4)
        for key, value in planned.items()
    }
    return {"planned": planned, "real": real, "error": errors}
