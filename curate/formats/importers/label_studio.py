"""Label Studio: JSON with the annotations of each task, and JSON-MIN with a row for each annotation."""

from __future__ import annotations

from collections.abc import Mapping

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, GivenAnswer, RowError, importer
from curate.formats.importers._answers import answers_of, question_of, record_of
from curate.formats.importers._reading import as_list

_FLAT = ("annotation_id", "lead_time")
# The keys under which a result holds what was answered; all other kinds mark places in a text, a picture or a sound.
_ANSWERS = ("choices", "text", "rating", "number", "taxonomy", "ranker", "selected")


def _is_task(row: dict[str, Json]) -> bool:
    notes = row.get("annotations", row.get("completions"))
    return isinstance(row.get("data"), dict) and isinstance(notes, list)


def _is_flat(row: dict[str, Json]) -> bool:
    return all(name in row for name in _FLAT)


@importer(
    "label-studio",
    fits=lambda row: _is_task(row) or _is_flat(row),
    samples=[
        {"id": 1, "data": {"text": "Where is my card?"}, "predictions": [], "annotations": [
            {"completed_by": {"id": 3, "email": "ann@example.org"}, "created_at": "2026-03-01T10:00:00Z", "result": [
                {"from_name": "intent", "to_name": "text", "type": "choices", "value": {"choices": ["card"]}}]}]},
        {"id": 1, "text": "Where is my card?", "intent": "card", "annotator": 1, "annotation_id": 7, "lead_time": 2.5},
    ],
)  # fmt: skip
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Label Studio tasks and JSON-MIN rows: the text of a task, and what each annotator answered to each question."""
    if _is_task(row):
        return _task(row)
    if not _is_flat(row):
        raise RowError("no task of Label Studio")
    return _annotation(row)


def _task(row: dict[str, Json]) -> ConvertedRow:
    notes = "annotations" if "annotations" in row else "completions"
    annotations = [one for one in row[notes] if isinstance(one, dict)]
    given = [one for one in annotations if not one.get("was_cancelled")]
    answers: list[GivenAnswer] = []
    marks: list[Json] = []
    for annotation in given:
        pairs: list[tuple[str, Json]] = []
        for result in as_list(annotation.get("result")):
            value = result.get("value") if isinstance(result, dict) else None
            value = value if isinstance(value, dict) else {}
            key = next((name for name in _ANSWERS if name in value), "")
            # A label of a part of the text has a beginning and an end, and the text of that part.
            if key and "start" not in value:
                pairs.append((str(result.get("from_name") or key), value[key]))
            else:
                marks.append(result)
        at = annotation.get("updated_at") or annotation.get("created_at")
        answers += answers_of(pairs, _annotator(annotation.get("completed_by")), str(at or ""))
    left = {name: value for name, value in row.items() if name not in ("data", notes, "id")}
    left[notes] = [{name: value for name, value in one.items() if name != "result"} for one in annotations]
    left |= {"marks": marks} if marks else {}
    if not answers:
        raise RowError("its annotations only mark places in it" if marks else "nobody has answered it")
    return record_of(row["data"], row.get("id"), answers, left)


def _annotation(row: dict[str, Json]) -> ConvertedRow:
    """Return the record of a row of JSON-MIN: the fields of the task, its id, the answers, and the annotation."""
    names = list(row)
    end = names.index("annotator") if "annotator" in names else names.index("annotation_id")
    own = [name for name in names[:end] if name != "id"]
    # Where the id is not between them, only what reads like a question is known to be asked about.
    begin = names.index("id") if "id" in names[1:end] else 0
    asked = names[:begin] or [question_of({name: row[name] for name in own})]
    at = str(row.get("updated_at") or row.get("created_at") or "")
    pairs = [(name, _choices(row[name])) for name in own if name not in asked]
    answers = answers_of(pairs, _annotator(row.get("annotator")), at)
    if not answers:
        raise RowError("the annotation holds no answer")
    left = {name: row[name] for name in names[end:] if name not in ("id", "annotator")}
    return record_of({name: row[name] for name in asked if name in row}, row.get("id"), answers, left)


def _choices(value: Json) -> Json:
    return value["choices"] if isinstance(value, dict) and "choices" in value else value


def _annotator(value: Json) -> str:
    """Return the name of an annotator: of a person their address, else their number."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("username") or value.get("id")
    return str(value) if value not in (None, "") else "label-studio"
