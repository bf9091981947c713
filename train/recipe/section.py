"""What every section of a recipe shares: its strictness, and the kinds of values that many keys have."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Auto = Literal["auto"]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
Share = Annotated[float, Field(ge=0, lt=1)]


def _printable(text: str) -> str:
    """No path or name has control characters, and a lone surrogate or NUL breaks whatever takes it for one."""
    found = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs")), None)
    if found is not None:
        raise ValueError(f"must have no control character, but has U+{ord(found):04X}")
    return text


Name = Annotated[str, AfterValidator(_printable)]


class Section(BaseModel):
    """Strict: unknown keys are refused, types are never coerced, NaN and infinity are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
