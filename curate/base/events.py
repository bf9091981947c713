"""Decisions as data: what someone wants done with a record, and the event that it is in the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from curate.base.record import Json, Split

VERSIONS: Mapping[str, int] = {"drop": 2}
"""The version in which events of a kind are written; 1 for all others.

A version is that of the meaning of one kind of event, so that a journal without drops can be read by programs that know
only version 1. They refuse a line of a version or kind that they do not know (E913), and read nothing of the workspace.
"""

_HEX = r"^[0-9a-f]{32}$"
_FIELDS = frozenset({"code", "of", "score"})
"""What a drop has since version 2."""
_NO_FIELDS: dict[str, Any] = {"not": {"anyOf": [{"required": [name]} for name in sorted(_FIELDS)]}}


class _Event(BaseModel):
    """What every decision says about itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    v: int = Field(ge=1, le=1)
    event: str = Field(pattern=_HEX)
    """Number of the event, unique in the world; the same event read twice counts once."""
    at: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    """When, for people only: nothing is ordered by a clock."""
    by: str = Field(min_length=1)
    session: str = Field(pattern=_HEX)
    seq: int = Field(ge=1, le=2**53)
    """Place in the session, from 1."""
    id: str = Field(min_length=1)
    """The record decided on."""
    act: str = Field(pattern=_HEX)
    """What was decided in one go and is taken back in one go has the same act."""
    parents: list[Annotated[str, Field(pattern=_HEX)]]
    """The last events on the record that the one who decides had seen; before any, the digest of the record's line.

    Empty for a new record.
    """


class Drop(_Event):
    """Leave the record out.

    In version 2 the reason is text for people, and what a program asks is in the other fields. Version 1 had the reason
    alone, also where a rule had made the drop: "D301: repeats ID (1.00)".
    """

    model_config = ConfigDict(json_schema_extra={"if": {"properties": {"v": {"const": 1}}}, "then": _NO_FIELDS})

    v: int = Field(ge=1, le=2)
    op: Literal["drop"]
    reason: str
    code: str = Field("", pattern=r"^([A-Z][0-9]{3})?$")
    """The finding of the rule that leaves it out; empty for a person's own words."""
    of: str = Field("", description="The record that stays instead; empty where there is none.")
    score: float | None = Field(None, ge=0, le=1)
    """How alike the two records are."""

    @model_validator(mode="after")
    def _fields_are_of_version_2(self) -> Drop:
        if self.v == 1 and not _FIELDS.isdisjoint(self.model_fields_set):
            raise ValueError("a drop of version 1 has only a reason")
        return self

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not said, so that a line of version 1 is written as it was read."""
        line: dict[str, Any] = serialize(self)
        return {key: value for key, value in line.items() if key not in _FIELDS or value not in ("", None)}


class Restore(_Event):
    """Take a dropped record in again."""

    op: Literal["restore"]


class Assign(_Event):
    """Put the record in a split."""

    op: Literal["assign"]
    split: Split


class Label(_Event):
    """Answer a label question; null takes the answer back."""

    op: Literal["label"]
    question: str = Field(min_length=1)
    value: Any


class Edit(_Event):
    """Give top-level keys of the record's line new values; null removes the key."""

    op: Literal["edit"]
    changes: dict[str, Any] = Field(min_length=1)


class Add(_Event):
    """Add a record with this line."""

    op: Literal["add"]
    record: dict[str, Any]


class Resolve(_Event):
    """Settle a label question, whatever the annotators answered; null leaves it to their answers again."""

    op: Literal["resolve"]
    question: str = Field(min_length=1)
    value: Any


class Undo(_Event):
    """Take back what another event did to the record; taking back an undo does it again."""

    op: Literal["undo"]
    of: str = Field(pattern=_HEX)
    """The event that is taken back."""


Event = Annotated[
    Drop | Restore | Assign | Label | Edit | Add | Resolve | Undo,
    Field(discriminator="op"),
]
AnyEvent = Drop | Restore | Assign | Label | Edit | Add | Resolve | Undo

EVENTS: TypeAdapter[AnyEvent] = TypeAdapter(Event)


@dataclass(frozen=True, slots=True)
class Decision:
    """What someone wants done with a record, before it is numbered and written."""

    op: Literal["drop", "restore", "assign", "label", "edit", "add", "resolve", "undo"]
    id: str
    parents: Sequence[str] = ()
    fields: Mapping[str, Json] = field(default_factory=dict)
