"""An answer whose category has a schema, seen as a form of that schema while the record around it is edited."""

from __future__ import annotations

import json
from typing import Any

from curate.base.record import Json, canonical
from curate.jsonl import JsonFault, parts_of, strict_loads
from curate.schema import Shape
from curate.schema.form import Form, value_at
from curate.sessions.edits import EditSession

_LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"separators": (",", ":")}, {"indent": 2}, {"indent": 4}, {"indent": 1})
_SPELLINGS = [{"ensure_ascii": is_ascii, **layout} for is_ascii in (False, True) for layout in _LAYOUTS]
"""Options of `json.dumps`. A text that none of them writes gets the first one when its value is changed."""


class Answer:
    """The answer at ``pointer`` of a record under edit; ``form`` is None while its text is no JSON."""

    def __init__(self, pointer: str, shape: Shape) -> None:
        self.pointer = pointer
        self.shape = shape
        self.form: Form | None = None
        self._text = ""

    def read(self, edit: EditSession) -> bool:
        """Take the text of the record in; return whether the form says something else now, or is there no more."""
        text, _ = value_at(edit.form.to_line(), parts_of(self.pointer))
        if not isinstance(text, str) or text == self._text:
            return False
        self._text = text
        try:
            value = _value(text)
        except JsonFault:
            was_form, self.form = self.form is not None, None
            return was_form
        if self.form is not None and canonical(self.form.to_line()) == canonical(value):
            return False
        self.form = Form(self.shape, value)
        return True

    def write(self, edit: EditSession) -> None:
        """Put what the form says into the text of the record, spelled as the text was."""
        if self.form is None:
            return
        before, value = _value(self._text), self.form.to_line()
        if canonical(value) != canonical(before):
            self._text = _respelled(self._text, before, value)
            edit.form.enter(self.pointer, self._text)


def answer_of(edit: EditSession, known: Answer | None = None) -> Answer | None:
    """Return the answer of a record whose category has a schema, ``known`` if it is still that; None where none is.

    Raises:
        CurateError: E903 and E904 for a schema that cannot be used.
    """
    contract = edit.contract()
    if contract is None:
        return None
    pointer, shape = contract
    is_known = known is not None and known.pointer == pointer and known.shape is shape
    return known if is_known else Answer(pointer, shape)


def _value(text: str) -> Json:
    """Return the value that ``text`` is the strict JSON of; `JsonFault` where it is none."""
    return strict_loads(text.strip().encode("utf-8", "surrogatepass"))


def _respelled(text: str, before: Json, after: Json) -> str:
    """Return ``text``, which says ``before``, as a text that says ``after`` with the same layout and blanks around."""
    bare = text.strip()
    options = next((known for known in _SPELLINGS if json.dumps(before, **known) == bare), _SPELLINGS[0])
    start = text.index(bare)
    return f"{text[:start]}{json.dumps(after, **options)}{text[start + len(bare) :]}"
