"""Bad lines that differ in their words alone have the same faults, so that all but the first need only be counted.

A broken export repeats one fault a million times, in other words each time. The skeleton of a line is what is left when
each text that is a value, and each large whole number, stands for all others that parser and schema take alike. Keys,
brackets, and every text with an escape stay as they are. A line whose skeleton was seen before has the faults that were
found then; whatever is not sure to be so has no skeleton.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from curate.schema.contents import Contents

# Bytes of a line that is worth a skeleton.
LONGEST = 1024
# Digits of a number that fits in 64 bits, whichever they are.
_FITTING = 18
# With no more of them, no line is nested too deep to be parsed.
_MOST_BRACKETS = 64
_TEXT = rb'[^"\\\x00-\x1f]'
_ASCII = rb'[^"\\\x00-\x1f\x80-\xff]'
_QUOTED = rb'"(?:[^"\\]++|\\.)*+"'
_CUT = rb'"(?=%b*+\Z)' % _TEXT
# Stands for what was taken out; no line that has a skeleton has it.
_REMOVED = b"\x01"
# Each match is what stays, in a group, and then what is taken out or the end. Texts of a list without objects are no
# keys.
_IN_LIST = re.compile(
    rb'((?:[^"]++|(?!"%b*+(?:"|\Z))(?:%b|"))*+(?:%b)?+)(?:"%b*+"|%b*+\Z)' % (_TEXT, _QUOTED, _CUT, _TEXT, _TEXT),
    re.DOTALL,
)
_LETTERS = re.compile(rb"[A-Za-z]++.?", re.DOTALL)
_VALUES = (b"true", b"false", b"null")
# The rest of a line that cannot be nested too deep.
_REST = rb"[^\[{\x00\x01]*+"
_NOT_UTF8 = "not UTF-8"
# A lead byte without what must follow it, as every accent in Latin-1 is before a letter of ASCII.
_NO_UTF8 = rb"[{A-Za-z][^\[{\x00\x01\x80-\xff]*+[\xc0-\xff][^\[{\x00\x01\x80-\xff]" + _REST
# Each takes as long to compile as a hundred lines to look at.
_MAX_TEMPLATES = 64


class Template(NamedTuple):
    """Tells lines of one skeleton, though not all of them, several times as fast as making their skeletons.

    ``is_match`` is to be asked of lines of at most `LONGEST` bytes, and of those in ASCII or of others as ``is_ascii``
    says.
    """

    is_match: Callable[[bytes], object]
    is_ascii: bool


class Skeletons:
    """Gives lines their skeletons, for one schema."""

    def __init__(self, contents: Contents | None) -> None:
        """Make skeletons for a schema that looks at ``contents``, or at anything where that is None."""
        shortest, longest, digits, named = 0, LONGEST, 4, b""
        if contents:
            shortest, longest = contents.shortest, min(contents.longest, LONGEST)
            digits = max(digits, len(str(contents.largest)))
            named = b"|".join(re.escape(text.encode("utf-8", "surrogatepass")) for text in sorted(contents.texts))
        others = b'(?!(?:%b)")' % named if named else b""
        least, most = shortest, max(shortest, longest)
        # A character has at most four bytes.
        text = b'"%b(?:%b{%d,%d}+|%b{%d,%d}+)"' % (
            others, _ASCII, least, most, _TEXT, 4 * least, max(4 * least, most),
        )  # fmt: skip
        number = rb"[0-9]{%d,%d}+(?=[ \t]*+[,}])" % (digits, max(digits, _FITTING - 1))
        # What follows the colon of a value that goes: nothing, the first digit, or the quote of a text that is cut off.
        begun = rb"[ \t]*+(?:(?=%b)|[1-9](?=%b)|%b)" % (text, number, _CUT)
        unchanged = rb'(?:[^":]++|%b|:(?!%b)|")*+(?::%b)?+' % (_QUOTED, begun, begun)
        self._values = re.compile(rb"(%b)(?:%b|%b|%b*+\Z)" % (unchanged, text, number, _TEXT), re.DOTALL)
        self._text, self._number = text, number
        self._templates: dict[bytes | str, Template | None] = {}
        self._is_of_schema = contents is not None and 4 * shortest <= longest and digits < _FITTING
        self._unique = [key.encode("utf-8", "surrogatepass") for key in contents.unique] if contents else []

    def is_of_schema(self, raw: bytes) -> bool:
        """Whether lines of the skeleton of ``raw`` are alike to the schema too, and not to the parser alone."""
        # A key can be spelled with escapes.
        are_plain = not self._unique or not any(key in raw for key in (*self._unique, b"\\"))
        return self._is_of_schema and are_plain

    def of(self, raw: bytes) -> bytes | str | None:
        """Return the skeleton of a line without its newline: itself where nothing can be taken out.

        Where the beginning decides, it is a text that names the fault. None where a line could be taken for a skeleton.
        """
        if len(raw) > LONGEST or b"\x01" in raw or b"\x00" in raw:
            return None
        start = raw[:1]
        is_word = start.isalpha()
        if not raw.isascii() and (fault := _utf8_fault(raw)):
            # Other lines can be something else before their bytes are looked at.
            return fault if (start in b"{[" or is_word) and _is_shallow(raw) else None
        if start == b"{":
            if raw[1:2] not in b'"} \t\r' and _is_shallow(raw):
                return "no key"
            return _REMOVED.join(self._values.findall(raw))
        if start == b"[":
            return _REMOVED.join((self._values if b"{" in raw else _IN_LIST).findall(raw))
        if is_word and _is_shallow(raw):
            return _word(raw)
        if raw.isdigit() and start != b"0" and len(raw) <= _FITTING:
            return "a number"
        return raw

    def template(self, raw: bytes, skeleton: bytes | str) -> Template | None:
        """Return a template of the skeleton of ``raw``, None where there is none."""
        if skeleton not in self._templates:
            if len(self._templates) >= _MAX_TEMPLATES:
                return None
            is_ascii = raw.isascii()
            pattern = (
                b"".join(self._template(raw, skeleton)) if is_ascii else _NO_UTF8 if skeleton == _NOT_UTF8 else b""
            )
            self._templates[skeleton] = (
                Template(re.compile(pattern, re.DOTALL).fullmatch, is_ascii) if pattern else None
            )
        return self._templates[skeleton]

    def _template(self, raw: bytes, skeleton: bytes | str) -> Iterator[bytes]:
        """Yield the parts of a pattern: what stays as it is, and in each place what can stand where something went."""
        if skeleton == "no key":
            yield rb'\{[^"} \t\r\[{\x00\x01]' + _REST
        elif skeleton == "a number":
            yield rb"[1-9][0-9]{0,%d}" % (_FITTING - 1)
        elif isinstance(skeleton, str):
            letters = _LETTERS.match(raw)
            begin = letters[0] if letters and raw[0] in b"tfnNIi" else raw[:1]
            # A word that ends the line could go on in another one.
            if skeleton.startswith("no JSON") and not (len(begin) > 1 and begin.isalpha()):
                yield re.escape(begin) + _REST
        elif skeleton != raw:
            is_list = raw[:1] == b"[" and b"{" not in raw
            for match in (_IN_LIST if is_list else self._values).finditer(raw):
                removed = raw[match.end(1) : match.end()]
                yield re.escape(match[1])
                if removed[:1] == b'"' and match.end() > match.end(1) + 1 and removed.endswith(b'"'):
                    yield rb'"%b*+"' % _TEXT if is_list else self._text
                elif removed.isdigit() and match.end() < len(raw):
                    yield self._number
                elif removed:
                    yield _TEXT + b"*+"


def _utf8_fault(raw: bytes) -> str:
    """Return what is wrong with the bytes of a line as UTF-8, "" where nothing is."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return "cut" if error.reason == "unexpected end of data" else _NOT_UTF8
    return ""


def _word(raw: bytes) -> bytes | str:
    """Return the skeleton of a line that begins with a letter: as a rule that is its fault already."""
    if raw[0] not in b"tfnNIi":
        return "no JSON"
    letters = _LETTERS.match(raw)
    assert letters is not None
    return raw if letters[0].startswith(_VALUES) else f"no JSON: {letters[0].decode('latin-1')}"


def _is_shallow(raw: bytes) -> bool:
    return raw.count(b"[") + raw.count(b"{") <= _MOST_BRACKETS
