"""What the tables of a recipe are made of."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Auto = Literal["auto"]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
ReplayShare = Annotated[float, Field(gt=0, le=0.9)]
Rate = Annotated[float, Field(gt=0, le=10)]
Records = Annotated[int, Field(ge=1, le=1_000_000)]


def _check_printable(text: str) -> str:
    # Refuse control characters, NUL and lone surrogates: no path or name has them, and they break other programs.
    control = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs")), None)
    if control is not None:
        raise ValueError(f"must have no control character, but has U+{ord(control):04X}")
    return text


Name = Annotated[str, AfterValidator(_check_printable)]
FileName = Annotated[Name, Field(min_length=1)]


class Section(BaseModel):
    """A table of a recipe; unknown keys are refused, types are never coerced, NaN and infinity are no numbers."""

    # A misspelt key that is ignored trains for hours with the default.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _check_new_tokens(tokens: list[str]) -> list[str]:
    # New tokens are words of their own: visible, without white space, each once.
    for token in tokens:
        if not token.isprintable() or any(c.isspace() for c in token):
            raise ValueError(f"{token!r}: a new token is printable and has no white space")
    if len(set(tokens)) != len(tokens):
        raise ValueError("a token stands there twice")
    return tokens


NewTokens = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=64)]],
    Field(max_length=4096, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_check_new_tokens),
]


MeasuredSplit = Literal["validation", "test", "train"]


def _check_splits(splits: list[MeasuredSplit]) -> list[MeasuredSplit]:
    if "validation" not in splits or len(set(splits)) < len(splits):
        raise ValueError("validation is always measured, and each split stands there once")
    return splits


MeasuredSplits = Annotated[list[MeasuredSplit], AfterValidator(_check_splits)]
