"""JSON lines, read by the strict parser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from curate.formats.importers import Rejected, SourceRow, container
from curate.jsonl import Entry, read_entries


def _fits(path: Path, head: bytes) -> bool:
    # What is one document is read as that.
    is_object = head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return path.suffix.lower() in (".jsonl", ".ndjson") or (path.suffix.lower() == ".json" and is_object)


@container("jsonl", fits=_fits)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
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
