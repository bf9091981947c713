"""Strict JSON from bytes: what two parsers could read in two ways is refused, with the byte at fault."""

from __future__ import annotations

import re

import orjson

from curate.base.record import Json
from curate.jsonl.faults import JsonFault

MAX_DEPTH = 64
MAX_KEYS = 1000
# Values in one line: in memory an empty list takes twenty times the two bytes that it has in the file.
MAX_VALUES = 1_000_000
_INT_LOW, _INT_HIGH = -(2**63), 2**63 - 1
_INT_DIGITS = 20

# The outline of a line is what is left without its words: quotes, backslashes, opening brackets (as "["), digits
# (as "0"), and the marks that mostly end a run of digits. It is short, so that counting in it costs next to nothing.
_OUTLINE_TABLE = bytes.maketrans(b"{123456789", b"[000000000")
_NO_OUTLINE = bytes(set(range(256)) - set(b'"\\[{0123456789,.'))
# Any shorter run of digits is an integer that fits in 64 bits.
_LONG_INT = b"0" * 19

_SPACE = re.compile(rb"[ \t\r\n]*+")
# A string without its last quote. Possessive repeats: a string of a million escapes would else keep a million places
# to go back to.
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(\.[0-9]++)?+([eE][-+]?[0-9]++)?+(?![.eE])")
_NON_FINITE = re.compile(rb"[-+]?(?:NaN|nan|Infinity|inf\b|Inf\b)")
_WORD = re.compile(rb"true|false|null")
# What a line can end in the middle of: an escape, or a word or number.
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")
_CUT_SCALAR = re.compile(rb"t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?|-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?)?)?")
# An escape, with the half of a surrogate pair whose other half does not follow as its group.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|$)|([\[{])|([\]}])', re.DOTALL)
_BEGINNINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|$)|([,\[{])', re.DOTALL)

_NAME = re.compile(r"[^\W\d][\w-]{0,18}")


# The fast way is orjson and a proof from counts of bytes that its result lost nothing. Where that fails, or orjson
# refuses, a scanner over the bytes decides, and names the first fault.


def strict_loads(raw: bytes) -> Json:
    """Parse one JSON value from UTF-8 bytes.

    Refused beside plain syntax errors: duplicate keys, NaN and Infinity, integers outside signed 64 bits, numbers too
    large for a double, lone surrogates, raw control characters, more than 64 levels, more than 1,000 keys an object,
    more than a million values in all.

    Raises:
        JsonFault: the first fault, with its code, message and 1-based byte column.
    """
    # Depth is bounded before any parser sees the bytes; most lines have too few brackets to need the scan.
    outline = raw.translate(_OUTLINE_TABLE, _NO_OUTLINE)
    if outline.count(b"[") > MAX_DEPTH:
        _refuse_depth(raw)
    if len(raw) > MAX_VALUES:
        _refuse_crowd(raw)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        _refuse_utf8(raw)
        scan(raw)
        raise JsonFault("S101", "not JSON", getattr(error, "pos", 0) + 1) from error
    # A key that stands twice loses at least one string, and so two quotes. A quote within a string has a backslash in
    # both texts, once its spelling by number is ruled out, so that equal numbers of quotes are equal numbers of
    # strings. Integers beyond 64 bits come out of orjson as huge floats.
    num_quotes = outline.count(b'"')
    is_hidden = b"\\0000" in outline and b"\\u0022" in raw
    if is_hidden or num_quotes > 2 * MAX_KEYS or _LONG_INT in outline or orjson.dumps(value).count(b'"') != num_quotes:
        scan(raw)
    return value


def _refuse_utf8(raw: bytes) -> None:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise JsonFault("S111", "the line ends in the middle of a character", error.start + 1) from error
        raise JsonFault(
            "S103",
            f"byte 0x{raw[error.start]:02X} is not UTF-8 ({error.reason})",
            error.start + 1,
            "Convert the file to UTF-8, for example with `iconv -f LATIN1 -t UTF-8`.",
        ) from error


def _refuse_depth(raw: bytes) -> None:
    depth = 0
    for token in _BRACKETS.finditer(raw):
        if token.group(1):
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonFault("S110", f"nested more than {MAX_DEPTH} levels deep", token.start() + 1)
        elif token.group(2):
            depth -= 1


def _refuse_crowd(raw: bytes) -> None:
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") <= MAX_VALUES:
        return
    num_values = 0
    for token in _BEGINNINGS.finditer(raw):
        if token.group(1):
            num_values += 1
            if num_values > MAX_VALUES:
                raise JsonFault("S117", f"more than {MAX_VALUES:,} values in one line", token.start() + 1)


def scan(raw: bytes) -> None:
    """Check that UTF-8 bytes are one strict JSON value, without building it.

    Raises:
        JsonFault: the first fault in reading order.
    """
    # Without recursion; ``stack`` holds the keys seen of each open object, None for a list.
    stack: list[set[str] | None] = []
    offset, is_comma_due, is_first = 0, False, False
    while True:
        offset = _skip_space(raw, offset)
        keys, mark = stack[-1] if stack else None, raw[offset : offset + 1]
        if is_comma_due and not stack:
            return _refuse_trailing(raw, offset)
        if not mark:
            raise JsonFault("S111", "the line ends in the middle of its value", offset + 1)
        if (is_comma_due or is_first) and mark == (b"]" if keys is None else b"}"):
            stack.pop()
            offset, is_comma_due, is_first = offset + 1, True, False
            continue
        if is_comma_due:
            end = "list" if keys is None else "object"
            offset = _skip_space(raw, _expect(raw, offset, b",", f"a comma or the end of the {end}"))
        if keys is not None:
            offset = _skip_space(raw, _scan_key(raw, offset, keys))
        is_first = raw[offset : offset + 1] in (b"[", b"{")
        is_comma_due = not is_first
        if is_first:
            stack.append(None if raw[offset : offset + 1] == b"[" else set())
            if len(stack) > MAX_DEPTH:
                raise JsonFault("S110", f"nested more than {MAX_DEPTH} levels deep", offset + 1)
            offset += 1
        else:
            offset = _scan_scalar(raw, offset)


def _scan_key(raw: bytes, offset: int, keys: set[str]) -> int:
    """Scan a key and its colon, and add it to those that its object has."""
    if raw[offset : offset + 1] == b"}":
        raise JsonFault("S101", "a comma before the closing brace", offset + 1, "Remove the last comma.")
    if raw[offset : offset + 1] not in (b'"', b""):
        raise JsonFault("S101", "a key in double quotes was expected", offset + 1)
    end = _scan_scalar(raw, offset)
    key = orjson.loads(raw[offset:end])
    if key in keys:
        # What is no plain name may be a secret or an address, and nothing here knows them.
        name = f"the key {key!r}" if _NAME.fullmatch(key) else "a key"
        raise JsonFault("S105", f"{name} stands twice in one object", offset + 1, "Keep one of the two.")
    keys.add(key)
    if len(keys) > MAX_KEYS:
        raise JsonFault("S117", f"an object has more than {MAX_KEYS:,} keys", offset + 1)
    return _expect(raw, _skip_space(raw, end), b":", "a colon after the key")


def _scan_scalar(raw: bytes, offset: int) -> int:
    """Return the end of the string, number or word at ``offset``."""
    if raw.startswith(b'"', offset):
        return _scan_string(raw, offset)
    if token := _NON_FINITE.match(raw, offset):
        what = f"{token.group().decode()} is not a JSON number"
        raise JsonFault("S106", what, offset + 1, "Write null or leave the key out.")
    if token := _WORD.match(raw, offset):
        return token.end()
    if token := _NUMBER.match(raw, offset):
        _refuse_size(token)
        return token.end()
    if _CUT_SCALAR.fullmatch(raw, offset):
        raise JsonFault("S111", "the line ends in the middle of its value", len(raw) + 1)
    if raw[offset] in b"-0123456789":
        raise JsonFault("S101", "not a JSON number", offset + 1, "Write digits on both sides of the point, as in 0.5.")
    raise _stray(raw, offset, "a value")


def _refuse_size(number: re.Match[bytes]) -> None:
    """Refuse a number that would be another one in the next program."""
    text, fix = number.group(), 'Write it in quotes, as a text: "' + number.group()[:40].decode() + '".'
    if number[1] is None and number[2] is None:
        if len(text) > _INT_DIGITS or not _INT_LOW <= int(text) <= _INT_HIGH:
            message = f"an integer of {len(text.lstrip(b'-'))} digits does not fit in 64 bits"
            raise JsonFault("S107", message, number.start() + 1, fix)
    elif abs(float(text)) == float("inf"):
        raise JsonFault("S107", "the number is larger than 1.8e308, the largest of a double", number.start() + 1, fix)


def _scan_string(raw: bytes, offset: int) -> int:
    token = _STRING.match(raw, offset)
    end = token.end() if token else offset
    byte = raw[end : end + 1]
    if not byte:
        raise JsonFault("S111", "the line ends in the middle of a string", end + 1)
    if byte == b"\\" and _CUT_ESCAPE.fullmatch(raw, end):
        raise JsonFault("S111", "the line ends in the middle of an escape", end + 1)
    if byte == b"\\":
        raise JsonFault("S101", "not a JSON escape", end + 1, "A backslash itself is written \\\\.")
    if byte != b'"':
        message, fix = f"a raw control character U+{byte[0]:04X} in a string", f"Write it as \\u{byte[0]:04x}."
        raise JsonFault("S109", message, end + 1, fix)
    half = next((escape for escape in _ESCAPE.finditer(raw, offset, end) if escape[1]), None)
    if half:
        raise JsonFault("S108", f"the escape {half[1].decode()} is half a character", half.start() + 1)
    return end + 1


def _stray(raw: bytes, offset: int, wanted: str) -> JsonFault:
    """Return the fault of a byte that cannot stand where ``wanted`` was expected."""
    byte = raw[offset]
    if byte < 0x20 or byte == 0x7F:
        return JsonFault("S109", f"a raw control character U+{byte:04X} outside a string", offset + 1)
    if raw.startswith(b"\xef\xbb\xbf", offset):
        return JsonFault("S101", "a byte order mark in the middle of the file", offset + 1, "Remove it.")
    if byte == 0x27:
        return JsonFault("S101", "strings and keys take double quotes", offset + 1, "Write \"...\" in place of '...'.")
    return JsonFault("S101", f"{wanted} was expected", offset + 1)


def _refuse_trailing(raw: bytes, offset: int) -> None:
    """Refuse what stands after the value, if anything does."""
    if offset == len(raw):
        return
    if raw[offset] < 0x20 or raw[offset] == 0x7F:
        raise _stray(raw, offset, "the end of the line")
    if raw[offset] in b'{["':
        hint = " (lines that end in a lone CR are one line)" if b"\r" in raw[:offset] else ""
        message, fix = f"a second value begins on the same line{hint}", "Put each record on a line of its own."
        raise JsonFault("S101", message, offset + 1, fix)
    raise JsonFault("S101", "something stands after the value", offset + 1, "Remove it.")


def _expect(raw: bytes, offset: int, byte: bytes, wanted: str) -> int:
    if raw.startswith(byte, offset):
        return offset + 1
    if offset < len(raw):
        raise _stray(raw, offset, wanted)
    raise JsonFault("S111", "the line ends in the middle of its value", offset + 1)


def _skip_space(raw: bytes, offset: int) -> int:
    space = _SPACE.match(raw, offset)
    return space.end() if space else offset
