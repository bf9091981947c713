"""A value written out as JSON for people, and read back with the line and column of what is wrong."""

from __future__ import annotations

from curate.door import DoorFault, locate, strict_loads
from curate.form.spelling import json_text
from curate.record import Json, Problem

MOST_BYTES = 256 * 1024
"""Larger lines are edited in a person's own editor only: a text area would take a tenth of a second a key."""


class Misspelt(ValueError):  # noqa: N818  a fault of what was typed, told where it was typed
    """Text that is no JSON: what is wrong and where, lines and columns (in characters) from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


def written(value: Json) -> str:
    """Return ``value`` as indented JSON with a newline at its end; `read_written` gives the same value back."""
    return json_text(value) + "\n"


def read_written(text: str) -> Json:
    """Return the value that ``text`` is the JSON of.

    Raises:
        Misspelt: it is not strict JSON.
    """
    raw = text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    try:
        return strict_loads(raw)
    except DoorFault as fault:
        message = f"{fault.message}. {fault.fix}" if fault.fix else fault.message
        line, column = _line_and_column(raw, fault.column - 1)
        raise Misspelt(message, line, column) from fault


def place_in(text: str, pointer: str) -> tuple[int, int]:
    """Return line and column, from 1, at which the value of ``pointer`` begins in JSON text."""
    raw = text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    return _line_and_column(raw, locate(raw, pointer) - 1)


def told(text: str, problem: Problem) -> str:
    """Return a problem of the value in ``text`` as one line that says where in the text it is."""
    line, column = place_in(text, problem.pointer)
    return f"line {line}, column {column}: {problem.pointer or 'the record'} {problem.message}"


def is_huge(value: Json) -> bool:
    """Whether a line is too large to be edited in a form."""
    return len(json_text(value, indent=None).encode("utf-8", "surrogatepass")) > MOST_BYTES


def _line_and_column(raw: bytes, offset: int) -> tuple[int, int]:
    before = raw[:offset]
    start = before.rfind(b"\n") + 1
    return before.count(b"\n") + 1, len(before[start:].decode("utf-8", "replace")) + 1
