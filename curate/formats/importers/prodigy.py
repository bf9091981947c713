"""Prodigy: a row for each decision of an annotator, who accepts, rejects or ignores what the row says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._answers import Parts, answers_of, guess_questions, record_of
from curate.formats.importers._foreign import low_ratings

_MARKS = ("_input_hash", "_task_hash", "_view_id", "_annotator_id", "_session_id")
_ANSWERS = ("response", "completion", "output", "label", "accept")
# What a row says about how it was shown.
_ABOUT = ("answer", "options", "spans", "tokens")
_VERDICTS = ("accept", "reject", "ignore")


def _is_task(row: dict[str, Json]) -> bool:
    return row.get("answer") in _VERDICTS and any(name in row for name in (*_MARKS, *_ANSWERS))


@importer(
    "prodigy",
    fits=_is_task,
    guess=lambda rows, given: guess_questions(rows, given, _parts),
    notices=lambda path, rows: low_ratings(path, [row for row in rows if row.get("answer") == "accept"]),
    samples=[
        {"text": "Where is my card?", "label": "card", "answer": "accept", "_input_hash": 1, "_task_hash": 2},
        {"text": "Where is my card?", "options": [{"id": "card", "text": "Card"}], "accept": ["card"],
         "answer": "accept", "_input_hash": 1, "_task_hash": 3, "_annotator_id": "set-ann", "_timestamp": 1767225600},
        {"prompt": "Say hi.", "response": "Hello.", "answer": "accept"},
    ],
)  # fmt: skip
def read(row: dict[str, Json], mapping: Mapping[str, str]) -> ConvertedRow:
    """Prodigy rows that were accepted: the text, and the label, the choice or the response; others are put aside."""
    return record_of(_parts(row), mapping)


def _parts(row: dict[str, Json]) -> Parts:
    verdict = row.get("answer")
    if not _is_task(row) or verdict != "accept":
        raise RowError(f"its annotator has said {verdict!r}")
    annotator = str(row.get("_annotator_id") or row.get("_session_id") or "prodigy")
    at = _time_of(row.get("_timestamp"))
    pairs = [("choice" if name == "accept" else name, row[name]) for name in ("label", "accept") if name in row]
    marks = {name: value for name, value in row.items() if name.startswith("_") or name in _ABOUT}
    data = {name: value for name, value in row.items() if name not in marks and name not in ("label", "accept")}
    left = {name: value for name, value in marks.items() if name not in ("answer", "_annotator_id", "_timestamp")}
    return data, row.get("id", row.get("_input_hash")), answers_of(pairs, annotator, at), left


def _time_of(moment: Json) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError):
        return ""
