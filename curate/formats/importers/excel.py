"""Tables of Excel (extra ``files``), a row at a time; a formula is what it came to when the table was saved."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from curate.base.record import missing_extra
from curate.formats.importers import Rejected, SourceRow, cannot_import, container, jsonable
from curate.formats.importers.packed import ALWAYS_ALLOWED, MAX_RATIO
from curate.formats.importers.tabular import TableHeader, read_header

Cells = Sequence[Any]
# What a formula comes to that cannot be worked out.
_ERRORS = ("#REF!", "#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#VALUE!")


class _Lost(str):
    """A formula of which no value is stored."""


class _FormulaSheet(NamedTuple):
    """A sheet, once with what its formulas came to, once with the formulas."""

    title: str
    values: Any
    formulas: Any


def _fits(path: Path, head: bytes) -> bool:
    return path.suffix.lower() in (".xlsx", ".xlsm") and head.startswith(b"PK\x03\x04")


def _notices(path: Path) -> Sequence[str]:
    with _sheets(path) as filled:
        if not filled:
            return ()
        header = _header_of(path, filled[0])
        said = [f"sheet {filled[0].title!r}", *header.notices] if len(filled) > 1 else list(header.notices)
        for sheet in filled[1:]:
            num_rows = sum(1 for _ in _records(sheet))
            said.append(f"sheet {sheet.title!r} ({num_rows:,} rows) is left out; save it as a file of its own")
        return said


def _layout(path: Path) -> str:
    with _sheets(path) as filled:
        if not filled:
            return ""
        return f"sheet {filled[0].title!r} and {'a' if _header_of(path, filled[0]).is_named else 'no'} header"


@container("excel", fits=_fits, priority=4, notices=_notices, unpacks=("zip",), layout=_layout)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Excel tables (.xlsx): the first sheet that holds anything; the line number of a row is its number there."""
    with _sheets(path) as filled:
        if not filled:
            return
        sheet, header = filled[0], _header_of(path, filled[0])
        for number, cells in islice(_records(sheet), int(header.is_named), None):
            values = {
                name if name is not None else f"column_{index + 1}": value
                for index, (name, value) in enumerate(zip_longest(header.names, cells))
                if value is not None
            }
            lost = next((name for name, value in values.items() if isinstance(value, _Lost) or value in _ERRORS), None)
            if lost is None:
                yield jsonable(values, number)
            else:
                reason = f"{lost!r} is {values[lost]}, of which no value is stored; save the table in Excel again"
                yield Rejected(number, "S101", reason, repr(values).encode(errors="backslashreplace"))


@contextmanager
def _sheets(path: Path) -> Iterator[Sequence[_FormulaSheet]]:
    """Yield the sheets of a workbook that hold anything.

    Raises:
        CurateError: E908 when it cannot be read or unpacks to too much; E940 without openpyxl.
    """
    # polars reads sheets by calamine, which makes room for all cells up to the last one: two cells far apart end the
    # whole process.
    try:
        import openpyxl
    except ImportError as error:
        raise missing_extra(f"{path}: reading Excel tables", "files", otherwise="save the table as CSV") from error
    try:
        with zipfile.ZipFile(path) as archive:
            size, allowed = sum(info.file_size for info in archive.infolist()), path.stat().st_size * MAX_RATIO
        if size > max(ALWAYS_ALLOWED, allowed):
            raise cannot_import(f"{path}: it unpacks to {size:,} bytes", "Save the table as CSV and import that.")
        load = partial(openpyxl.load_workbook, path, read_only=True)
        with closing(load(data_only=True)) as book, closing(load()) as formulas:
            sheets = [
                _FormulaSheet(sheet.title, sheet, said)
                for sheet, said in zip(book.worksheets, formulas.worksheets, strict=True)
            ]
            for sheet in (*book.worksheets, *formulas.worksheets):
                # Where it says that the cells end is often wrong.
                sheet.reset_dimensions()
            yield [sheet for sheet in sheets if next(_records(sheet), None)]
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, zipfile.BadZipFile) as error:
        # SyntaxError is the base of what is raised for broken XML.
        raise cannot_import(f"{path}: it cannot be read as a table of Excel: {error}", "Save it as CSV.") from error


def _records(sheet: _FormulaSheet) -> Iterator[tuple[int, Cells]]:
    """Yield the number and the cells of each row that is not blank, up to the last cell that is not."""
    both = zip(sheet.values.iter_rows(values_only=True), sheet.formulas.iter_rows(values_only=True), strict=False)
    for number, pair in enumerate(both, start=1):
        cells = [
            _Lost(said) if value is None and said is not None else value for value, said in zip(*pair, strict=False)
        ]
        width = len(cells)
        while width and (cells[width - 1] is None or cells[width - 1] == ""):
            width -= 1
        if width:
            yield number, cells[:width]


def _header_of(path: Path, sheet: _FormulaSheet) -> TableHeader:
    _, first = next(_records(sheet))
    return read_header(path, _texts(first), lambda: (_texts(cells) for _, cells in _records(sheet)))


def _texts(cells: Cells) -> list[str]:
    return ["" if cell is None else str(cell) for cell in cells]
