"""The file of known answers, which is named in `label.gold` and hidden from annotators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from curate.base.console import one_line
from curate.base.record import CurateError, Finding, Json
from curate.jsonl import Entry, read_entries

Gold = Mapping[str, Json]
"""By record id, the answer that is known to be right."""

_KEYS = {"id", "question", "value"}
_FORM = 'Each line reads {"id": "r001", "question": "category", "value": "billing"}; each record once a question.'


def read_gold(path: Path, root: Path) -> dict[str, Gold]:
    """Return, by question, the known answer to each record of ``path``, a JSON Lines file below ``root``.

    Raises:
        CurateError: E904 when it is missing or may not be read; E902 when a line is not
            ``{"id": text, "question": text, "value": anything but null}``, or answers what another line has answered.
    """
    answers_by_question: dict[str, dict[str, Json]] = {}
    for item in read_entries(path, root=root):
        if isinstance(item, Finding):
            if item.severity == "error":
                raise _bad(path, item.line, item.message, item.fix if item.code == "S127" else _FORM)
            continue
        name, question, value = _answer(path, item)
        answers = answers_by_question.setdefault(question, {})
        if name in answers:
            raise _bad(path, item.line.source.line, f"record {one_line(name, 60)} is answered on an earlier line too")
        answers[name] = value
    return dict(answers_by_question)


def _answer(path: Path, entry: Entry) -> tuple[str, str, Json]:
    value, number = entry.value, entry.line.source.line
    if value.keys() != _KEYS:
        raise _bad(path, number, f"has the keys {one_line(', '.join(value) or '(none)', 80)}")
    for key in ("id", "question"):
        if not isinstance(value[key], str) or not value[key]:
            raise _bad(path, number, f"/{key} is no text")
    if value["value"] is None:
        raise _bad(path, number, "/value is null, which is no answer")
    return value["id"], value["question"], value["value"]


def _bad(path: Path, line: int, message: str, hint: str = _FORM) -> CurateError:
    location = f"{path}:{line}" if line else str(path)
    return CurateError("E902 bad-settings", f"label.gold: {location}: {message}", hint)
