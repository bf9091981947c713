"""Parquet files, one a split, with explicit types."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from glob import escape
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from curate.base.record import TRACES, Json
from curate.base.storage import Scratch
from curate.formats.exporters import ExportRow, ExportRun, exporter
from curate.formats.exporters._rows import NUMBERS, TEXTS, columns_of, conversations_in

if TYPE_CHECKING:
    from polars import DataType

_BATCH = 10_000
# Rows of a row group: the size that DuckDB and polars choose.
_GROUP = 122_880


def write_parquet(export: ExportRun, name: str = "{}.parquet") -> list[Path]:
    """Write a file for each split, called ``name``, in which {} is the split, and return the files."""
    # polars takes longer to import than all of the command line.
    import polars

    text = polars.String()
    function = polars.Struct({"name": text, "arguments": text})
    call = polars.Struct({"id": text, "type": text, "function": function})
    number = polars.Float64()
    message = polars.Struct(
        {
            "role": text, "content": text, TRACES[0]: text, "name": text, "tool_call_id": text,
            "train": polars.Boolean(), "weight": number, "tool_calls": polars.List(call),
        }
    )  # fmt: skip
    schema: dict[str, polars.DataType] = dict.fromkeys(TEXTS, text) | dict.fromkeys(NUMBERS, number)
    schema |= dict.fromkeys(conversations_in(export.rows_by_split), polars.List(message))
    return export.write_each(name, lambda split: [_parquet(export.lines(split), schema, export.folder / f".{split}")])


@exporter("parquet", write=write_parquet, keeps=None, takes_answers=True)
def convert(row: ExportRow) -> Mapping[str, Json]:
    """Parquet: one file a split; messages are typed, tools and the workspace's own line are JSON text.

    Preferences are there as whole conversations, chosen and rejected.
    """
    return columns_of(row)


def _parquet(rows: Iterator[Mapping[str, Json]], schema: Mapping[str, DataType], path: Path) -> bytes:
    """Return ``rows`` as the bytes of a Parquet file; what they take in memory until then lies below ``path``."""
    import polars

    # As Python objects a million rows take gigabytes; polars itself goes through the frames of a folder group by group.
    scratch = Scratch(path)
    try:
        for number in count():
            batch = list(islice(rows, _BATCH))
            # One frame without a row holds the types of a split that has none.
            if batch or not number:
                frame, buffer = polars.DataFrame(batch, schema=schema, orient="row"), io.BytesIO()
                frame.write_ipc(buffer)
                scratch.append(f"{number:08}.arrow", buffer.getvalue())
            if len(batch) < _BATCH:
                break
        # Names are taken for patterns, and those that fit come in order.
        frames = polars.scan_ipc(f"{escape(str(scratch.path('')))}/*.arrow")
        buffer = io.BytesIO()
        frames.sink_parquet(buffer, row_group_size=_GROUP)
        return buffer.getvalue()
    finally:
        scratch.discard()
