"""Views under a name, which curate.toml keeps, and how often each value of a field stands in records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from curate.base.console import one_line
from curate.base.record import CurateError, Json, Record, Split, estimated_tokens, source_of
from curate.jsonl import parts_of, pointer_of
from curate.project.fold import RecordState
from curate.schema.settings import SavedView, Settings, write_values
from curate.schema.view import at

# What a filter can ask for by the same name.
FIELDS = ("category", "split", "source", "kind", "file")
# Characters of a value that is worth counting.
_SHORT = 80


def view_of(settings: Settings, name: str) -> SavedView:
    """Return the view called ``name``.

    Raises:
        CurateError: E902 when there is none.
    """
    if name in settings.views:
        return settings.views[name]
    known = f"There are: {', '.join(one_line(view, 40) for view in settings.views)}." if settings.views else ""
    hint = known or "`curate list --save NAME` writes the first."
    raise CurateError("E902 bad-settings", f"there is no view {one_line(name, 40)!r}", hint)


def save_view(root: Path, name: str, view: SavedView) -> None:
    """Write a view into curate.toml, in the place of one of the same name; comments, line ends and all else stay.

    Raises:
        CurateError: E902 for a name of blanks, and for a curate.toml that cannot be read; E906 when it is not written.
    """
    if not name.strip():
        raise CurateError("E902 bad-settings", "a view needs a name")
    values = {key: value for key, value in asdict(view).items() if value}
    write_values(root, "views", {name.strip(): values})


@dataclass
class FieldCounts:
    """How often each value of a field stands in records, and in how many of them none does."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)
    num_records: int = 0
    num_without: int = 0

    def document(self) -> dict[str, Json]:
        """Return what `schemas/counts.schema.json` describes, the most frequent value first."""
        return {
            "version": 1, "field": self.name, "records": self.num_records, "without": self.num_without,
            "values": [{"value": value, "count": number} for value, number in self.ranked()],
        }  # fmt: skip

    def ranked(self) -> list[tuple[str, int]]:
        """Return each value and in how many records it stands, the most frequent first."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))


def count_by(states: Iterable[RecordState], name: str, pins: Mapping[str, Split]) -> FieldCounts:
    """Count the values of a field over ``states``, each once a record.

    ``name`` is one of `FIELDS`, ``label.QUESTION`` for what is agreed, ``label.WHO.QUESTION`` for an answer, or the
    JSON pointer of anything in the line. Of a list each item is a value. ``pins`` are the splits of the last dataset.
    """
    result = FieldCounts(name)
    for state in states:
        items = items_of(state, name, pins)
        values = {item if isinstance(item, str) else json.dumps(item, sort_keys=True) for item in items} - {""}
        result.num_records += 1
        result.num_without += not values
        result.counts.update(values)
    return result


def value_of(state: RecordState, name: str, pins: Mapping[str, Split]) -> str | int:
    """Return what stands in a column of a view, or in one of `FIELDS`."""
    record = state.record
    match name:
        case "split":
            return pins.get(record.id) or record.split or ""
        case "tokens":
            return estimated_tokens(record)
        case "source":
            return source_of(record)
        case "file":
            return record.source.file
        case "place":
            return f"{record.source.file}:{record.source.line}"
        case "prompt":
            return record.prompt or record.text
        case _:
            return str(getattr(record, name))


def items_of(state: RecordState, name: str, pins: Mapping[str, Split]) -> list[Json]:
    """Return what a record has in a field as `count_by` knows it: the items of a list, or the value."""
    record = state.record
    value: Json
    if name in FIELDS or name == "tokens":
        value = value_of(state, name, pins)
    elif name.startswith("label."):
        label = name.removeprefix("label.")
        who, _, question = label.partition(".")
        value = record.labels.get(label, state.answers.get(question, {}).get(who))
    else:
        value = at(record.data, parts_of(name))
    return [item for item in (value if isinstance(value, list) else [value]) if item is not None]


def slice_values(record: Record, name: str) -> list[str | int | float]:
    """Return the values by which a run counts a record in the slices of a field: numbers, and texts cut short.

    ``name`` is as `count_by` takes it; without a value the list is empty.
    """
    values: list[str | int | float] = []
    for item in items_of(RecordState(record), name, {}):
        is_number = isinstance(item, int | float) and not isinstance(item, bool)
        value = item if is_number or isinstance(item, str) else json.dumps(item, sort_keys=True)
        value = f"{value[:_SHORT]}…" if isinstance(value, str) and len(value) > _SHORT else value
        if value != "" and value not in values:
            values.append(value)
    return values


def require_field(name: str) -> None:
    """Raise E902 where ``name`` is no field that `count_by` knows."""
    if name not in FIELDS and not name.startswith(("label.", "/")):
        hint = f"Fields are {', '.join(FIELDS)}, label.QUESTION, and JSON pointers such as /meta/lang."
        raise CurateError("E902 bad-settings", f"there is no field {one_line(name, 60)!r} to count by", hint)


def pointers_of(line: Mapping[str, Json]) -> list[str]:
    """Return the pointers of what a line has that is short enough to be counted, two levels deep."""
    leaves: list[tuple[list[str], Json]] = []
    for key, value in line.items():
        inner = value.items() if isinstance(value, dict) else ()
        leaves += [([key], value), *(([key, part], within) for part, within in inner)]
    return [pointer_of(keys) for keys, value in leaves if not isinstance(value, dict) and len(str(value)) <= _SHORT]
