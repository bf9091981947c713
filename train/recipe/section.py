"""What the tables of a recipe are made of."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Auto = Literal["auto"]
# Bounds keep a number with a zero too many from filling the memory before anybody reads it.
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountFromZero = Annotated[int, Field(ge=0, le=1_000_000_000)]
Tokens = Annotated[int, Field(ge=16, le=1_073_741_824)]
Amount = Annotated[float, Field(ge=0, le=1e6)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Share = Annotated[float, Field(ge=0, lt=1)]
ReplayShare = Annotated[float, Field(gt=0, le=0.9)]
Rate = Annotated[float, Field(gt=0, le=10)]
# Control characters break the programs that a path or name is handed to.
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
FileName = Annotated[Name, Field(min_length=1)]


class Section(BaseModel):
    """A table of a recipe; unknown keys are refused, types are never coerced, NaN and infinity are no numbers."""

    # A misspelt key that is ignored trains for hours with the default. Descriptions are the texts below the fields.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def rules(self) -> dict[str, bool]:
        """Return what is wrong with several keys together, each with true where it is so."""
        return {}

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if broken := [message for message, is_broken in self.rules().items() if is_broken]:
            raise ValueError("; ".join(broken))
        return self


def _check_new_tokens(tokens: list[str]) -> list[str]:
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
