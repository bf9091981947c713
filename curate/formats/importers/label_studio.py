"""Label Studio: JSON with the annotations of each task, and JSON-MIN with a row for each annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, GivenAnswer, RowError, importer
from curate.formats.importers._answers import Parts, answers_of, guess_questions, question_of, record_of
from curate.formats.importers._foreign import low_ratings
from curate.formats.importers._reading import as_list

_FLAT = ("annotation_id", "lead_time")
# The keys under which a result holds what was answered; all other kinds mark places in a text, a picture or a sound.
_ANSWERS = ("choices", "text", "rating", "number", "taxonomy", "ranker", "selected")
_FORMS = {"text": "text", "choices": "choice", "taxonomy": "choice", "rating": "rating", "ranker": "rating"}


def _is_task(row: dict[str, Json]) -> bool:
    notes = row.get("annotations", row.get("completions"))
    return isinstance(row.get("data"), dict) and isinstance(notes, list)


def _is_flat(row: dict[str, Json]) -> bool:
    return all(name in row for name in _FLAT)


def _guess(rows: Sequence[dict[str, Json]], given: Mapping[str, str]) -> dict[str, str]:
    asked = given.get("instruction") or question_of([_own(row) for row in rows if not _is_task(row)])
    return guess_questions(rows, given, lambda row: _parts(row, asked))


@importer(
    "label-studio",
    fits=lambda row: _is_task(row) or _is_flat(row),
    guess=_guess,
    notices=low_ratings,
    samples=[
        {"id": 1, "data": {"text": "Where is my card?"}, "predictions": [], "annotations": [
            {"completed_by": {"id": 3, "email": "ann@example.org"}, "created_at": "2026-03-01T10:00:00Z", "result": [
                {"from_name": "intent", "to_name": "text", "type": "choices", "value": {"choices": ["card"]}}]}]},
        {"id": 1, "text": "Where is my card?", "intent": "card", "annotator": 1, "annotation_id": 7, "lead_time": 2.5},
    ],
)  # fmt: skip
def read(row: dict[str, Json], mapping: Mapping[str, str]) -> ConvertedRow:
    """Label Studio tasks and JSON-MIN rows: the text of a task, and what each annotator answered to each question."""
    return record_of(_parts(row, mapping.get("instruction", "")), mapping)


def _parts(row: dict[str, Json], asked: str) -> Parts:
    if _is_task(row):
        return _task(row)
    if not _is_flat(row):
        raise RowError("no task of Label Studio")
    return _annotation(row, asked)


def _task(row: dict[str, Json]) -> Parts:
    notes = "annotations" if "annotations" in row else "completions"
    annotations = [one for one in row[notes] if isinstance(one, dict)]
    given = [one for one in annotations if not one.get("was_cancelled")]
    answers: list[GivenAnswer] = []
    marks: list[Json] = []
    for annotation in given:
        pairs: list[tuple[str, Json]] = []
        forms: dict[str, str] = {}
        for result in as_list(annotation.get("result")):
            value = result.get("value") if isinstance(result, dict) else None
            value = value if isinstance(value, dict) else {}
            key = next((name for name in _ANSWERS if name in value), "")
            # A label of a part of the text has a beginning and an end, and the text of that part.
            if key and "start" not in value:
                pairs.append((question := str(result.get("from_name") or key), _said(value[key], key)))
                forms[question] = _FORMS.get(key, "")
            else:
                marks.append(result)
        at = annotation.get("updated_at") or annotation.get("created_at")
        answers += answers_of(pairs, _annotator(annotation.get("completed_by")), str(at or ""), forms)
    left = {name: value for name, value in row.items() if name not in ("data", notes, "id")}
    left[notes] = [{name: value for name, value in one.items() if name != "result"} for one in annotations]
    left |= {"marks": marks} if marks else {}
    if not answers:
        raise RowError("its annotations only mark places in it" if marks else "nobody has answered it")
    return row["data"], row.get("id"), answers, left


def _own(row: dict[str, Json]) -> dict[str, Json]:
    """Return what a row of JSON-MIN says before its annotation: the fields of the task, and the answers."""
    names = list(row)
    end = next((names.index(name) for name in ("annotator", "annotation_id") if name in names), 0)
    return {name: row[name] for name in names[:end] if name != "id"}


def _annotation(row: dict[str, Json], question: str) -> Parts:
    """Return the parts of a row of JSON-MIN: the fields of the task, its id, the answers, and the annotation."""
    names, own = list(row), _own(row)
    # Where the id is not between them, only what reads like a question is known to be asked about.
    begin = names.index("id") if "id" in names[1 : len(own) + 1] else 0
    asked = names[:begin] or [question or question_of([own])]
    at = str(row.get("updated_at") or row.get("created_at") or "")
    pairs = [(name, _said(row[name], "text")) for name in own if name not in asked]
    answers = answers_of(pairs, _annotator(row.get("annotator")), at)
    if not answers:
        raise RowError("the annotation holds no answer")
    left = {name: row[name] for name in names if name not in own and name not in ("id", "annotator")}
    return {name: row[name] for name in asked if name in row}, row.get("id"), answers, left


def _said(value: Json, key: str) -> Json:
    """Return what was answered: of several choices a list of them, of several texts one text with a line for each."""
    if isinstance(value, dict) and "choices" in value:
        return value["choices"]
    if key == "text" and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n".join(value)
    return value


def _annotator(value: Json) -> str:
    """Return the name of an annotator: of a person their address, else their number."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("username") or value.get("id")
    return str(value) if value not in (None, "") else "label-studio"
