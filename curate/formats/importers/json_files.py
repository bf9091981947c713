"""JSON lines, and JSON documents: an array of objects, an object of such arrays, one for each split, or of objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from curate.base.tables import listed
from curate.formats.importers import Rejected, SourceRow, cannot_import, container
from curate.formats.importers._reading import split_of
from curate.jsonl import Entry, JsonFault, read_entries, strict_loads

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
# The key of a member, and the brace of one that is an object itself.
_MEMBER = re.compile(rb'\s*"((?:[^"\\]++|\\.)*+)"\s*:\s*(\{?)', re.DOTALL)
_END = re.compile(rb"[\s,]*\}")
_OBJECTS = re.compile(rb"\s*\{" + _MEMBER.pattern + rb"(?<=\{)", re.DOTALL)


# What the arrays of a document are called, beside the names of splits.
_WRAPPERS = frozenset({b"data", b"rows", b"records", b"examples", b"items", b"samples", b"instances", b"questions"})


def _fits(path: Path, head: bytes) -> bool:
    """Whether a file is one JSON document, by its name and its first bytes."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if path.suffix.lower() != ".json" or not text.startswith((b"[", b"{")):
        return False
    # A document spread over lines begins with a brace alone on its line; JSON lines begin with a whole object. One line
    # may be either.
    first, _, rest = text.partition(b"\n")
    if text.startswith(b"[") or first.rstrip() == b"{":
        return True
    marks = Counter(token.group() for token in _TOKEN.finditer(first))
    is_row = marks[b"{"] == marks[b"}"]
    if _OBJECTS.match(first):
        if rest.strip() or path.stat().st_size > MAX_WHOLE:
            return not is_row
        # The first line goes on, or is all there is; that may be one row which begins with an object, too.
        records, _ = _objects(_document(path))
        return bool(records and records[-1].key)
    array = _FIRST.match(first)
    if array is None or first[array.end() :].lstrip()[:1] not in (b"{", b"["):
        return False
    if rest.lstrip().startswith(b"{") and is_row:
        return False
    return array[1] in _WRAPPERS or bool(split_of(array[1].decode("utf-8", "replace")))


def _notices(path: Path) -> Sequence[str]:
    document = _document(path).lstrip()
    if document.startswith(b"[") or _FIRST.match(document):
        return ()
    how, others = "one record for each member of the object", _objects(document)[1]
    return [f"{how}; left out, since it holds none: {listed(others)}" if others else how]


def _document(path: Path) -> bytes:
    size = path.stat().st_size
    if size > MAX_WHOLE:
        message = f"{path}: {size:,} bytes are more than the {MAX_WHOLE:,} that are read as one document"
        raise cannot_import(message, "Write it as JSON lines, which are read as a stream.")
    return path.read_bytes().removeprefix(b"\xef\xbb\xbf")


class _Element(NamedTuple):
    """Where an element begins and ends, what its array is called, and whether it is whole.

    A member of an object of objects begins with its ``key``: "id" where the keys name the records, else "count".
    """

    name: str
    begin: int
    end: int
    is_whole: bool
    key: str = ""


@container("json", fits=_fits, priority=1, notices=_notices)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """A JSON array of objects (.json), or an object of such arrays, as {"data": [...]} or one for each split.

    An object of objects is read as well; its keys are the ids, unless they only count.
    """
    document = _document(path)
    line, counted = 1, 0
    # Each element is parsed by itself: a bad one costs that element, not the document.
    for name, begin, end, is_whole, key in _elements(path, document):
        line += document.count(b"\n", counted, begin)
        counted = begin
        raw = document[begin:end]
        if not is_whole:
            yield Rejected(line, "S111", "truncated-line: the file ends in the middle of this element", raw)
            continue
        try:
            value = strict_loads(b"{%s}" % raw if key else raw)
        except JsonFault as fault:
            column = fault.column - bool(key)
            yield Rejected(line, fault.code, f"{fault.name}: {fault.message} (byte {column} of the element)", raw)
            continue
        if key:
            ((member, value),) = value.items()
            if key == "id" and value.get("id") != member:
                value = {"key" if "id" in value else "id": member} | value
        if isinstance(value, list) and len(value) == len(_PAIR) and all(isinstance(part, str) for part in value):
            value = dict(zip(_PAIR, value, strict=True))
        if isinstance(value, dict):
            yield SourceRow(value, line, raw, split_of(name))
        else:
            yield Rejected(line, "S112", "not-an-object: an element of the array is not an object", raw)


def _elements(path: Path, document: bytes) -> Iterator[_Element]:
    """Yield the elements of each array, or the members of an object of objects."""
    begin = len(document) - len(document.lstrip())
    if document[begin : begin + 1] == b"[":
        end = yield from _elements_of(document, begin + 1, "")
        yield from _rest(document, end)
        return
    array = _FIRST.match(document)
    if not array:
        if not (records := _objects(document)[0]):
            hint = 'Records are read from [{...}, ...], {"data": [{...}, ...]} and {"ID": {...}, ...}.'
            raise cannot_import(f"{path}: neither an array of objects nor an object that holds such", hint)
        yield from records
        return
    end = 0
    while array:
        end = yield from _elements_of(document, array.end(), array[1].decode("utf-8", "replace"))
        array = _NEXT.match(document, end)
    if not _LAST.fullmatch(document, end):
        yield from _rest(document, end)


def _objects(document: bytes) -> tuple[list[_Element], list[str]]:
    """Return the records of an object of objects, none of what is no such object, and the names of what else it holds.

    They may lie one object deeper, which is called like arrays of records are.
    """
    members = list(_elements_of(document, document.find(b"{") + 1, ""))
    records, others = list[_Element](), list[str]()
    for member in members:
        start = _MEMBER.match(document, member.begin, member.end)
        name = start[1].decode("utf-8", "replace") if start else ""
        if start and start[2] and (start[1] in _WRAPPERS or split_of(name)):
            inner = list(_elements_of(document, start.end(), name))
            if _are_objects(document, inner):
                records += inner
                continue
        others.append(name)
    if not records and _are_objects(document, members):
        records, others = members, []
    keys = [start[1] for one in records if (start := _MEMBER.match(document, one.begin))]
    is_count = any(keys == [b"%d" % (n + first) for n in range(len(keys))] for first in (0, 1))
    records = [one._replace(key="count" if is_count else "id") for one in records]
    end = _END.match(document, members[-1].end) if records else None
    return [*records, *(_rest(document, end.end()) if end else ())], others


def _are_objects(document: bytes, members: Sequence[_Element]) -> bool:
    starts = [_MEMBER.match(document, one.begin, one.end) for one in members if one.is_whole]
    return bool(starts) and all(start and start[2] for start in starts)


def _elements_of(document: bytes, start: int, name: str) -> Generator[_Element, None, int]:
    """Yield the elements of the array or object that opens before ``start``, and return where it ends."""
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
                yield _Element(name, *span, is_whole=True)
            begin = token.end()
            if mark != b",":
                return begin
    span = _trimmed(document, begin, len(document))
    # An array that is never closed: what stands after its last whole element was cut off.
    if span[0] < span[1]:
        yield _Element(name, *span, is_whole=False)
    return len(document)


def _rest(document: bytes, begin: int) -> Iterator[_Element]:
    """Yield what follows the arrays as one broken item, so that it is reported."""
    start, end = _trimmed(document, begin, len(document))
    if start < end:
        yield _Element("", start, end, is_whole=True)


def _trimmed(document: bytes, begin: int, end: int) -> tuple[int, int]:
    piece = document[begin:end]
    return begin + len(piece) - len(piece.lstrip()), begin + len(piece.rstrip())


def _fits_lines(path: Path, head: bytes) -> bool:
    # What is one document is read as that.
    is_object = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return path.suffix.lower() in (".jsonl", ".ndjson") or (path.suffix.lower() == ".json" and is_object)


@container("jsonl", fits=_fits_lines)
def line_rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """JSON lines (.jsonl, .ndjson): one object a line, read as strictly as `curate validate` reads."""
    faults: dict[int, tuple[str, str]] = {}
    # The user named this file, so that a link is followed wherever it leads.
    for entry in read_entries(path.resolve(), name=str(path)):
        if isinstance(entry, Entry):
            yield SourceRow(entry.value, entry.line.source.line, entry.line.raw)
        elif entry.severity == "error":
            faults.setdefault(entry.line, (entry.code, f"{entry.name}: {entry.message}"))
    if faults:
        yield from _rejected(path, faults)


def _rejected(path: Path, faults: dict[int, tuple[str, str]]) -> Iterator[Rejected]:
    """Yield the faulty lines with their bytes, which a second reading of the file fetches."""
    if 0 in faults:
        code, reason = faults.pop(0)
        yield Rejected(0, code, reason, b"")
    with path.open("rb") as handle:
        for number, raw in enumerate(handle, start=1):
            if number in faults:
                code, reason = faults.pop(number)
                yield Rejected(number, code, reason, raw.removesuffix(b"\n"))
    for number, (code, reason) in sorted(faults.items()):
        yield Rejected(number, code, reason, b"")
