"""What a form shows of one value: a tree of fields, made anew whenever the line gets another structure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from curate.base.record import Json, canonical

Kind = Literal["line", "text", "number", "switch", "constant", "choice", "choices", "tags", "list", "group", "json"]
"""How a value is edited: a text of one line or of many, a number, yes or no, what must be so, one of some options,
several of them, a list of short texts, a list of cards, the keys of an object, or JSON as it is written."""


@dataclass(frozen=True, slots=True)
class Option:
    """One of the values that the schema lists; ``is_allowed`` is False for a value of the data that it does not."""

    value: Json
    label: str
    is_allowed: bool = True


@dataclass(frozen=True, slots=True)
class Field:
    """One value of the line and how to edit it. What is not in the line has no value and no fields within it.

    ``value`` is as it was when the tree was made: what is typed since is in the form.
    """

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
    is_radio: bool = False
    """Whether all options are in sight."""
    fixed: str = ""
    """Why it cannot be changed here; empty where it can."""
    help: str = ""
    placeholder: str = ""
    bounds: str = ""
    """What the schema allows, in a few words."""
    options: tuple[Option, ...] = ()
    fields: tuple[Field, ...] = ()
    can_add: bool = False

    @property
    def chosen(self) -> int | None:
        """The index of the present value among the options, None where there is none."""
        return option_index(self.value, self.options) if self.is_present else None

    @property
    def is_filled(self) -> bool:
        """Whether it is in the line and not null."""
        return self.is_present and self.value is not None

    @property
    def summary(self) -> str:
        """What tells a card from its siblings: the first of its values that is one of some options."""
        for field in self.fields:
            if field.is_present and field.kind in ("choice", "constant") and isinstance(field.value, str):
                return field.value
        return ""

    @property
    def widget(self) -> tuple[object, ...]:
        """What decides which widget shows it: while this stays the same, only the value has changed."""
        is_filled = self.is_filled if self.kind in ("group", "list") else None
        labels = tuple(option.label for option in self.options)
        return self.pointer, self.kind, self.is_radio, self.fixed, is_filled, labels

    @property
    def widgets(self) -> tuple[object, ...]:
        """The widgets of this field and of all within it."""
        return self.widget, tuple(field.widgets for field in self.fields)

    def walk(self) -> Iterator[Field]:
        """Yield this field and all within it, from the top down."""
        yield self
        for field in self.fields:
            yield from field.walk()


def option_index(value: Json, options: Sequence[Option]) -> int | None:
    """Return the index of the option that equals ``value`` as JSON Schema compares: 1 is 1.0, and true is neither."""
    spelled = canonical(value)
    is_number = type(value) in (int, float)
    for index, option in enumerate(options):
        is_same_number = is_number and type(option.value) in (int, float) and option.value == value
        if is_same_number or canonical(option.value) == spelled:
            return index
    return None
