"""Values as text that people type: control characters made visible, numbers, short texts, and JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from curate.base.console import visible
from curate.base.record import Json, Problem
from curate.jsonl import JsonFault, locate, strict_loads

_BRACKETS = (("<", ">"), ("⟦", "⟧"), ("«", "»"), ("{{", "}}"))
_PLAIN_TAG = re.compile(r"[^\s,\"\[\]{}][^,\"\n\t]*(?<!\s)|[^\s,\"\[\]{}]")
_SPELT = r"(U\+[0-9A-F]{4,6}|0x[89A-F][0-9A-F])"
# Bytes that are no UTF-8, as `surrogateescape` has them.
_BYTES = re.compile("[\udc80-\udcff]")
_LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"separators": (",", ":")}, {"indent": 2}, {"indent": 4}, {"indent": 1})
# Options of `json.dumps`. A text that none of them writes gets the first one when its value is changed.
_SPELLINGS = [{"ensure_ascii": is_ascii, **layout} for is_ascii in (False, True) for layout in _LAYOUTS]
# Larger lines are edited in a person's own editor only: a text area would take a tenth of a second a key.
MOST_BYTES = 256 * 1024


# What `say.visible` would replace stands as ``<U+202E>`` while it is edited and is the character again in the value. A
# text that holds such a spelling literally gets another pair of brackets for it. A byte that is no text, of a line that
# cannot be read, stands as ``<0xFF>``. Nothing is lost on the way, and nothing steers a terminal.


def is_plain(text: str) -> bool:
    """Whether a terminal shows ``text`` as it is."""
    return (text.isascii() and text.isprintable()) or visible(text) == text


@dataclass(frozen=True, slots=True)
class Spelling:
    """How characters that a terminal must not see are written in one text field; without brackets, there are none."""

    brackets: tuple[str, str] | None = None
    has_bytes: bool = False

    @staticmethod
    def of(text: str) -> Spelling:
        """Return the spelling in which ``text`` can be shown and read back.

        Raises:
            ValueError: every pair of brackets stands in the text itself.
        """
        if is_plain(text):
            return Spelling()
        for opening, closing in _BRACKETS:
            if f"{opening}U+" not in text and f"{opening}0x" not in text:
                return Spelling((opening, closing), bool(_BYTES.search(text)))
        raise ValueError("every way to spell control characters stands in the text itself")

    def spell(self, text: str) -> str:
        """Return ``text`` as it is typed and shown."""
        if self.brackets is None or is_plain(text):
            return text
        opening, closing = self.brackets

        def spelled(char: str) -> str:
            code = ord(char)
            return f"0x{code - 0xDC00:02X}" if _BYTES.match(char) else f"U+{code:04X}"

        return "".join(
            char if is_plain(char) or char in "\n\t" else f"{opening}{spelled(char)}{closing}" for char in text
        )

    def read(self, spelled: str) -> str:
        """Return the text that is typed as ``spelled``."""
        if self.brackets is None:
            return spelled
        opening, closing = self.brackets
        return re.sub(re.escape(opening) + _SPELT + re.escape(closing), self._character, spelled)

    def _character(self, spelled: re.Match[str]) -> str:
        code = int(spelled[1][2:], 16)
        if spelled[1].startswith("0x"):
            return chr(code + 0xDC00) if self.has_bytes else spelled[0]
        # Half of a surrogate pair is no text; a line that held one could not be saved.
        return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else spelled[0]


def json_text(value: Json, *, indent: int | None = 2) -> str:
    """Return ``value`` as JSON that a terminal shows as it is: what must not reach one is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return escaped(text)


def escaped(text: str) -> str:
    r"""Return JSON with every character that a terminal must not see as ``\uXXXX``: in a string they mean the same."""
    if is_plain(text):
        return text
    return "".join(char if is_plain(char) else json.dumps(char)[1:-1] for char in text)


def read_number(text: str) -> int | float:
    """Return the number that ``text`` spells in JSON: 1 is an integer and 1.0 is not.

    Raises:
        ValueError: it is no number, or too large for 64 bits, with the reason for people.
    """
    try:
        number = strict_loads(text.strip().encode("utf-8", "surrogatepass"))
    except JsonFault as fault:
        raise ValueError(fault.message if fault.code == "S107" else "not a number") from fault
    if type(number) not in (int, float):
        raise ValueError("not a number")
    return number  # type: ignore[no-any-return]


def tags_text(tags: list[str]) -> str:
    """Return short texts parted by commas; one that would be read otherwise stands in the quotes of JSON."""
    return ", ".join(tag if _PLAIN_TAG.fullmatch(tag) and is_plain(tag) else json_text(tag) for tag in tags)


