"""Two records beside one another: each message with the words that the other has not, and the fields that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from curate.base.record import Json, Record, canonical
from curate.jsonl import pointer_of
from curate.project.diff import FieldChange, field_changes
from curate.project.diff.words import Side, sides_of
from curate.project.diff.words import text_of as value_text
from curate.schema import Shape
from curate.schema.view import text_of

MAX_CHARACTERS = 4_000
"""Characters of a message that are shown whole; longer ones are cut to what differs."""
MOST_MESSAGES = 50
_MOST_WORDS = 400
"""Characters of a field that are looked at for a line about it."""


@dataclass(frozen=True, slots=True)
class TextPair:
    """One text of both records, such as a user's message; ``is_same`` when no word differs."""

    name: str
    left: Side
    right: Side

    @property
    def is_same(self) -> bool:
        """Whether neither side has a word of its own."""
        return not any(mark == "changed" for mark, _ in (*self.left, *self.right))


@dataclass(frozen=True, slots=True)
class Differing:
    """A field that differs: its pointer, and of each side the words that the other has not; None where it is missing.

    Values that are no texts are whole, as JSON.
    """

    pointer: str
    left: str | None
    right: str | None


@dataclass(frozen=True, slots=True)
class RecordComparison:
    """How two records compare.

    ``changes`` are the fields of their lines that differ, ids left out; ``num_fields`` counts the fields of both.
    ``num_omitted`` messages beyond the first fifty are not in ``parts``.
    """

    parts: Sequence[TextPair]
    changes: Sequence[Differing]
    num_fields: int
    num_omitted: int

    @property
    def num_differing(self) -> int:
        """How many fields differ."""
        return len(self.changes)


def compare_records(left: Record, right: Record, shape: Shape, limit: int = MAX_CHARACTERS) -> RecordComparison:
    """Compare two records of one shape: their messages, or raw texts, in order, and the fields of their lines."""
    ours, theirs = list(_texts(left)), list(_texts(right))
    count = max(len(ours), len(theirs))
    nothing = ("", "")
    parts = []
    for number in range(min(count, MOST_MESSAGES)):
        name, text = ours[number] if number < len(ours) else nothing
        other_name, other = theirs[number] if number < len(theirs) else nothing
        title = " / ".join(dict.fromkeys(filter(None, (name, other_name))))
        parts.append(TextPair(title, *sides_of(text, other, limit)))
    own_id = pointer_of(shape.view.paths["id"]) if shape.view and "id" in shape.view.paths else None
    own_line, other_line = dict(left.data), dict(right.data)
    changes = [change for change in field_changes(own_line, other_line) if change.pointer != own_id]
    differing = [_differing(change) for change in changes]
    return RecordComparison(
        parts, differing, len(changes) + _num_same(own_line, other_line), max(0, count - MOST_MESSAGES)
    )


def _differing(change: FieldChange) -> Differing:
    if isinstance(change.before, str) and isinstance(change.after, str):
        sides = sides_of(change.before, change.after, _MOST_WORDS)
        left, right = (" ... ".join(text for mark, text in side if mark == "changed") for side in sides)
        return Differing(change.pointer, left, right)
    left, right = (value_text(value)[:_MOST_WORDS] for value in (change.before, change.after))
    return Differing(change.pointer, None if change.is_new else left, None if change.is_gone else right)


def _texts(record: Record) -> Iterator[tuple[str, str]]:
    for message in record.messages:
        yield str(message.get("role", "")), text_of(message)
    if record.text:
        yield "text", record.text
    if record.tools:
        yield "tools", "\n".join(text_of(dict(tool)) for tool in record.tools)


def _num_same(left: Json, right: Json) -> int:
    """Return how many of the fields that `field_changes` compares are the same."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return sum(_num_same(left[key], right[key]) for key in left if key in right)
    is_compared_inside = isinstance(left, list) and isinstance(right, list) and 0 < len(left) == len(right)
    if is_compared_inside and all(isinstance(part, dict) for part in (*left, *right)):
        return sum(_num_same(*pair) for pair in zip(left, right, strict=True))
    return int(canonical(left) == canonical(right))
