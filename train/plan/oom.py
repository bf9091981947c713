"""Running out of memory, told with the setting that would fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from train.errors import Exit, TrainError
from train.plan.plan import Plan

# torch's CPU allocator raises a plain RuntimeError; its words are all there is to know it by.
_ALLOCATOR = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


@contextmanager
def explained(plan: Plan, stage: str) -> Iterator[None]:
    """Within, a lack of memory is raised as TrainError "E947 out-of-memory" (exit 3) that names what would fit.

    Nothing is changed for the run: another size of batch is for its owner to choose.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _told(plan, stage, str(error)) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _ALLOCATOR):
            raise
        raise _told(plan, stage, str(error)) from error


def _told(plan: Plan, stage: str, reason: str) -> TrainError:
    first = next((line.strip() for line in reason.splitlines() if line.strip()), "no more memory")
    return TrainError(
        "E947 out-of-memory",
        f"{stage}: {first[:200]}; planned were {plan.peak_bytes / 1e6:,.0f} MB of {plan.device_bytes / 1e6:,.0f} MB "
        f"of {plan.device}, with micro_batch_tokens = {plan.micro_batch_tokens:,}",
        _advice(plan),
        exit_code=Exit.MISSING,
    )


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
    return f"{' or '.join(settings)}; neither changes the batch of a step or its gradient"
