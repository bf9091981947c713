"""The registry of exporters: rows of a dataset become files that other programs read.

One file here is one format or one family of formats, found by looking at the folder; files whose name begins with an
underscore are the registry itself. What a format cannot express is never left out in silence: the row goes to
``skipped.jsonl`` with the reason, and is counted.
"""

from curate.formats.exporters._registry import (
    CannotExpressError,
    Exporter,
    ExportResult,
    ExportRow,
    RowsBySplit,
    Skipped,
    export_rows,
    exporter,
    exporters,
    write_lines,
)

__all__ = [
    "CannotExpressError",
    "ExportRow",
    "Exporter",
    "RowsBySplit",
    "Skipped",
    "ExportResult",
    "export_rows",
    "exporter",
    "exporters",
    "write_lines",
]
