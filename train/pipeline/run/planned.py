"""The plan of a run and its accuracy: planned against real, in run.json and on stderr."""

from __future__ import annotations

from typing import Any

from train.base import console
from train.loop import FitResult
from train.model.compute import Meter
from train.pipeline.plan import Plan, accuracy, make_plan
from train.pipeline.run.prepare import Prepared

FEWEST_STEPS = 20
"""Runs of fewer steps are not calibrated: three more would be much of them."""


def plan_run(
    model: Any, prepared: Prepared, *, is_measured: bool, memory_bytes: int | None = None,
    cost_per_hour: float | None = None,
) -> Plan:  # fmt: skip
    """Return the plan, see `make_plan`; with ``is_measured`` corrected by three steps where the model stays whole.

    A model that will be sharded is not measured: it is still whole here, and its gradients and moments may not fit.
    """
    return make_plan(
        model, prepared.steps, device=prepared.device, dtype=prepared.dtype,
        threads=int(prepared.recipe.threads), is_measured=is_measured and not prepared.is_sharded,
        memory_bytes=memory_bytes, cost_per_hour=cost_per_hour, shards=prepared.shards,
    )  # fmt: skip


def report_accuracy(plan: Plan, result: FitResult, meter: Meter, model: Any) -> dict[str, Any]:
    """Return planned against real and say it; the planned time is that of the tokens that were read here."""
    values = plan.values()
    if plan.seconds is not None:
        values["seconds"] = plan.seconds / plan.run_tokens * result.step_tokens
    # The meter does not count the weights, which were there when it began.
    began_with = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    comparison = accuracy(values, seconds=result.step_seconds, peak_bytes=began_with + meter.grown())
    real, error = comparison["real"], comparison["error"]
    text = f"plan: memory {real['peak_bytes'] / 1e6:,.0f} MB, planned {error['peak_bytes']:+.0%}"
    if error["seconds"] is not None:
        text += f"; steps {real['seconds']:,.1f} seconds, planned {error['seconds']:+.0%}"
    console.talk(text)
    return comparison