def read_tags(text: str) -> list[str]:
    """Return the texts that stand in ``text``, parted by commas; white space around them and empty ones go.

    Raises:
        ValueError: a quote is not closed, or something follows it before the next comma.
    """
    decoder = json.JSONDecoder()
    tags: list[str] = []
    index = 0
    while index < len(text):
        if text[index] in ", \t\n":
            index += 1
        elif text[index] == '"':
            try:
                tag, index = decoder.raw_decode(text, index)
            except ValueError as error:
                raise ValueError("a quote is not closed") from error
            rest = text[index:].lstrip()
            if rest and not rest.startswith(","):
                raise ValueError("a comma is missing after a quoted text")
            tags.append(tag)
        else:
            end = text.find(",", index)
            end = len(text) if end < 0 else end
            tags.append(text[index:end].strip())
            index = end
    return tags


class Misspelt(ValueError):  # noqa: N818  a fault of what was typed, shown where it was typed
    """Text that is no JSON: what is wrong and where, lines and columns (in characters) from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column


def require_text(text: str) -> None:
    """Raise `Misspelt` at the first byte of ``text`` that is no UTF-8, as `surrogateescape` has it."""
    if odd := _BYTES.search(text):
        start = text.rfind("\n", 0, odd.start()) + 1
        message = f"byte 0x{ord(odd[0]) - 0xDC00:02X} is not UTF-8. Write the character anew, and save as UTF-8"
        raise Misspelt(message, text.count("\n", 0, start) + 1, odd.start() - start + 1)


def json_in(text: str) -> Json:
    """Return the value that ``text`` is the JSON of, blanks around it left out; a `JsonFault` where it is none."""
    return strict_loads(text.strip().encode("utf-8", "surrogatepass"))


def object_in(value: Json) -> dict[str, Json] | None:
    """Return the object that ``value`` is, or is the JSON text of; None where it is neither."""
    if isinstance(value, str):
        try:
            value = json_in(value)
        except JsonFault:
            return None
    return value if isinstance(value, dict) else None


def respelled_json(text: str, before: Json, after: Json) -> str:
    """Return ``text``, which says ``before``, as a text that says ``after`` with the same layout and blanks around."""
    bare = text.strip()
    options = next((known for known in _SPELLINGS if json.dumps(before, **known) == bare), _SPELLINGS[0])
    start = text.index(bare)
    return f"{text[:start]}{json.dumps(after, **options)}{text[start + len(bare) :]}"


def written(value: Json) -> str:
    """Return ``value`` as indented JSON with a newline at its end; `read_written` gives the same value back."""
    return json_text(value) + "\n"


def read_written(text: str) -> Json:
    """Return the value that ``text`` is the JSON of.

    Raises:
        Misspelt: it is not strict JSON.
    """
    text = text.removeprefix("\ufeff")
    # Of what was no UTF-8, the bytes as they were, which the fault then names.
    raw = text.encode("utf-8", "surrogateescape" if _BYTES.search(text) else "surrogatepass")
    try:
        return strict_loads(raw)
    except JsonFault as fault:
        message = f"{fault.message}. {fault.fix}" if fault.fix else fault.message
        line, column = _line_and_column(raw, fault.column - 1)
        raise Misspelt(message, line, column) from fault


def position_in(text: str, pointer: str) -> tuple[int, int]:
    """Return line and column, from 1, at which the value of ``pointer`` begins in JSON text."""
    raw = text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    return _line_and_column(raw, locate(raw, pointer) - 1)


def describe_problem(text: str, problem: Problem) -> str:
    """Return a problem of the value in ``text`` as one line that says where in the text it is."""
    line, column = position_in(text, problem.pointer)
    return f"line {line}, column {column}: {problem.pointer or 'the record'} {problem.message}"


def in_key_order(new: Json, old: Json) -> Json:
    """Return ``new`` with its keys in the order that they have in ``old``, as far as they are there."""
    if isinstance(new, dict) and isinstance(old, dict):
        keys = dict.fromkeys([*(key for key in old if key in new), *new])
        return {key: in_key_order(new[key], old.get(key)) for key in keys}
    if isinstance(new, list) and isinstance(old, list):
        return [in_key_order(*pair) for pair in zip(new, old, strict=False)] + new[len(old) :]
    return new


def is_huge(value: Json) -> bool:
    """Whether a line is too large to be edited in a form."""
    return len(json_text(value, indent=None).encode("utf-8", "surrogatepass")) > MOST_BYTES


def _line_and_column(raw: bytes, offset: int) -> tuple[int, int]:
    before = raw[:offset]
    start = before.rfind(b"\n") + 1
    return before.count(b"\n") + 1, len(before[start:].decode("utf-8", "replace")) + 1
