"""CSV for spreadsheets, with cells that a spreadsheet would take for a formula made harmless."""

from __future__ import annotations

import csv
from pathlib import Path

from curate.base.storage import write_atomic
from curate.formats.exporters import CannotExpressError, ExportRow, ExportRun, Line, exporter, write_files
from curate.formats.exporters._rows import instruction_and_input, messages_of, plain_turns
from curate.formats.spreadsheet import COLUMNS, guarded


def _write(export: ExportRun) -> list[Path]:
    num_guarded = 0
    writer = csv.DictWriter(_LineEncoder(), COLUMNS, lineterminator="\r\n")

    def spell(cells: Line) -> bytes:
        nonlocal num_guarded
        safe = {name: guarded(cell) for name, cell in cells.items()}
        num_guarded += sum(safe[name] != cells[name] for name in COLUMNS)
        line: bytes = writer.writerow(safe)
        return line

    paths = write_files(export, ("{}.csv", "{}.csv"), spell, begin=writer.writeheader())
    if num_guarded:
        note = (
            f"{num_guarded:,} cells that a spreadsheet could run begin with an apostrophe that is not data. "
            "`curate import` removes it."
        )
        export.notes.append(note)
        paths.append(export.folder / "NOTE.txt")
        write_atomic(paths[-1], [note.encode(), b"\n"])
    return paths


class _LineEncoder:
    """What a CSV writer writes to: each line is handed back by the call that made it."""

    def write(self, text: str) -> bytes:
        return text.encode()


@exporter("csv", write=_write, keeps=("id", "category", "split", "input"))
def _cells(row: ExportRow) -> dict[str, str]:
    """CSV, one file a split; a cell that could be a formula gets an apostrophe. Chats and raw text stay out."""
    system, turns = plain_turns(messages_of(row))
    if len(turns) > 1 or row["tools"]:
        raise CannotExpressError("a table row holds one question and one answer, without tools")
    instruction, entry = instruction_and_input(row, turns[0][0])
    texts = {"system": system, "instruction": instruction, "input": entry, "output": turns[0][1]}
    return {"id": row["id"], "category": row["category"]} | texts
