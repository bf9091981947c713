"""A JSON document: an array of objects, or an object with such arrays, one for each split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

from curate.formats.importers import Rejected, SourceRow, cannot_import, container
from curate.formats.importers._reading import split_of
from curate.jsonl import JsonFault, strict_loads

# The largest document, in bytes, that is read as one piece; JSON lines and CSV stream and have no such limit.
MAX_WHOLE = 512 * 1024 * 1024
# What an element that is a pair of texts holds, as in the sets of intents that CLINC150 is a model of.
_PAIR = ("text", "intent")
# Strings are passed over whole, so that a bracket in a text is none; possessively, as in `curate.jsonl.strict`.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]|"', re.DOTALL)
# Before, between and behind arrays there may be members with plain values, such as a version or a name.
_PLAIN = rb'\s*"[^"\\]*"\s*:\s*(?:"(?:[^"\\]++|\\.)*+"|[-0-9.eE+]+|true|false|null)\s*'
_FIRST = re.compile(rb"\s*\{(?:" + _PLAIN + rb',)*\s*"([^"\\]*)"\s*:\s*\[')
_NEXT = re.compile(rb"(?:\s*," + _PLAIN + rb')*\s*,\s*"([^"\\]*)"\s*:\s*\[')
_LAST = re.compile(rb"(?:\s*," + _PLAIN + rb")*\s*\}\s*")


# What the arrays of a document are called, beside the names of splits.
_WRAPPERS = frozenset({b"data", b"rows", b"records", b"examples", b"items", b"samples", b"instances", b"questions"})


def is_document(path: Path, head: bytes) -> bool:
    """Whether a file is one JSON document, by its name and its first bytes."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if path.suffix.lower() != ".json" or not text.startswith((b"[", b"{")):
        return False
    # A document spread over lines begins with a brace alone on its line; JSON lines begin with a whole object. One line
    # may be either.
    first, _, rest = text.partition(b"\n")
    if text.startswith(b"[") or first.rstrip() == b"{":
        return True
    array = _FIRST.match(first)
    if array is None or first[array.end() :].lstrip()[:1] not in (b"{", b"["):
        return False
    marks = Counter(token.group() for token in _TOKEN.finditer(first))
    if rest.lstrip().startswith(b"{") and marks[b"{"] == marks[b"}"]:
        return False
    return array[1] in _WRAPPERS or bool(split_of(array[1].decode("utf-8", "replace")))


@container("json", fits=is_document, priority=1)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """A JSON array of objects (.json), or an object of such arrays, as {"data": [...]} or one for each split."""
    size = path.stat().st_size
    if size > MAX_WHOLE:
        message = f"{path}: {size:,} bytes are more than the {MAX_WHOLE:,} that are read as one document"
        raise cannot_import(message, "Write it as JSON lines, which are read as a stream.")
    document = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    line, counted = 1, 0
    # Each element is parsed by itself: a bad one costs that element, not the document.
    for name, begin, end, is_whole in _elements(path, document):
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
        if isinstance(value, list) and len(value) == len(_PAIR) and all(isinstance(part, str) for part in value):
            value = dict(zip(_PAIR, value, strict=True))
        if isinstance(value, dict):
            yield SourceRow(value, line, raw, split_of(name))
        else:
            yield Rejected(line, "S112", "not-an-object: an element of the array is not an object", raw)


def _elements(path: Path, document: bytes) -> Iterator[tuple[str, int, int, bool]]:
    """Yield the begin, the end and the wholeness of each element of each array, with the name of that array."""
    begin = len(document) - len(document.lstrip())
    if document[begin : begin + 1] == b"[":
        end = yield from _elements_of(document, begin + 1, "")
        yield from _rest(document, end)
        return
    array = _FIRST.match(document)
    if not array:
        hint = 'Records are read from [{...}, ...] or {"data": [{...}, ...]}. Write the file as JSON lines.'
        raise cannot_import(f"{path}: neither an array of objects nor an object that holds one", hint)
    end = 0
    while array:
        end = yield from _elements_of(document, array.end(), array[1].decode("utf-8", "replace"))
        array = _NEXT.match(document, end)
    if not _LAST.fullmatch(document, end):
        yield from _rest(document, end)


def _elements_of(document: bytes, start: int, name: str) -> Generator[tuple[str, int, int, bool], None, int]:
    """Yield the elements of the array that opens before ``start``, and return where it ends."""
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
                yield name, *span, True
            begin = token.end()
            if mark != b",":
                return begin
    span = _trimmed(document, begin, len(document))
    # An array that is never closed: what stands after its last whole element was cut off.
    if span[0] < span[1]:
        yield name, *span, False
    return len(document)


def _rest(document: bytes, begin: int) -> Iterator[tuple[str, int, int, bool]]:
    """Yield what follows the arrays as one broken item, so that it is reported."""
    start, end = _trimmed(document, begin, len(document))
    if start < end:
        yield "", start, end, True


def _trimmed(document: bytes, begin: int, end: int) -> tuple[int, int]:
    piece = document[begin:end]
    return begin + len(piece) - len(piece.lstrip()), begin + len(piece.rstrip())
