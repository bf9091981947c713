"""Three steps of a run, computed and thrown away: how long a token takes here, and what the memory really is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from train.model import computing
from train.model.batch import BatchSampler, Step, collate, few_lengths
from train.model.compute import Meter
from train.model.loss import supervised_loss
from train.pipeline.plan.plan import CALIBRATION_STEPS

_MOST_SAMPLED = 200


@dataclass(frozen=True)
class Calibration:
    """Seconds of a token of training, optimizer included, and the peak over what was there before, in bytes."""

    seconds_per_token: float
    grown_bytes: int


def largest(steps: BatchSampler) -> tuple[Step, list[int]]:
    """Return the step, of at most 200 spread over the run, with the largest micro-batch, and that micro-batch."""
    chosen = sorted({round(n * (len(steps) - 1) / max(1, _MOST_SAMPLED - 1)) for n in range(_MOST_SAMPLED)})
    sample_rows = [steps[number] for number in chosen if number < len(steps)]
    pairs = [(step, group) for step in sample_rows for group in step.micro_batches]
    return max(pairs, key=lambda pair: int(steps.lengths[pair[1]].sum()))


def calibrate(model: Any, steps: BatchSampler, heaviest: Step, device: torch.device, dtype: torch.dtype) -> Calibration:
    """Compute three steps with their updates at a rate of zero; weights and random numbers stay as they were.

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
    return Calibration(spent / tokens, grown)


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
