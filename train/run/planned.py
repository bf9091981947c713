"""The plan of a run, and how near it came: planned against real, in run.json and on stderr."""

from __future__ import annotations

from typing import Any

from train import say
from train.compute import Meter
from train.loop import FitResult
from train.plan import Plan, accuracy, explained, make_plan
from train.run.prepare import Prepared

FEWEST_STEPS = 20
"""Runs of fewer steps are not calibrated: three more would be much of them."""


def planned(
    model: Any, prepared: Prepared, *, is_measured: bool, memory_bytes: int | None = None,
    cost_per_hour: float | None = None,
) -> Plan:  # fmt: skip
    """Return the plan, see `make_plan`; with ``is_measured`` corrected by three steps.

    Raises TrainError "E947 out-of-memory" where these do not fit.
    """
    given: dict[str, Any] = {
        "device": prepared.device, "dtype": prepared.dtype, "threads": prepared.threads, "memory_bytes": memory_bytes,
        "cost_per_hour": cost_per_hour,
    }  # fmt: skip
    plan = make_plan(model, prepared.examples, prepared.steps, prepared.recipe, **given)
    if not is_measured:
        return plan
    with explained(plan, "calibration"):
        return make_plan(model, prepared.examples, prepared.steps, prepared.recipe, is_measured=True, **given)


def kept(plan: Plan, result: FitResult, meter: Meter) -> dict[str, Any]:
    """Return planned against real and say it; the planned time is that of the tokens that were read here."""
    values = plan.values()
    if plan.seconds is not None:
        values["seconds"] = plan.seconds / plan.run_tokens * result.step_tokens
    found = accuracy(values, seconds=result.step_seconds, peak_bytes=plan.memory.weights + meter.grown())
    real, error = found["real"], found["error"]
    told = f"plan: memory {real['peak_bytes'] / 1e6:,.0f} MB, planned {error['peak_bytes']:+.0%}"
    if error["seconds"] is not None:
        told += f"; steps {real['seconds']:,.1f} seconds, planned {error['seconds']:+.0%}"
    say.talk(told)
    return found
