"""Strict JSON from bytes: what two parsers could read in two ways is refused, with the byte at fault."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

import orjson

from curate.base.record import Json
from curate.jsonl.faults import JsonFault

MAX_DEPTH = 64
MAX_KEYS = 1000
# Values in one line: in memory an empty list takes twenty times the two bytes that it has in the file.
MAX_VALUES = 1_000_000
_INT_LOW, _INT_HIGH = -(2**63), 2**63 - 1
_INT_DIGITS = 20

# The outline of a line is what is left without its words: quotes, backslashes, opening brackets (as "["), digits (as
# "0"), and the marks that mostly end a run of digits. It is short, so that counting in it costs next to nothing.
_OUTLINE_TABLE = bytes.maketrans(b"{123456789", b"[000000000")
_NO_OUTLINE = bytes(set(range(256)) - set(b'"\\[{0123456789,.'))
# The outline of many lines keeps them apart.
_NO_OUTLINES = bytes(set(_NO_OUTLINE) - set(b"\n"))
# An object with too many keys takes more bytes than this.
_FEW_KEYS = 6 * MAX_KEYS
# Any shorter run of digits is an integer that fits in 64 bits.
_LONG_INT = b"0" * 19
# What the outline shows of a quote that is spelled by its number, and of other characters too.
_HEX_QUOTE = b"\\0000"

_SPACE = re.compile(rb"[ \t\r\n]*")
# Possessive repeats: a string of a million escapes would else keep a million places to go back to.
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"')
_STRING_START = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_NUMBER_START = re.compile(rb"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?)?)?")
_NON_FINITE = re.compile(rb"[-+]?(?:NaN|nan|Infinity|inf\b|Inf\b)")
_WORDS = (b"true", b"false", b"null")
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_BRACKETS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|$)|([\[{])|([\]}])', re.DOTALL)
_BEGINNINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|$)|([,\[{])', re.DOTALL)

_NAME = re.compile(r"[^\W\d][\w-]{0,18}")

_KEY, _COMMA_OR_END, _VALUE, _FIRST = range(4)


# The fast way is orjson and a proof that its result lost nothing: first a cheap one from counts of bytes, then a walk
# over the result. Where both fail, or orjson refuses, a scanner over the bytes names the first fault. Tests hold all of
# them to the same verdict.


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
    if not _is_plainly_lossless(raw, outline, value) and not _is_lossless(raw, value):
        scan(raw)
    return value


def strict_loads_all(whole: bytes, lines: Sequence[bytes]) -> list[Json] | None:
    """Parse ``lines``, all of them JSON objects; None where one is refused, or may be: then they go one by one.

    ``whole`` is what the lines were cut from, with their newlines.
    """
    # The proof of `_is_plainly_lossless`, for a thousand lines at once: no line has fewer quotes than its value, so
    # that equal sums are equal numbers in each line.
    outline = whole.translate(_OUTLINE_TABLE, _NO_OUTLINES)
    long = [raw for raw in lines if len(raw) > _FEW_KEYS]
    # Each line has one bracket at least.
    is_nested = outline.count(b"[") - len(lines) >= MAX_DEPTH
    try:
        for raw in long:
            if len(raw) > MAX_VALUES:
                _refuse_crowd(raw)
        for raw, part in zip(lines, outline.split(b"\n"), strict=False) if is_nested else ():
            if part.count(b"[") > MAX_DEPTH:
                _refuse_depth(raw)
    except JsonFault:
        return None
    try:
        values = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        return None
    num_quotes, plain = outline.count(b'"'), values
    has_hidden = _LONG_INT in outline or (b"\\" in outline and _HEX_QUOTE in outline and b"\\u0022" in whole)
    # Enough quotes for too many keys, though mostly they are those of a text.
    if has_hidden or any(raw.count(b'"') > 2 * MAX_KEYS for raw in long):
        plain = []
        for raw, part, value in zip(lines, outline.split(b"\n"), values, strict=False):
            if _LONG_INT not in part and b"\\u0022" not in raw and part.count(b'"') <= 2 * MAX_KEYS:
                plain.append(value)
            elif _is_lossless(raw, value):
                num_quotes -= part.count(b'"')
            else:
                return None
    return values if orjson.dumps(plain).count(b'"') == num_quotes else None


def _is_plainly_lossless(raw: bytes, outline: bytes, value: Json) -> bool:
    """Whether a comparison or counts prove that ``value`` holds all that ``raw`` says; most lines need no more."""
    # Many lines are the very text that orjson writes for their value. Of the others, a key that stands twice loses at
    # least one string, and so two quotes. A quote within a string has a backslash in both texts, once its spelling by
    # number is ruled out, so that equal numbers of quotes are equal numbers of strings.
    num_quotes = outline.count(b'"')
    if num_quotes > 2 * MAX_KEYS or _LONG_INT in outline:
        return False
    text = orjson.dumps(value)
    if text == raw:
        return True
    is_hidden = b"\\" in outline and _HEX_QUOTE in outline and b"\\u0022" in raw
    return not is_hidden and text.count(b'"') == num_quotes


def _is_lossless(raw: bytes, value: Json) -> bool:
    """Whether ``value`` certainly holds all that ``raw`` says; False sends the bytes to the scanner."""
    # Every string of a JSON text has two quotes of its own, so a text with more of them than the parsed value has
    # strings named a key twice. Integers beyond 64 bits come out of orjson as huge floats.
    num_strings = 0
    nodes: list[Json] = [[value]]
    while nodes:
        node = nodes.pop()
        if type(node) is dict:
            if len(node) > MAX_KEYS:
                return False
            num_strings += len(node)
            node = node.values()
        for part in node:
            kind = type(part)
            if kind is str:
                num_strings += 1
            elif kind is dict or kind is list:
                nodes.append(part)
            elif kind is int:
                if not _INT_LOW <= part <= _INT_HIGH:
                    return False
            elif kind is float and not _INT_LOW < part < _INT_HIGH:
                return False
    num_quotes = raw.count(b'"')
    if b"\\" in raw:
        # Backslashes pair from the left, so what is left of `\"` after taking the pairs out is an escaped quote.
        num_quotes -= raw.replace(b"\\\\", b"").count(b'\\"')
    return num_quotes == 2 * num_strings


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
    offset = _skip_space(raw, 0)
    offset = _scan_value(raw, offset)
    offset = _skip_space(raw, offset)
    if offset < len(raw):
        _refuse_rest(raw, offset)


def _scan_value(raw: bytes, offset: int) -> int:
    """Scan one value without recursion; ``stack`` holds the keys seen of each open object, None for a list."""
    stack: list[set[str] | None] = []
    expected = _VALUE
    while True:
        offset = _skip_space(raw, offset)
        byte = raw[offset : offset + 1]
        if not byte:
            raise JsonFault("S111", "the line ends in the middle of its value", offset + 1)
        if byte in b"]}" and expected in (_FIRST, _COMMA_OR_END) and stack and (byte == b"]") == (stack[-1] is None):
            stack.pop()
            offset += 1
            expected = _COMMA_OR_END
        elif expected == _COMMA_OR_END:
            offset = _expect(
                raw, offset, b",", "a comma or the end of the " + ("list" if stack[-1] is None else "object")
            )
            expected = _VALUE if stack[-1] is None else _KEY
        elif expected in (_KEY, _FIRST) and stack and (keys := stack[-1]) is not None:
            offset = _scan_key(raw, offset, keys)
            expected = _VALUE
        elif byte in b"[{":
            stack.append(None if byte == b"[" else set())
            if len(stack) > MAX_DEPTH:
                raise JsonFault("S110", f"nested more than {MAX_DEPTH} levels deep", offset + 1)
            offset += 1
            expected = _FIRST
        else:
            offset = _scan_scalar(raw, offset)
            expected = _COMMA_OR_END
        if not stack:
            return offset


def _scan_key(raw: bytes, offset: int, keys: set[str]) -> int:
    if raw[offset : offset + 1] != b'"':
        if raw[offset : offset + 1] == b"}":
            raise JsonFault("S101", "a comma before the closing brace", offset + 1, "Remove the last comma.")
        raise JsonFault("S101", "a key in double quotes was expected", offset + 1)
    end = _scan_string(raw, offset)
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
    byte = raw[offset : offset + 1]
    if byte == b'"':
        return _scan_string(raw, offset)
    if token := _NON_FINITE.match(raw, offset):
        raise JsonFault(
            "S106", f"{token.group().decode()} is not a JSON number", offset + 1, "Write null or leave the key out."
        )
    if byte in b"-0123456789":
        return _scan_number(raw, offset)
    for word in _WORDS:
        if raw.startswith(word, offset):
            return offset + len(word)
        if word.startswith(raw[offset:]):
            raise JsonFault("S111", "the line ends in the middle of its value", len(raw) + 1)
    return _refuse_byte(raw, offset, "a value")


def _scan_number(raw: bytes, offset: int) -> int:
    token = _NUMBER.match(raw, offset)
    if token is None or raw[token.end() : token.end() + 1] in (b".", b"e", b"E"):
        start = _NUMBER_START.match(raw, offset)
        end = start.end() if start else offset
        if end == len(raw):
            raise JsonFault("S111", "the line ends in the middle of a number", end + 1)
        raise JsonFault("S101", "not a JSON number", offset + 1)
    if token.group(1) is None and token.group(2) is None:
        text = token.group()
        if len(text) > _INT_DIGITS or not _INT_LOW <= int(text) <= _INT_HIGH:
            raise JsonFault(
                "S107", f"an integer of {len(text.lstrip(b'-'))} digits does not fit in 64 bits", offset + 1
            )
    elif float(token.group()) in (float("inf"), float("-inf")):
        raise JsonFault("S107", "the number is too large for a double", offset + 1)
    return token.end()


def _scan_string(raw: bytes, offset: int) -> int:
    token = _STRING.match(raw, offset)
    if token is None:
        _refuse_string(raw, offset)
    if b"\\u" in token.group():
        _refuse_surrogate(raw, offset, token.end())
    return token.end()


def _refuse_string(raw: bytes, offset: int) -> NoReturn:
    start = _STRING_START.match(raw, offset)
    end = start.end() if start else offset
    rest = raw[end : end + 1]
    if not rest:
        raise JsonFault("S111", "the line ends in the middle of a string", end + 1)
    if rest == b"\\":
        if re.fullmatch(rb"\\(?:u[0-9a-fA-F]{0,3})?", raw[end:]):
            raise JsonFault("S111", "the line ends in the middle of an escape", end + 1)
        raise JsonFault("S101", "not a JSON escape", end + 1, "A backslash itself is written \\\\.")
    raise JsonFault(
        "S109", f"a raw control character U+{rest[0]:04X} in a string", end + 1, f"Write it as \\u{rest[0]:04x}."
    )


def _refuse_surrogate(raw: bytes, start: int, end: int) -> None:
    """Refuse an escaped half of a surrogate pair whose other half is not the very next escape."""
    high_at, high_end = -1, -1
    for escape in _ESCAPE.finditer(raw, start, end):
        code = int(escape.group(1), 16) if escape.group(1) else 0
        is_low = 0xDC00 <= code <= 0xDFFF
        if high_at >= 0 and not (is_low and escape.start() == high_end):
            break
        if is_low and high_at < 0:
            high_at = escape.start()
            break
        high_at, high_end = (escape.start(), escape.end()) if 0xD800 <= code <= 0xDBFF else (-1, -1)
    if high_at >= 0:
        raise JsonFault("S108", f"the escape {raw[high_at : high_at + 6].decode()} is half a character", high_at + 1)


def _refuse_byte(raw: bytes, offset: int, wanted: str) -> NoReturn:
    byte = raw[offset]
    if byte < 0x20 or byte == 0x7F:
        raise JsonFault("S109", f"a raw control character U+{byte:04X} outside a string", offset + 1)
    if raw.startswith(b"\xef\xbb\xbf", offset):
        raise JsonFault("S101", "a byte order mark in the middle of the file", offset + 1, "Remove it.")
    if byte == 0x27:
        raise JsonFault("S101", "strings and keys take double quotes", offset + 1, "Write \"...\" in place of '...'.")
    raise JsonFault("S101", f"{wanted} was expected", offset + 1)


def _refuse_rest(raw: bytes, offset: int) -> NoReturn:
    if raw[offset] < 0x20 or raw[offset] == 0x7F:
        _refuse_byte(raw, offset, "the end of the line")
    if raw[offset : offset + 1] in b'{["':
        hint = " (lines that end in a lone CR are one line)" if b"\r" in raw[:offset] else ""
        raise JsonFault(
            "S101", f"a second value begins on the same line{hint}", offset + 1, "Put each record on a line of its own."
        )
    raise JsonFault("S101", "something stands after the value", offset + 1, "Remove it.")


def _expect(raw: bytes, offset: int, byte: bytes, wanted: str) -> int:
    if raw[offset : offset + 1] == byte:
        return offset + 1
    if offset < len(raw):
        _refuse_byte(raw, offset, wanted)
    raise JsonFault("S111", "the line ends in the middle of its value", offset + 1)


def _skip_space(raw: bytes, offset: int) -> int:
    token = _SPACE.match(raw, offset)
    return token.end() if token else offset
