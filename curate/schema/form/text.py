"""Values as text that people type: control characters made visible, numbers, JSON, and a record as TOML."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from curate.base.console import visible
from curate.base.record import Json, Problem, canonical
from curate.jsonl import JsonFault, locate, strict_loads

# A character that a terminal must not see, or a byte that is no UTF-8, as it is shown and typed.
_SPELT = re.compile(r"<(U\+[0-9A-F]{4,6}|0x[89A-F][0-9A-F])>")
# Bytes that are no UTF-8, as `surrogateescape` has them.
_BYTES = re.compile("[\udc80-\udcff]")
_LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"separators": (",", ":")}, {"indent": 2}, {"indent": 4}, {"indent": 1})
# Options of `json.dumps`. A text that none of them writes gets the first one when its value is changed.
_SPELLINGS = [{"ensure_ascii": is_ascii, **layout} for is_ascii in (False, True) for layout in _LAYOUTS]
# Larger lines are edited in a person's own editor only: a text area would take a tenth of a second a key.
MOST_BYTES = 256 * 1024
_TOML = re.compile(r"\s*(?:#|[\w-]+\s*=|\[\[)")
_HEAD = "# A record as TOML: what you save here is checked when you leave the editor.\n"


def is_plain(text: str) -> bool:
    """Whether a terminal shows ``text`` as it is."""
    return (text.isascii() and text.isprintable()) or visible(text) == text


@dataclass(frozen=True, slots=True)
class Spelling:
    """How characters that a terminal must not see stand in a text field: as ``<U+202E>``, a byte as ``<0xFF>``.

    Where ``text``, which the field was opened with, holds none, such a spelling is what it says. Where it holds one, a
    ``<`` that begins the same by itself stands as ``<U+003C>``, so that nothing is lost on the way.
    """

    text: str

    def spell(self, text: str) -> str:
        """Return ``text`` as it is typed and shown."""
        if is_plain(self.text):
            return text
        text = _SPELT.sub(lambda literal: f"<U+003C>{literal[0][1:]}", text)
        return "".join(char if is_plain(char) or char in "\n\t" else _spelled(char) for char in text)

    def read(self, spelled: str) -> str:
        """Return the text that is typed as ``spelled``."""
        return spelled if is_plain(self.text) else _SPELT.sub(self._character, spelled)

    def _character(self, spelled: re.Match[str]) -> str:
        code = int(spelled[1][2:], 16)
        if spelled[1].startswith("0x"):
            return chr(code + 0xDC00) if _BYTES.search(self.text) else spelled[0]
        # Half of a surrogate pair is no text; a line that held one could not be saved.
        return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else spelled[0]


def _spelled(char: str) -> str:
    return f"<0x{ord(char) - 0xDC00:02X}>" if _BYTES.match(char) else f"<U+{ord(char):04X}>"


def json_text(value: Json, *, indent: int | None = 2) -> str:
    """Return ``value`` as JSON that a terminal shows as it is: what must not reach one is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    # In a string the escape means the same.
    return text if is_plain(text) else "".join(c if is_plain(c) else json.dumps(c)[1:-1] for c in text)


class Misspelt(ValueError):  # noqa: N818  a fault of what was typed, shown where it was typed
    """Text that is no JSON: what is wrong and where, lines and columns (in characters) from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column


def respelled_json(text: str, before: Json, after: Json) -> str:
    """Return ``text``, which says ``before``, as a text that says ``after`` with the same layout and blanks around."""
    bare = text.strip()
    options = next((known for known in _SPELLINGS if json.dumps(before, **known) == bare), _SPELLINGS[0])
    start = text.index(bare)
    return f"{text[:start]}{json.dumps(after, **options)}{text[start + len(bare) :]}"


def read_json(text: str) -> Json:
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
        raise Misspelt(message, *_line_and_column(raw, fault.column - 1)) from fault


def is_toml(text: str) -> bool:
    """Whether a text is a record as `toml_of` writes it: no JSON begins so."""
    return bool(_TOML.match(text.removeprefix("\ufeff")))


def toml_of(line: dict[str, Json]) -> str | None:
    """Return a record as TOML, where a text of many lines is read as it is; None where it would not come back whole."""
    import tomlkit

    try:
        # A key after a table would be the table's, so that tables come last.
        text = _HEAD + tomlkit.dumps({key: _toml_item(part) for key, part in sorted(line.items(), key=_is_table)})
        is_whole = canonical(read_record(text)) == canonical(line)
    except (ValueError, TypeError):
        return None
    return text if is_whole and all(map(is_plain, text.split("\n"))) else None


def _is_table(item: tuple[str, Json]) -> bool:
    value = item[1]
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _toml_item(value: Json) -> Any:
    import tomlkit
    from tomlkit.items import String, StringType, Trivia

    if isinstance(value, dict):
        return {key: _toml_item(part) for key, part in sorted(value.items(), key=_is_table)}
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return [_toml_item(part) for part in value]
    if not isinstance(value, str) or "\n" not in value:
        return value
    if "'''" in value or value.endswith("'") or not is_plain(value.replace("\n", "")):
        return tomlkit.string(value, multiline=True)
    # The newline that follows the quotes is no part of the text, and nothing in it is an escape.
    return String(StringType.MLL, value, f"\n{value}", Trivia())


def read_record(text: str) -> Json:
    """Return the record that ``text`` is, as TOML or JSON.

    Raises:
        Misspelt: it is neither, or holds what JSON has no place for.
    """
    if not is_toml(text):
        return read_json(text)
    if odd := _BYTES.search(text):
        start = text.rfind("\n", 0, odd.start()) + 1
        message = f"byte 0x{ord(odd[0]) - 0xDC00:02X} is not UTF-8. Write the character anew, and save as UTF-8"
        raise Misspelt(message, text.count("\n", 0, start) + 1, odd.start() - start + 1)
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        value = tomlkit.parse(text.removeprefix("\ufeff")).unwrap()
        return strict_loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass"))
    except ParseError as error:
        raise Misspelt(str(error).partition(" at line ")[0], error.line, error.col + 1) from error
    except (TOMLKitError, TypeError, ValueError) as error:
        raise Misspelt(getattr(error, "message", "") or str(error), 1, 1) from error


def position_in(text: str, pointer: str) -> tuple[int, int]:
    """Return line and column, from 1, at which the value of ``pointer`` begins in JSON text."""
    raw = text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    return _line_and_column(raw, locate(raw, pointer) - 1)


def describe_problem(text: str, problem: Problem) -> str:
    """Return a problem of the value in ``text`` as one line that says where in the text it is."""
    what = f"{problem.pointer or 'the record'} {problem.message}"
    return what if is_toml(text) else "line {}, column {}: ".format(*position_in(text, problem.pointer)) + what


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
