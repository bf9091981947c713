"""Raw text for continued pre-training: rows that hold a text and nothing that answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, importer, share
from curate.formats.importers._reading import take_common, text_of

_ANSWERS = frozenset({
    "output", "response", "answer", "completion", "label", "intent", "category", "target", "instruction", "prompt",
    "question", "messages",
})  # fmt: skip


def _is_bare(row: dict[str, Json]) -> bool:
    return isinstance(row.get("text"), str) and not any(name in _ANSWERS or name.startswith("is_") for name in row)


def _recognise(rows: Sequence[dict[str, Json]]) -> float:
    return 0.8 * share(rows, _is_bare)


@importer(
    "text",
    recognise=_recognise,
    samples=[{"text": "Rivers run to the sea."}, {"text": "So it is.", "meta": {"src": "book"}}],
)
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Raw text rows: one text a record, for a domain workspace."""
    line, extra = take_common(row, ("text",))
    return ConvertedRow("domain", line | {"text": text_of(row, "text")}, extra)
