"""What the table of Browse shows: rows of the catalogue, and which of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from curate.project.blind import HIDDEN, UNSEEN
from curate.project.journal import CATEGORY
from curate.tui.frame_table import Column, Tone

if TYPE_CHECKING:
    from curate.project.catalog import Catalog, CatalogRow, Rows

# Each status with its symbol.
WORDS: Mapping[str, str] = {"ok": "ok", "warning": "~ warn", "error": "! error", "dropped": "x dropped"}
ROOMY = 140  # Columns of the terminal from which the columns of the table are wide.
UNKNOWN = "?"  # The status of a record before anything was validated.
_TONES: Mapping[str, Tone] = {"ok": "ok", "~ warn": "warn", "! error": "error", "x dropped": "muted", UNKNOWN: "muted"}


def _tone(value: str) -> Tone:
    return _TONES.get(value, "")


# Return the category; where somebody has said one that must not be seen, the catalogue has their answer empty.
def _category(row: CatalogRow) -> str:
    if row.category or not row.labels:
        return row.category
    is_hidden = any(who and question == CATEGORY and answer == UNSEEN for who, question, answer in row.labels)
    return HIDDEN if is_hidden else ""


_VALUES: Mapping[str, Callable[[CatalogRow], str]] = {
    "id": lambda row: row.id,
    "category": _category,
    "status": lambda row: WORDS[row.status],
    "prompt": lambda row: row.prompt,
    "completion": lambda row: row.completion,
    "tokens": lambda row: f"{row.tokens:,}",
    "split": lambda row: row.split,
    "source": lambda row: row.source,
    "kind": lambda row: row.kind,
    "place": lambda row: f"{row.file}:{row.line}",
}
# Each column, and its width below `ROOMY` columns of the terminal.
_COLUMNS: Mapping[str, tuple[Column, int]] = {
    "id": (Column("id", 14), 10),
    "category": (Column("category", 12), 9),
    "status": (Column("status", 9, tone=_tone), 9),
    "prompt": (Column("prompt"), 0),
    "completion": (Column("completion"), 0),
    "tokens": (Column("~tok", 6, is_right=True), 5),
    "split": (Column("split", 10), 6),
    "source": (Column("source", 16), 9),
    "kind": (Column("kind", 11), 11),
    "place": (Column("file", 22), 15),
    "confidence": (Column("confidence", 10, is_right=True), 7),
    "variability": (Column("variability", 11, is_right=True), 7),
}
# What the newest run says of a record, and the head of a narrow column of it.
_SHORT = {"confidence": "conf.", "variability": "var."}
# What `c` shows, one after the other; the first value of each names the record.
SETS: Sequence[tuple[str, ...]] = (
    ("id", "category", "status", "prompt", "tokens"),
    ("id", "status", "prompt", "completion", "tokens"),
    ("id", "category", "status", "split", "source", "prompt"),
    ("id", "place", "kind", "status", "prompt"),
    ("id", "category", "confidence", "variability", "prompt"),
)
# What `s` sorts by, one after the other, and how that is called.
SORTS: Mapping[str, str] = {
    "file": "file order", "id": "id", "category": "category", "status": "status", "tokens": "~tok",
    "split": "split", "prompt": "prompt", "confidence": "confidence", "variability": "variability",
}  # fmt: skip


def columns_of(names: Sequence[str], width: int) -> list[Column]:
    """Return the columns called ``names`` for a terminal of ``width`` columns."""
    if width >= ROOMY:
        return [_COLUMNS[name][0] for name in names]
    pairs = ((name, *_COLUMNS[name]) for name in names)
    return [replace(column, title=_SHORT.get(name, column.title), width=narrow) for name, column, narrow in pairs]


class CatalogRows:
    """Rows of the catalogue for a `FrameTable`, read in the windows that it asks for."""

    def __init__(self, catalog: Catalog, rows: Rows, names: Sequence[str]) -> None:
        self._catalog = catalog
        self._rows = rows
        self._names = names

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, window: slice, /) -> list[tuple[str, ...]]:
        return [tuple(self._values(row)) for row in self._catalog.rows(self._rows[window])]

    def _values(self, row: CatalogRow) -> Iterable[str]:
        for name in self._names:
            if name in _SHORT:
                number = getattr(self._catalog.learning.by_id.get(row.id), name, None)
                yield "-" if number is None else f"{number:.2f}"
            elif name == "status" and row.status == "ok" and not self._catalog.has_findings:
                # Before a validation nothing is known but what was dropped.
                yield UNKNOWN
            else:
                yield _VALUES[name](row)
