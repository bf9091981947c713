"""What a run will do, said before it does it: exact counts, and times and memory only where they were measured here."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from train import say
from train.batch import Steps, collate
from train.model import num_parameters
from train.ranks.spread import BYTES_TRAINED
from train.recipe import Recipe
from train.render import Example
from train.schedule import peak_lr, warmup_steps

if TYPE_CHECKING:
    import torch

_CALIBRATION_STEPS = 3


@dataclass(frozen=True)
class Plan:
    """The counts of a run; ``seconds`` and ``peak_bytes`` are None where nothing was measured."""

    parameters: int
    trained: int
    records: int
    tokens: int
    supervised: int
    longest: int
    steps: int
    batch_size: int | None
    lr: float
    warmup: int
    state_bytes: int
    device: str
    dtype: str
    threads: int
    seconds: float | None = None
    peak_bytes: int | None = None
    mixture: str = ""

    def sentence(self) -> str:
        """Return the plan in one line."""
        size = f"{self.batch_size} records" if self.batch_size else "a token budget"
        return (
            f"{self.records:,} records, {self.tokens:,} tokens an epoch ({self.supervised / self.tokens:.0%} trained), "
            f"{self.steps:,} steps of {size}, lr {self.lr:.2e}; {self.trained:,} of {self.parameters:,} parameters, "
            f"{self.dtype} on {self.device}" + (f", {self.threads} threads" if self.device == "cpu" else "")
            + (f"; an epoch mixes {self.mixture}" if self.mixture else "")
        )  # fmt: skip

    def lines(self) -> list[str]:
        """Return the plan for people, a fact a line."""
        found = [
            f"records     {self.records:,} to train on, the longest has {self.longest:,} tokens",
            f"tokens      {self.tokens:,} an epoch, {self.supervised:,} ({self.supervised / self.tokens:.1%}) trained",
            *([f"mixture     {self.mixture}"] if self.mixture else []),
            f"steps       {self.steps:,} of {f'{self.batch_size} records' if self.batch_size else 'a token budget'}",
            f"rate        {self.lr:.3g} after {self.warmup} steps of warmup",
            f"parameters  {self.trained:,} trained of {self.parameters:,}",
            f"machine     {self.device}, {self.dtype}" + (f", {self.threads} threads" if self.device == "cpu" else ""),
            f"memory      {self.state_bytes / 1e6:,.0f} MB for weights, gradients, optimizer; activations come on top",
        ]
        if self.seconds is not None and self.peak_bytes is not None:
            found += [
                f"measured    {_CALIBRATION_STEPS} steps: {_duration(self.seconds)} of training, without evaluation,",
                f"            {self.peak_bytes / 1e6:,.0f} MB at the most",
            ]
        return found


def make_plan(
    model: Any, examples: Sequence[Example], steps: Steps, recipe: Recipe, *, device: torch.device, dtype: torch.dtype,
    threads: int, is_measured: bool = False,
) -> Plan:  # fmt: skip
    """Return the plan of a run; with ``is_measured`` a few steps' gradients are computed and thrown away for it."""
    trained = num_parameters(model, is_trained_only=True)
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    width = model.get_input_embeddings().weight.shape[1]
    seconds, peak = _measure(model, examples, steps, device, dtype) if is_measured else (None, None)
    return Plan(
        parameters=num_parameters(model), trained=trained, records=len(steps.mixture),
        tokens=steps.tokens, supervised=steps.trained, longest=int(steps.lengths.max()),
        steps=len(steps), batch_size=None if recipe.batch_tokens else steps.batch_size,
        lr=peak_lr(recipe, width, str(model.config.model_type)), warmup=warmup_steps(recipe, len(steps)),
        state_bytes=trained * BYTES_TRAINED + frozen, device=str(device), dtype=str(dtype).removeprefix("torch."),
        threads=threads, seconds=seconds, peak_bytes=peak,
        mixture=say.visible(steps.mixture.sentence()),
    )  # fmt: skip


def _measure(
    model: Any, examples: Sequence[Example], steps: Steps, device: torch.device, dtype: torch.dtype
) -> tuple[float, int]:
    """Seconds of the whole run by its tokens, and the peak of memory, from the gradients of the first steps."""
    import torch

    from train.loss import supervised_loss
    from train.model import computing

    tokens, spent = 0, 0.0
    model.train()
    for number in range(min(_CALIBRATION_STEPS, len(steps))):
        planned = steps[number]
        began = time.monotonic()
        for group in planned.micro_batches:
            batch = collate([examples[place] for place in group], device, is_packed=steps.is_packed)
            with computing(device, dtype):
                loss, _ = supervised_loss(model, batch, scale=1 / planned.weight)
            loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        # The first step pays for allocations and caches that the others find made.
        if number or len(steps) == 1:
            spent += time.monotonic() - began
            tokens += int(sum(steps.lengths[place] for group in planned.micro_batches for place in group))
    model.zero_grad(set_to_none=True)
    all_tokens = sum(
        int(steps.lengths[place]) for n in range(len(steps)) for group in steps[n].micro_batches for place in group
    )
    is_cuda = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated(device)
        if is_cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return spent / tokens * all_tokens, peak


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
