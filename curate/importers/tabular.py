"""CSV and TSV: strict, streaming, in UTF-8; a broken row costs that row only."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from curate.importers import Rejected, Row, container
from curate.importers._bytes import head_of
from curate.importers._fields import split_of
from curate.record import UNCATEGORISED, CurateError
from curate.spreadsheet import COLUMNS, unguarded

MAX_CELL = 16 * 1024 * 1024
"""The largest cell, in characters."""

_NAME = re.compile(r"[^\W\d][\w .\-/()]{0,63}")


class _Lines:
    """The physical lines of a file as text, with the bytes of those that the CSV reader took since the last record.

    Bytes that are not UTF-8 become lone surrogates here, so that the reader goes on and the record is told afterwards.
    """

    def __init__(self, path: Path) -> None:
        self._handle = path.open("rb")
        self.taken: list[bytes] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        with self._handle:
            for raw in self._handle:
                clean = raw.removeprefix(b"\xef\xbb\xbf") if not self.number else raw
                self.number += 1
                self.taken.append(clean)
                yield clean.decode("utf-8", "surrogateescape")


def _fits(path: Path, _head: bytes) -> bool:
    return path.suffix.lower() in (".csv", ".tsv", ".tab")


@container("table", fits=_fits)
def rows(path: Path) -> Iterator[Row | Rejected]:
    """CSV and TSV with or without a header; every row has as many cells as the first."""
    dialect = _dialect(path)
    header: list[str] = []
    is_own = False
    for line, cells, raw, fault in _records(path, *dialect):
        if fault:
            yield Rejected(line, "S103" if "UTF-8" in fault else "S101", fault, raw)
        elif not header:
            has_names = all(_NAME.fullmatch(cell) for cell in cells) and len(set(cells)) == len(cells)
            is_own = tuple(cells) == COLUMNS
            header = cells if has_names else [f"column_{number}" for number in range(1, len(cells) + 1)]
            if not has_names:
                yield _row(path, header, cells, line, raw)
        elif len(cells) != len(header):
            yield Rejected(line, "S101", f"the row has {len(cells)} cells, the first has {len(header)}", raw)
        elif is_own:
            yield _own_row(path, cells, line, raw)
        else:
            yield _row(path, header, cells, line, raw)


def _own_row(path: Path, cells: list[str], line: int, raw: bytes) -> Row:
    """Return a row of a file that `curate export --to csv` wrote, without the marks that it put into the cells."""
    values = {name: unguarded(cell) for name, cell in zip(COLUMNS, cells, strict=True)}
    if values["category"] == UNCATEGORISED:
        values["category"] = ""
    needed = ("instruction", "output")
    return Row({k: v for k, v in values.items() if v or k in needed}, line, raw, split_of(path.stem))


def _row(path: Path, header: list[str], cells: list[str], line: int, raw: bytes) -> Row:
    if len(header) > 1000:
        raise CurateError(
            "E908 cannot-import", f"{path}: {len(header):,} columns are more than 1,000", "Is the separator right?"
        )
    return Row(dict(zip(header, cells, strict=True)), line, raw)


def _records(path: Path, delimiter: str, quoting: int) -> Iterator[tuple[int, list[str], bytes, str]]:
    """Yield the first line, the cells, the bytes and the fault (or "") of each record; blank lines are passed over."""
    lines = _Lines(path)
    old_limit = csv.field_size_limit(MAX_CELL)
    reader = csv.reader(iter(lines), delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
    try:
        while True:
            lines.taken.clear()
            begin, fault, cells = lines.number + 1, "", []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fault = f"not CSV: {error}"
            raw = b"".join(lines.taken)
            if not raw.strip():
                continue
            yield begin, cells, raw.rstrip(b"\r\n"), _byte_fault(raw) or fault
    finally:
        csv.field_size_limit(old_limit)


def _byte_fault(raw: bytes) -> str:
    if b"\x00" in raw:
        return "the row holds a NUL byte"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"byte 0x{raw[error.start]:02X} at position {error.start + 1} of the row is not UTF-8"
    return ""


def _dialect(path: Path) -> tuple[str, int]:
    """Return the separator and the quoting: of a TSV, whichever quoting leaves fewer broken rows."""
    if path.suffix.lower() == ".csv":
        first = head_of(path).partition(b"\n")[0]
        return (
            ";" if b"," not in first and b";" in first else "\t" if b"," not in first and b"\t" in first else ","
        ), csv.QUOTE_MINIMAL
    broken = {quoting: _count_broken(path, quoting) for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE)}
    return "\t", min(broken, key=lambda quoting: broken[quoting])


def _count_broken(path: Path, quoting: int) -> int:
    width, broken = 0, 0
    for _line, cells, _raw, fault in _records(path, "\t", quoting):
        width = width or len(cells)
        broken += bool(fault) or len(cells) != width
    return broken
