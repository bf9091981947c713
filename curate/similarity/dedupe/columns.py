"""What is kept of the records of a file once it is read: enough to compare, divide and filter them, and to find their
lines."""

from __future__ import annotations

import numpy as np
import orjson
import polars as pl

from curate.base.hashing import Hashes, Indices
from curate.similarity.dedupe.blocks import RecordBlock

# Raised whenever the same lines would give other columns.
VERSION = 13
KEYS = [f"key{number}" for number in range(10)]
"""As `Keys` has them, one beside the other."""
BOUNDS = [f"bound{number}" for number in range(6)]
"""Where the tokens of each part are, counted from the first one of the record, see `Corpus`; the last one is their
number."""
_TEXTS = ("id", "category", "split", "source", "said", "labels")
_NUMBERS = ("line", "offset", "length", "num_chars", "num_bytes", *BOUNDS)
SCHEMA = pl.Schema(
    {
        **dict.fromkeys(_TEXTS, pl.String()),
        **dict.fromkeys(_NUMBERS, pl.Int64()),
        **dict.fromkeys(KEYS, pl.UInt64()),
        "tokens": pl.List(pl.UInt64()),
    }
)


def columns_of(block: RecordBlock, said: list[str], lines: Indices, offsets: Indices, lengths: Indices) -> pl.DataFrame:
    """Return the columns of `SCHEMA` of records that stand in ``lines`` of a file, at ``offsets``.

    ``said`` has the digest of what each asks and answers.
    """
    tokens, bounds = block.tokens
    begins = bounds[:, 0]
    texts = {
        "id": block.ids,
        "category": block.categories,
        "split": block.splits,
        "source": block.sources,
        "said": said,
        "labels": [orjson.dumps(labels).decode() if labels else None for labels in block.labels],
    }
    numbers = {
        "line": lines,
        "offset": offsets,
        "length": lengths,
        "num_chars": block.sizes(block.num_chars, has_system=False),
        "num_bytes": block.sizes(block.num_bytes, has_system=True) + block.trace_bytes,
        **dict(zip(BOUNDS, (bounds - begins[:, None]).T, strict=True)),
        **dict(zip(KEYS, np.concatenate(block.keys, axis=1).T, strict=True)),
    }
    # Cut out of one list: to make a list of each record takes seven times as long.
    words = pl.lit(pl.Series([pl.Series(tokens)])).list.slice(pl.lit(pl.Series(begins)), pl.col(BOUNDS[-1]))
    return pl.DataFrame({**texts, **numbers}, schema_overrides=SCHEMA).with_columns(tokens=words)


def flat(frame: pl.DataFrame) -> Hashes:
    """Return the tokens of all rows, one row's after another's."""
    # An empty row would give one that is none.
    return frame["tokens"].filter(frame["tokens"].list.len() > 0).explode().to_numpy()
