"""What the table of Browse shows: rows of the catalogue, and which of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate.project.blind import HIDDEN, UNSEEN
from curate.project.journal import CATEGORY
from curate.tui.frame_table import Column, Tone

if TYPE_CHECKING:
    from curate.project.catalog import Catalog, CatalogRow, Rows

WORDS: Mapping[str, str] = {"ok": "ok", "warning": "~ warn", "error": "! error", "dropped": "x dropped"}
"""Each status with its symbol."""
ROOMY = 140
"""Columns of the terminal from which the columns of the table are wide."""
UNKNOWN = "?"
"""The status of a record before anything was validated."""
_TONES: Mapping[str, Tone] = {"ok": "ok", "~ warn": "warn", "! error": "error", "x dropped": "muted", UNKNOWN: "muted"}


@dataclass(frozen=True)
class TableColumn:
    """A column, and how its value is read from a row."""

    column: Column
    tight: Column
    """The same below `ROOMY` columns of the terminal."""
    value: Callable[[CatalogRow], str]


def _tone(value: str) -> Tone:
    return _TONES.get(value, "")


def _category(row: CatalogRow) -> str:
    """Return the category; where somebody has said one that must not be seen, the catalogue has their answer empty."""
    if row.category or not row.labels:
        return row.category
    is_hidden = any(who and question == CATEGORY and answer == UNSEEN for who, question, answer in row.labels)
    return HIDDEN if is_hidden else ""


TABLE_COLUMNS: Mapping[str, TableColumn] = {
    "id": TableColumn(Column("id", 14), Column("id", 10), lambda row: row.id),
    "category": TableColumn(Column("category", 12), Column("category", 9), _category),
    "status": TableColumn(
        Column("status", 9, tone=_tone), Column("status", 9, tone=_tone), lambda row: WORDS[row.status]
    ),
    "prompt": TableColumn(Column("prompt"), Column("prompt"), lambda row: row.prompt),
    "completion": TableColumn(Column("completion"), Column("completion"), lambda row: row.completion),
    "tokens": TableColumn(Column("~tok", 6, True), Column("~tok", 5, True), lambda row: f"{row.tokens:,}"),
    "split": TableColumn(Column("split", 10), Column("split", 6), lambda row: row.split),
    "source": TableColumn(Column("source", 16), Column("source", 9), lambda row: row.source),
    "kind": TableColumn(Column("kind", 11), Column("kind", 11), lambda row: row.kind),
    "place": TableColumn(Column("file", 22), Column("file", 15), lambda row: f"{row.file}:{row.line}"),
}
NUMBERS: Mapping[str, tuple[Column, Column]] = {
    "confidence": (Column("confidence", 10, True), Column("conf.", 7, True)),
    "variability": (Column("variability", 11, True), Column("var.", 7, True)),
}
"""Columns of what the newest run says, wide and tight."""
SETS: Sequence[tuple[str, ...]] = (
    ("id", "category", "status", "prompt", "tokens"),
    ("id", "status", "prompt", "completion", "tokens"),
    ("id", "category", "status", "split", "source", "prompt"),
    ("id", "place", "kind", "status", "prompt"),
    ("id", "category", "confidence", "variability", "prompt"),
)
"""What `c` shows, one after the other; the first value of each names the record."""
SORTS: Mapping[str, str] = {
    "file": "file order", "id": "id", "category": "category", "status": "status", "tokens": "~tok",
    "split": "split", "prompt": "prompt", "confidence": "confidence", "variability": "variability",
}  # fmt: skip
"""What `s` sorts by, one after the other, and how that is called."""


def columns_of(names: Sequence[str], width: int) -> list[Column]:
    """Return the columns called ``names`` for a terminal of ``width`` columns."""
    is_tight = width < ROOMY
    return [
        NUMBERS[name][is_tight]
        if name in NUMBERS
        else TABLE_COLUMNS[name].tight
        if is_tight
        else TABLE_COLUMNS[name].column
        for name in names
    ]


class CatalogRows:
    """Rows of the catalogue for a `FrameTable`, read in the windows that it asks for."""

    def __init__(self, catalog: Catalog, rows: Rows, names: Sequence[str]) -> None:
        """Show the values ``names`` of ``rows``."""
        self._catalog = catalog
        self._rows = rows
        self._names = names

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def rows(self, start: int, stop: int) -> list[tuple[str, ...]]:
        """Return some of the rows."""
        return [tuple(self._values(row)) for row in self._catalog.rows(self._rows[start:stop])]

    def _values(self, row: CatalogRow) -> Iterable[str]:
        for name in self._names:
            if name in NUMBERS:
                dynamics = self._catalog.learning.by_id.get(row.id)
                number = getattr(dynamics, name, None)
                yield "-" if number is None else f"{number:.2f}"
                continue
            # Before a validation nothing is known but what was dropped.
            is_unknown = name == "status" and row.status == "ok" and not self._catalog.has_findings
            yield UNKNOWN if is_unknown else TABLE_COLUMNS[name].value(row)
