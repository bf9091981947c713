"""Typed values of Parquet and Arrow as JSON values."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from curate.base.record import Json
from curate.formats.importers._registry import Rejected, RowError, SourceRow


def jsonable(values: dict[str, Any], number: int, split: str = "") -> SourceRow | Rejected:
    """Return one typed row as JSON: times in ISO form, decimals as text; bytes and non-finite numbers are refused."""
    try:
        return SourceRow(
            {name: _json(value, name) for name, value in values.items()},
            number,
            repr(values).encode(errors="backslashreplace"),
            split,
        )
    except RowError as fault:
        return Rejected(number, fault.code, fault.reason, repr(values).encode(errors="backslashreplace"))


def _json(value: object, name: str) -> Json:
    if isinstance(value, dict):
        # A typed table spells a key that is not there as null, in every row.
        return {str(key): _json(part, name) for key, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_json(part, name) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise RowError(f"column {name!r} holds a number that is not finite", "S106")
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise RowError(f"column {name!r} holds an integer that does not fit in 64 bits", "S107")
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    raise RowError(f"column {name!r} holds {type(value).__name__}, which JSON cannot hold")
