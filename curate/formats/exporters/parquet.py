"""Parquet files, one a split, with explicit types."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from curate.base.record import Json
from curate.base.storage import write_atomic
from curate.formats.exporters import ExportResult, RowsBySplit, exporter
from curate.formats.exporters._rows import NUMBERS, TEXTS, columns_of


@exporter("parquet", keeps=None)
def write(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
    """Parquet: one file a split; messages are typed, tools and the workspace's own line are JSON text."""
    # polars takes longer to import than all of the command line.
    import polars

    text = polars.String()
    function = polars.Struct({"name": text, "arguments": text})
    call = polars.Struct({"id": text, "type": text, "function": function})
    number = polars.Float64()
    message = polars.Struct(
        {
            "role": text, "content": text, "name": text, "tool_call_id": text, "train": polars.Boolean(),
            "weight": number, "tool_calls": polars.List(call),
        }
    )  # fmt: skip
    schema: dict[str, polars.DataType] = dict.fromkeys(TEXTS, text) | dict.fromkeys(NUMBERS, number)
    schema |= {"messages": polars.List(message)}
    paths, num_rows = [], 0
    for split, rows in rows_by_split.items():
        frame = polars.DataFrame([columns_of(row) for row in rows], schema=schema, orient="row")
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        path = folder / f"{split}.parquet"
        write_atomic(path, [buffer.getvalue()])
        paths.append(path)
        num_rows += frame.height
    return ExportResult(paths, num_rows)
