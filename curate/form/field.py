"""What a form shows of one value: a tree of fields, made anew from the schema and the line whenever either says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from curate.record import Json, canonical

Kind = Literal["line", "text", "number", "switch", "constant", "choice", "choices", "tags", "list", "group", "json"]
"""How a value is edited: a text of one line or of many, a number, yes or no, what must be so, one of some options,
several of them, a list of short texts, a list of cards, the keys of an object, or JSON as it is written."""

RADIO_MOST = 4
"""With so many options or fewer all of them are in sight."""


@dataclass(frozen=True, slots=True)
class Option:
    """One of the values that the schema lists; ``is_allowed`` is False for a value of the data that it does not."""

    value: Json
    label: str
    help: str = ""
    is_allowed: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """A place where the schema allows several forms: their names, and the chosen one, None where none is."""

    number: int
    labels: tuple[str, ...]
    index: int | None


@dataclass(frozen=True, slots=True)
class Field:
    """One value of the line and how to edit it. What is not in the line has no value and no fields within it."""

    pointer: str
    name: str
    """The key, or the number in a list, from 1."""
    kind: Kind
    value: Json = None
    is_present: bool = False
    is_required: bool = False
    is_nullable: bool = False
    is_known: bool = True
    """Whether the schema says what stands here."""
    is_integer: bool = False
    is_radio: bool = False
    fixed: str = ""
    """Why it cannot be changed here; empty where it can."""
    help: str = ""
    placeholder: str = ""
    bounds: str = ""
    """What the schema allows, in a few words."""
    options: tuple[Option, ...] = ()
    choices: tuple[Choice, ...] = ()
    fields: tuple[Field, ...] = ()
    can_add: bool = False

    @property
    def chosen(self) -> int | None:
        """The place of the present value among the options, None where there is none."""
        return place_of(self.value, self.options) if self.is_present else None

    @property
    def is_filled(self) -> bool:
        """Whether it is in the line and not null."""
        return self.is_present and self.value is not None

    @property
    def summary(self) -> str:
        """What tells a card from its siblings: the first of its values that is one of some options."""
        for one in self.fields:
            if one.is_present and one.kind in ("choice", "constant") and isinstance(one.value, str):
                return one.value
        return ""

    @property
    def look(self) -> tuple[object, ...]:
        """What decides which widget shows it: while this stays the same, only the value has changed."""
        labels = tuple(option.label for option in self.options)
        is_filled = self.is_filled if self.kind in ("group", "list") else None
        return self.pointer, self.kind, self.is_radio, self.fixed, is_filled, labels, self.choices

    @property
    def outline(self) -> tuple[object, ...]:
        """The look of this field and of all within it."""
        return self.look, tuple(one.outline for one in self.fields)

    def walk(self) -> Iterator[Field]:
        """Yield this field and all within it, from the top down."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            yield one
            waiting.extend(reversed(one.fields))


def place_of(value: Json, options: tuple[Option, ...]) -> int | None:
    """Return the place of the option that equals ``value`` as JSON Schema compares: 1 is 1.0, and true is neither."""
    spelled = canonical(value)
    number = type(value) in (int, float)
    for place, option in enumerate(options):
        if canonical(option.value) == spelled or (
            number and type(option.value) in (int, float) and option.value == value
        ):
            return place
    return None
