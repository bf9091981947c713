"""The records as their lines have them, a row each; decisions do not touch them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from io import BytesIO

import numpy as np
import polars as pl

from curate.base.record import CurateError, Finding
from curate.checks.runner.table import RecordTable
from curate.checks.runner.verdict import FindingTally
from curate.project.catalog.columns import Values, labelled, labels_column, values_of
from curate.similarity.dedupe.columns import text_key

# Findings of each severity about lines that are no records; further ones are counted.
MOST_FINDINGS = 1000
TEXTS = ("prompt", "completion")


class Base:
    """Rows that do not change, of the records of a table."""

    def __init__(self, table: RecordTable) -> None:
        self.table = table
        self.ids = pl.Series("id", table.ids, pl.String)
        tally = FindingTally(MOST_FINDINGS)
        for finding in table.findings():
            tally.add(finding)
        self.counts = tally.by_code()
        """Findings about lines and files, by code."""
        self.findings: list[Finding] = tally.worst(table.file_names)
        """The first of them, at most `MOST_FINDINGS` of each severity."""

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The columns of `SCHEMA` but the texts."""
        table = self.table
        coded = {"category": table.categories, "split": table.splits}
        columns = [pl.Series(name, column.names, pl.String).gather(column.codes) for name, column in coded.items()]
        files = pl.Series("file", table.file_names, pl.String).gather(table.files)
        sources = pl.Series("source", table.sources.names, pl.String).gather(table.sources.codes)
        labels = {row: list(labelled(some, {})) for row, some in table.labels.items()}
        return pl.DataFrame(
            [
                files,
                pl.Series("line", table.lines, pl.UInt32),
                *columns,
                # Where a record names no source, its file is it.
                sources.zip_with(sources != "", files).alias("source"),
                pl.repeat(table.shape.kind, len(table), dtype=pl.String, eager=True).alias("kind"),
                pl.Series("tokens", -(-table.num_bytes // 4), pl.UInt32),
                labels_column(labels, len(table)),
            ]
        )

    def pieces(self, columns: Collection[str]) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the first row and the ``columns`` of some neighbouring rows, until all were there.

        Raises:
            CurateError: E974 when a file has changed since.
        """
        light = self.frame.select(name for name in self.frame.columns if name in columns)
        texts = [name for name in TEXTS if name in columns]
        if not texts or not len(self):
            yield 0, light.with_columns(pl.Series(name, [], pl.String) for name in texts)
            return
        for low, some in self._texts(texts):
            yield low, some.with_columns(light.slice(low, len(some)).get_columns())

    def _texts(self, names: Sequence[str]) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the first row and the texts of each block. They are kept: to take them from the lines is far dearer."""
        table = self.table
        for key, rows in table.blocks():
            entry = table.pack.get(text_key(key))
            if entry is None:
                said = table.texts(rows)
                prompts = pl.Series("prompt", [prompt or text for prompt, _, text, *_ in said], pl.String)
                texts = pl.DataFrame([prompts, pl.Series("completion", [answer for _, answer, *_ in said], pl.String)])
                buffer = BytesIO()
                texts.write_ipc(buffer)
                with suppress(OSError):
                    arrays = {"texts": np.frombuffer(buffer.getvalue(), np.uint8)}
                    table.pack.append(text_key(key), {}, arrays, np.zeros(0, np.uint64))
            else:
                texts = pl.read_ipc(entry.arrays["texts"].tobytes())
            yield rows.start, texts.select(names)

    def values(self, rows: Sequence[int]) -> list[Values]:
        """Return what a table shows of rows. Where the file of one has changed since, their texts are not known."""
        try:
            return list(map(values_of, self.table.records(rows)))
        except CurateError:
            known = self.frame[list(rows)].drop("labels").to_dicts()
            return [Values(**row, prompt="…", completion="…", labels=[]) for row in known]
