"""A JSON document: an array of objects, or an object that wraps one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from curate.formats.importers import Rejected, SourceRow, cannot_import, container
from curate.jsonl import JsonFault, strict_loads

# The largest document, in bytes, that is read as one piece; JSON lines and CSV stream and have no such limit.
MAX_WHOLE = 512 * 1024 * 1024
# Strings are passed over whole, so that a bracket in a text is none; possessively, as in `curate.jsonl.strict`.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]|"', re.DOTALL)
# Before the array there may be members with plain values, such as a version or a name.
_WRAPPED = re.compile(
    rb'\s*\{(?:\s*"[^"\\]*"\s*:\s*(?:"(?:[^"\\]++|\\.)*+"|[-0-9.eE+]+|true|false|null)\s*,)*\s*"([^"\\]*)"\s*:\s*(?=\[)'
)


def _fits(path: Path, head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return path.suffix.lower() == ".json" and text[:1] in (b"[", b"{")


@container("json", fits=_fits, priority=-1)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """A JSON array of objects (.json), or an object such as {"data": [...]}; each element is parsed by itself."""
    size = path.stat().st_size
    if size > MAX_WHOLE:
        message = f"{path}: {size:,} bytes are more than the {MAX_WHOLE:,} that are read as one document"
        raise cannot_import(message, "Write it as JSON lines, which are read as a stream.")
    document = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    start = _array_start(path, document)
    line, counted = 1, 0
    # Each element is parsed by itself: a bad one costs that element, not the document.
    for begin, end, is_whole in _elements(document, start):
        line += document.count(b"\n", counted, begin)
        counted = begin
        raw = document[begin:end]
        if not is_whole:
            yield Rejected(line, "S111", "truncated-line: the file ends in the middle of this element", raw)
            continue
        try:
            value = strict_loads(raw)
        except JsonFault as fault:
            yield Rejected(line, fault.code, f"{fault.name}: {fault.message} (byte {fault.column} of the element)", raw)
            continue
        if isinstance(value, dict):
            yield SourceRow(value, line, raw)
        else:
            yield Rejected(line, "S112", "not-an-object: an element of the array is not an object", raw)


def _array_start(path: Path, document: bytes) -> int:
    """Return the offset just behind the bracket that opens the array of records."""
    begin = len(document) - len(document.lstrip())
    if document[begin : begin + 1] == b"[":
        return begin + 1
    wrapped = _WRAPPED.match(document)
    if wrapped:
        return wrapped.end() + 1
    hint = 'Records are read from [{...}, ...] or {"data": [{...}, ...]}. Write the file as JSON lines.'
    raise cannot_import(f"{path}: neither an array of objects nor an object that holds one", hint)


def _elements(document: bytes, start: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the begin, the end and the wholeness of each element of the array that opens before ``start``."""
    depth, begin = 0, start
    for token in _TOKEN.finditer(document, start):
        mark = token.group()
        if mark in (b"[", b"{"):
            depth += 1
        elif depth and mark in (b"]", b"}"):
            depth -= 1
        # A quote that opens no whole string: the file ends within a text.
        elif mark == b'"':
            break
        elif not depth and mark in (b",", b"]", b"}"):
            span = _trimmed(document, begin, token.start())
            if span[0] < span[1]:
                yield *span, True
            begin = token.end()
            if mark != b",":
                yield from _rest(document, begin)
                return
    span = _trimmed(document, begin, len(document))
    # An array that is never closed: what stands after its last whole element was cut off.
    if span[0] < span[1]:
        yield *span, False


def _rest(document: bytes, begin: int) -> Iterator[tuple[int, int, bool]]:
    """Yield what follows the array as one broken item, unless it is the end of the wrapper, so that it is reported."""
    start, end = _trimmed(document, begin, len(document))
    if start < end and not _WRAPPED.match(document):
        yield start, end, True


def _trimmed(document: bytes, begin: int, end: int) -> tuple[int, int]:
    piece = document[begin:end]
    return begin + len(piece) - len(piece.lstrip()), begin + len(piece.rstrip())
