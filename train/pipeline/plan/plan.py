"""The plan as numbers and as sentences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from train.model.parallel import ParallelStrategy
from train.pipeline.plan.memory import USABLE, Memory
from train.recipe.forgetting import Remedy

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
        memory = self.memory
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
            *self.risk_lines(),
        ]

    def risk_lines(self) -> list[str]:
        """Return what is known to make the model forget and the lines of a recipe against it, for people."""
        heads = ["forgetting ", *[" " * 11] * len(self.risks)]
        return [f"{head} {risk.text}: {'  '.join(risk.lines)}" for head, risk in zip(heads, self.risks, strict=False)]

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
