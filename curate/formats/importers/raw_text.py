"""Raw text for continued pre-training: rows that hold a text and nothing that answers it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer, share
from curate.formats.importers._reading import take_common, text_of
from curate.formats.importers.human_assistant import marks_in

_ANSWERS = frozenset({
    "output", "response", "answer", "completion", "label", "intent", "category", "target", "instruction", "prompt",
    "question", "messages",
})  # fmt: skip
# Marks that no importer reads.
_WRAPPED = re.compile(r"\[INST\].*\[/INST\]|^(?:Human|User): .*^(?:Assistant|AI|Bot): ", re.DOTALL | re.MULTILINE)


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
    """Raw text rows: one text a record, for a domain workspace; talks that are written out are put aside."""
    refuse_talk(text_of(row, "text"))
    line, extra = take_common(row, ("text",))
    return ConvertedRow("domain", line | {"text": text_of(row, "text")}, extra)


def refuse_talk(text: str) -> None:
    """Refuse a talk that is written out in one text, which would be trained as plain text.

    Raises:
        RowError: it has the marks of both sides.
    """
    has_marks = bool(marks_in(text))
    if has_marks or _WRAPPED.search(text):
        way = "--format human-assistant reads it" if has_marks else "split it into turns"
        raise RowError(f"it is a talk with marks of turns: {way}; --map text=text keeps it as it is")
