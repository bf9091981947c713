"""Out of memory, as an error that names the setting that would fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from train.base.errors import Exit, TrainError
from train.pipeline.plan.plan import Plan

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
        raise _oom_error(plan, stage, str(error), hint) from error
    except RuntimeError as error:
        if not any(words in str(error) for words in _ALLOCATOR):
            raise
        raise _oom_error(plan, stage, str(error), hint) from error


def _oom_error(plan: Plan | None, stage: str, reason: str, hint: str) -> TrainError:
    first = next((line.strip() for line in reason.splitlines() if line.strip()), "no more memory")
    message = f"{stage}: {first[:200]}"
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
