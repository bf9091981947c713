"""CSV for spreadsheets, with cells that a spreadsheet would take for a formula made harmless."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from curate.base.record import Json, Split
from curate.base.storage import write_atomic
from curate.formats.exporters import (
    CannotExpressError,
    ExportResult,
    ExportRow,
    RowsBySplit,
    SkippedRows,
    converted,
    exporter,
)
from curate.formats.exporters._rows import instruction_and_input, messages_of, plain_turns
from curate.formats.spreadsheet import COLUMNS, guarded, unguarded


@exporter("csv", keeps=("id", "category", "split", "input"))
def write(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """CSV, one file a split; a cell that could be a formula gets an apostrophe. Chats and raw text stay out."""
    return _write(rows_by_split, folder, is_guarded=True)


@exporter("csv-raw", keeps=("id", "category", "split", "input"))
def write_raw(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """CSV with every cell as it is: for programs; a spreadsheet may run what stands in it."""
    return _write(rows_by_split, folder, is_guarded=False)


def _write(rows_by_split: RowsBySplit, folder: Path, *, is_guarded: bool) -> ExportResult:
    skipped = SkippedRows(folder)
    num_rows = num_guarded = num_alike = 0

    def lines(split: Split, rows: Iterable[ExportRow]) -> Iterator[bytes]:
        nonlocal num_rows, num_guarded, num_alike
        writer = csv.DictWriter(_LineEncoder(), COLUMNS, lineterminator="\r\n")
        yield writer.writeheader()
        for cells in converted(rows, split, _cells, skipped):
            safe = {name: guarded(cell) for name, cell in cells.items()} if is_guarded else cells
            num_guarded += sum(safe[name] != cells[name] for name in COLUMNS)
            # A cell that looks guarded by chance would lose its apostrophe on the way back.
            num_alike += 0 if is_guarded else sum(unguarded(cells[name]) != cells[name] for name in COLUMNS)
            num_rows += 1
            yield writer.writerow(safe)

    paths = [folder / f"{split}.csv" for split in rows_by_split]
    for path, (split, rows) in zip(paths, rows_by_split.items(), strict=True):
        write_atomic(path, lines(split, rows))
    notes = []
    if num_alike:
        notes.append(
            f"{num_alike:,} cells begin with an apostrophe as the format csv writes it, and `curate import` removes it."
        )
    if num_guarded:
        notes.append(
            f"{num_guarded:,} cells that a spreadsheet could run begin with an apostrophe that is not data. "
            "`curate import` removes it."
        )
        path = folder / "NOTE.txt"
        write_atomic(path, [notes[0].encode(), b" The format csv-raw writes them as they are.\n"])
        paths.append(path)
    return ExportResult(paths, num_rows, skipped, notes)


class _LineEncoder:
    """What a CSV writer writes to: each line is handed back by the call that made it."""

    def write(self, text: str) -> bytes:
        return text.encode()


def _cells(row: ExportRow) -> dict[str, str]:
    system, turns = plain_turns(messages_of(row))
    if len(turns) > 1 or row["tools"]:
        raise CannotExpressError("a table row holds one question and one answer, without tools")
    instruction, entry = instruction_and_input(row, turns[0][0])
    texts = {"system": system, "instruction": instruction, "input": entry, "output": turns[0][1]}
    return {"id": row["id"], "category": row["category"]} | texts
