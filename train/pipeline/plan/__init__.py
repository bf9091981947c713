"""What a run will do, said before it does it: exact counts, memory by arithmetic, and both time and memory corrected by
three steps on this machine.

    make_plan(model, steps, device=..., dtype=..., threads=1, is_measured=True).lines()
"""

from __future__ import annotations

from train.pipeline.plan.make import GPUS, accuracy, explain_oom, make_plan, needs_checkpointing
from train.pipeline.plan.plan import Plan

__all__ = ["GPUS", "Plan", "accuracy", "explain_oom", "make_plan", "needs_checkpointing"]
