"""The records as their lines have them, a row each; decisions do not touch them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import compress

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.base.hashing import Indices
from curate.base.record import CurateError, Finding
from curate.checks.runner.table import RecordTable
from curate.checks.runner.verdict import FindingTally, reading_order
from curate.project.catalog.columns import TEXTS, Values, labelled, labels_column, values_of

# Findings of each severity about lines that are no records; further ones are counted.
MOST_FINDINGS = 1000
# Bytes that no block has.
_WHOLE_BLOCK = 1 << 40
_MOSTLY = 0.5


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
        self.findings: list[Finding] = reading_order(tally.worst(), table.file_names)
        """The first of them, at most `MOST_FINDINGS` of each severity."""

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The columns of `SCHEMA` but the texts."""
        table = self.table
        files = pl.Series("file", table.file_names, pl.String).gather(table.files)
        labels = {row: list(labelled(some, {})) for row, some in table.labels.items()}
        return pl.DataFrame(
            [
                files,
                pl.Series("line", table.lines, pl.UInt32),
                table.categories,
                table.splits,
                # Where a record names no source, its file is it.
                table.sources.zip_with(table.sources != "", files).alias("source"),
                pl.repeat(table.shape.kind, len(table), dtype=pl.String, eager=True).alias("kind"),
                pl.Series("tokens", -(-table.num_bytes // 4), pl.UInt32),
                labels_column(labels, len(table)),
                # Only decisions tell.
                pl.repeat("", len(table), dtype=pl.String, eager=True).alias("machine"),
            ]
        )

    def pieces(self, columns: Collection[str], rows: Indices | None = None) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the ``columns`` of some neighbours among ``rows``, which ascend, and where among them they begin.

        By default these are all rows.

        Raises:
            CurateError: E974 when a file has changed since.
        """
        light = self.frame if rows is None else self.frame[rows]
        rows = np.arange(len(self)) if rows is None else rows
        light = light.select(name for name in light.columns if name in columns)
        names = [name for name in TEXTS if name in columns]
        if not names or not len(rows):
            yield 0, light.with_columns(pl.Series(name, [], pl.String) for name in names)
            return
        low = 0
        for some, whole in self.table.spans(rows, gap=_WHOLE_BLOCK):
            texts = self._texts(some, self.table.lines_in(some, whole)).select(names)
            yield low, texts.with_columns(light.slice(low, len(some)).get_columns())
            low += len(some)

    def matching(self, rows: Indices, is_match: pl.Expr, pattern: str) -> Indices:
        """Return those of ``rows``, which ascend, whose texts are a match.

        ``pattern`` is an expression that the line of each match has; "" is in all of them.

        Raises:
            CurateError: E974 when a file has changed since.
        """
        # To parse lines takes several times as long as to search them, unless most have it; and to search them one by
        # one twice as long as all at once, unless some have it. What is so in one block is so in the next.
        matches, share = [rows[:0]], 0.0
        for some, whole in self.table.spans(rows, gap=_WHOLE_BLOCK):
            # What lies between the lines may be no text.
            if pattern and not share and not _have(pattern, [whole.decode(errors="replace")]).any():
                continue
            lines, candidates, is_searched = self.table.lines_in(some, whole), some, bool(pattern) and share < _MOSTLY
            if is_searched:
                is_candidate = _have(pattern, map(bytes.decode, lines))
                lines, candidates = list(compress(lines, is_candidate.tolist())), some[is_candidate]
            is_true = self._texts(candidates, lines).select(is_match.alias("is_match"))["is_match"]
            matches.append(candidates[is_true.to_numpy()])
            share = len(candidates if is_searched else matches[-1]) / len(some)
        return np.concatenate(matches)

    def _texts(self, rows: Indices, lines: Sequence[bytes]) -> pl.DataFrame:
        """Return the texts of ``rows``, which have these lines."""
        said = self.table.texts(rows, lines)
        prompts = pl.Series("prompt", [prompt or text for prompt, _, text, *_ in said], pl.String)
        return pl.DataFrame([prompts, pl.Series("completion", [answer for _, answer, *_ in said], pl.String)])

    def values(self, rows: Sequence[int]) -> list[Values]:
        """Return what a table shows of rows. Where the file of one has changed since, their texts are not known."""
        try:
            return list(map(values_of, self.table.records(rows)))
        except CurateError:
            known = self.frame[list(rows)].drop("labels").to_dicts()
            return [Values(**row, prompt="…", completion="…", labels=[]) for row in known]


def _have(pattern: str, texts: Iterable[str]) -> NDArray[np.bool_]:
    """Return which of ``texts`` have a match of ``pattern``."""
    return pl.Series(texts, dtype=pl.String).str.contains(pattern).to_numpy()
