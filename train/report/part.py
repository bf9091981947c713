"""What every part of a report is, and the numbers that many of them have."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class ReportPart(BaseModel):
    """Whatever a report or a comparison is made of."""

    # The docstrings of fields become the descriptions of the schema.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def schema_of(model: type[ReportPart]) -> dict[str, Any]:
    """Return the JSON Schema of what is written or printed whole, as a file of `schemas/` holds it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(mode="validation")}


class Estimate(ReportPart):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Change(ReportPart):
    """A number before and after training."""

    base: float
    tuned: float
