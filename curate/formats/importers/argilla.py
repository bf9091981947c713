"""Argilla: records with the responses of annotators, as JSON and as the columns of a `datasets` folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, GivenAnswer, RowError, importer
from curate.formats.importers._answers import Parts, answers_of, guess_questions, record_of
from curate.formats.importers._foreign import low_ratings
from curate.formats.importers._reading import as_list

_RESPONSES = ".responses"
# What stands beside the fields of a record, in one form or the other.
_ABOUT = ("responses", "suggestions", "metadata", "vectors", "status", "_server_id", "id", "external_id")
_NAMES = ("id", "external_id")
_OLD = ("user_id", "value", "status")


def _is_nested(row: dict[str, Json]) -> bool:
    return isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), dict | list)


def _old_questions(row: dict[str, Json]) -> list[str]:
    """Return the columns that hold responses as Argilla 1 wrote them: lists of objects, or an object of lists."""
    return [
        name
        for name, value in row.items()
        if f"{name}-suggestion-metadata" in row or f"{name}-suggestion" in row or _is_old(value)
    ]


def _is_old(value: Json) -> bool:
    parts = value if isinstance(value, list) else [value]
    return bool(parts) and all(isinstance(part, dict) and set(_OLD) <= part.keys() for part in parts)


def _is_flat(row: dict[str, Json]) -> bool:
    return any(name.endswith(_RESPONSES) for name in row) or bool(_old_questions(row))


@importer(
    "argilla",
    fits=lambda row: _is_nested(row) or _is_flat(row),
    guess=lambda rows, given: guess_questions(rows, given, _parts),
    notices=low_ratings,
    samples=[
        {"id": "a", "fields": {"text": "Say hi."}, "metadata": {}, "suggestions": {}, "vectors": {}, "responses": {
            "reply": [{"value": "Hi.", "user_id": "u1"}, {"value": "Hello.", "user_id": "u2"}]}},
        {"id": "a", "status": "completed", "text": "Say hi.", "reply.responses": ["Hi."],
         "reply.responses.users": ["u1"], "reply.responses.status": ["submitted"]},
        {"text": "Say hi.", "reply-suggestion": None,
         "reply": [{"user_id": "u1", "value": "Hi.", "status": "submitted"}]},
    ],
)  # fmt: skip
def read(row: dict[str, Json], mapping: Mapping[str, str]) -> ConvertedRow:
    """Argilla records: the fields, and what each annotator responded to each question; drafts and discarded ones are
    stored and not taken."""
    return record_of(_parts(row), mapping)


def _parts(row: dict[str, Json]) -> Parts:
    if _is_nested(row):
        fields: dict[str, Json] = row["fields"]
        left = {name: value for name, value in row.items() if name not in ("fields", "responses", "id")}
        answers, others = _nested(row["responses"])
    else:
        fields, left, answers, others = _columns(row)
    if not answers:
        raise RowError("nobody has submitted a response")
    left |= {"unsubmitted": others} if others else {}
    return fields, row.get("id") or row.get("external_id"), answers, left


def _nested(responses: Json) -> tuple[list[GivenAnswer], list[Json]]:
    if isinstance(responses, dict):
        given = [(str(name), part) for name, parts in responses.items() for part in as_list(parts)]
    else:
        given = [(str(part.get("question_name", "")), part) for part in responses if isinstance(part, dict)]
    return _taken([(name, part) for name, part in given if isinstance(part, dict)])


def _taken(given: Sequence[tuple[str, dict[str, Json]]]) -> tuple[list[GivenAnswer], list[Json]]:
    """Return the responses that were submitted, and all others."""
    answers: list[GivenAnswer] = []
    others: list[Json] = []
    for question, part in given:
        if part.get("status", "submitted") == "submitted":
            annotator = part.get("user_id") or part.get("user")
            answers += answers_of([(question, part.get("value"))], str(annotator or "argilla"))
        else:
            others.append({"question": question} | part)
    return answers, others


def _columns(row: dict[str, Json]) -> tuple[dict[str, Json], dict[str, Json], list[GivenAnswer], list[Json]]:
    """Return the fields of a row of columns, all else that it says, the responses submitted and the others."""
    new = [name.removesuffix(_RESPONSES) for name in row if name.endswith(_RESPONSES)]
    old = [] if new else _old_questions(row)
    given: list[tuple[str, dict[str, Json]]] = []
    for question in new:
        values, users, states = (
            as_list(row.get(f"{question}{_RESPONSES}{part}")) for part in ("", ".users", ".status")
        )
        for value, user, status in zip_longest(values, users[: len(values)], states[: len(values)]):
            given.append((question, {"value": value, "user_id": user, "status": status or "submitted"}))
    for question in old:
        value = row[question]
        if isinstance(value, dict):
            lists = [part if isinstance(part, list) else [part] for part in (value.get(key) for key in _OLD)]
            value = [dict(zip(_OLD, parts, strict=False)) for parts in zip(*lists, strict=False)]
        given += [(question, part) for part in as_list(value) if isinstance(part, dict)]
    asked = new or old
    about = {
        name: value
        for name, value in row.items()
        if name in _ABOUT or any(name.startswith((f"{one}.", f"{one}-suggestion")) for one in asked)
    }
    fields = {name: value for name, value in row.items() if name not in about and name not in asked}
    left = {
        name: value for name, value in about.items() if _RESPONSES not in name and name not in ("id", "external_id")
    }
    return fields, left, *_taken(given)
