"""doccano: texts with their labels or answers, as JSON or JSONL; a zip has a file for each annotator."""

from __future__ import annotations

from collections.abc import Mapping

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._answers import Parts, answers_of, guess_questions, record_of
from curate.formats.importers._foreign import low_ratings

_LABELS = ("label", "labels", "cats")
_COMMENTS = ("Comments", "comments")


def _column(row: dict[str, Json]) -> str:
    return next((name for name in _LABELS if isinstance(row.get(name), list)), "")


def _is_example(row: dict[str, Json]) -> bool:
    name = _column(row)
    # Others have lists of labels as well: doccano has comments beside them, or the number of the example.
    return isinstance(row.get("text"), str) and bool(name) and ("id" in row or any(one in row for one in _COMMENTS))


@importer(
    "doccano",
    fits=_is_example,
    guess=lambda rows, given: guess_questions(rows, given, _parts),
    notices=low_ratings,
    samples=[
        {"id": 1, "text": "Where is my card?", "label": ["card"], "Comments": []},
        {"id": 2, "text": "Where is my loan?", "cats": ["loan", "urgent"], "entities": [[9, 16, "a"]], "Comments": []},
    ],
)
def read(row: dict[str, Json], mapping: Mapping[str, str]) -> ConvertedRow:
    """doccano examples: the text, and its labels or answer; examples that only mark places are put aside."""
    return record_of(_parts(row), mapping)


def _parts(row: dict[str, Json]) -> Parts:
    name = _column(row)
    labels = row.get(name) if _is_example(row) else None
    if not isinstance(labels, list) or not labels:
        raise RowError("nobody has labelled it")
    if not all(isinstance(label, str) for label in labels):
        raise RowError("its labels mark places in the text")
    left = {key: value for key, value in row.items() if key not in ("text", name, "id")}
    left |= {name: labels} if len(labels) > 1 else {}
    # The file says who it was; see `Intake`.
    return {"text": row["text"]}, row.get("id"), answers_of([("label", labels)], ""), left
