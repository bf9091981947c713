"""CSV for spreadsheets, with cells that a spreadsheet would take for a formula made harmless."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from curate.exporters import CannotExpressError, ExportRow, RowsBySplit, Skipped, Written, exporter
from curate.exporters._shelf import converted
from curate.exporters._turns import instruction_and_input, messages_of, plain_turns
from curate.record import Json
from curate.store import write_atomic

COLUMNS = ("id", "category", "system", "instruction", "input", "output")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")
_STARTS = frozenset("=+-@\t\r\n＝＋－＠﹦﹢﹣﹫−")
_SKIPPED = re.compile(r"[\s\"\u0000-\u001f\u007f\u200b-\u200f\u2060\ufeff]*")


@exporter("csv")
def write(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> Written:
    """CSV, one file a split; a cell that could be a formula gets an apostrophe. Chats and raw text stay out."""
    return _write(rows_by_split, folder, is_guarded=True)


@exporter("csv-raw")
def write_raw(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> Written:
    """CSV with every cell as it is: for programs; a spreadsheet may run what stands in it."""
    return _write(rows_by_split, folder, is_guarded=False)


def guarded(cell: str) -> str:
    """Return ``cell`` behind an apostrophe when a spreadsheet could take it for a formula (OWASP: CSV injection).

    That is a cell which begins, after blanks, control characters and double quotes, with = + - @ or another form of
    them, or which begins with a tab or a line break; a plain number is left as it is.
    """
    inner = _SKIPPED.sub("", cell, count=1)
    if (cell[:1] in _STARTS or inner[:1] in _STARTS) and cell and not _NUMBER.fullmatch(cell.strip()):
        return "'" + cell
    return cell


def _write(rows_by_split: RowsBySplit, folder: Path, *, is_guarded: bool) -> Written:
    paths: list[Path] = []
    skipped: list[Skipped] = []
    num_rows = num_guarded = 0
    for split, rows in rows_by_split.items():
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\r\n")
        writer.writeheader()
        for cells in converted(rows, split, _cells, skipped):
            safe = {name: guarded(cell) for name, cell in cells.items()} if is_guarded else cells
            num_guarded += sum(safe[name] != cells[name] for name in COLUMNS)
            num_rows += 1
            writer.writerow(safe)
        path = folder / f"{split}.csv"
        write_atomic(path, [buffer.getvalue().encode()])
        paths.append(path)
    notes = []
    if num_guarded:
        notes.append(
            f"{num_guarded:,} cells that a spreadsheet could run begin with an apostrophe that is not part of the data."
        )
        path = folder / "NOTE.txt"
        write_atomic(path, [notes[0].encode(), b" The format csv-raw writes them as they are.\n"])
        paths.append(path)
    return Written(paths, num_rows, skipped, notes)


def _cells(row: ExportRow) -> dict[str, str]:
    system, turns = plain_turns(messages_of(row))
    if len(turns) > 1 or row["tools"]:
        raise CannotExpressError("a table row holds one question and one answer, without tools")
    instruction, entry = instruction_and_input(row, turns[0][0])
    texts = {"system": system, "instruction": instruction, "input": entry, "output": turns[0][1]}
    return {"id": row["id"], "category": row["category"]} | texts
