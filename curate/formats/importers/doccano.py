"""doccano: texts with their labels or answers, as JSON or JSONL; a zip has a file for each annotator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from curate.base.record import Json
from curate.base.tables import counted
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._answers import answers_of, record_of

_LABELS = ("label", "labels", "cats")
_COMMENTS = ("Comments", "comments")


def _column(row: dict[str, Json]) -> str:
    return next((name for name in _LABELS if isinstance(row.get(name), list)), "")


def _is_example(row: dict[str, Json]) -> bool:
    name = _column(row)
    # Others have lists of labels as well: doccano has comments beside them, or the number of the example.
    return isinstance(row.get("text"), str) and bool(name) and ("id" in row or any(one in row for one in _COMMENTS))


def _notices(_path: Path, rows: Sequence[dict[str, Json]]) -> Sequence[str]:
    several = sum(len(row.get(_column(row)) or ()) > 1 for row in rows)
    return [f"{counted(several, 'row')} looked at with several labels: the first is the output"] if several else []


@importer(
    "doccano",
    fits=_is_example,
    notices=_notices,
    samples=[
        {"id": 1, "text": "Where is my card?", "label": ["card"], "Comments": []},
        {"id": 2, "text": "Where is my loan?", "cats": ["loan", "urgent"], "entities": [[9, 16, "a"]], "Comments": []},
    ],
)
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """doccano examples: the text, and its label or answer; examples that only mark places are put aside."""
    name = _column(row)
    labels = row.get(name) if _is_example(row) else None
    if not isinstance(labels, list) or not labels:
        raise RowError("nobody has labelled it")
    if not all(isinstance(label, str) for label in labels):
        raise RowError("its labels mark places in the text")
    left = {key: value for key, value in row.items() if key not in ("text", name, "id")}
    left |= {name: labels} if len(labels) > 1 else {}
    # The file says who it was; see `Intake`.
    return record_of({"text": row["text"]}, row.get("id"), answers_of([("label", labels[0])], ""), left)
