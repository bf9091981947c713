"""The search for repeats where the records lie with the workers of a cluster.

The engine brings together what has equal keys and texts that share a bucket, and workers verify each pair. The process
that asks holds what is tied to something else, and of all other records no more than their number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import daft
import numpy as np
import polars as pl
import pyarrow as pa
from daft import DataFrame, DataType, col

from curate.base.hashing import Hashes, Indices
from curate.base.storage import write_atomic
from curate.checks.runner.column_cache import FileSummary
from curate.checks.runner.parts import read_parts
from curate.jsonl import Span
from curate.schema import Shape
from curate.similarity.dedupe import FEWEST, MAX_PROMPTS, Watch
from curate.similarity.dedupe.columns import BOUNDS, KEYS
from curate.similarity.dedupe.near import PAIRWISE_BUCKET, Alike, Links, banded, by_leaders, compare
from curate.similarity.dedupe.pairs import AlikeRule, Sides, Verdicts, verdicts
from curate.similarity.dedupe.results import Method
from curate.similarity.dedupe.shingles import FIELDS, SAMPLE, Cut, Field, Ragged, Spans, distinct, ends_of, popular_in

# Of each field the columns of its key, and of where its tokens begin and end.
_COLUMNS: dict[Field, tuple[str, ...]] = {
    "record": (*KEYS[6:8], BOUNDS[0], BOUNDS[4]),
    "prompt": (*KEYS[2:4], BOUNDS[0], BOUNDS[2]),
    "completion": (*KEYS[4:6], BOUNDS[2], BOUNDS[3]),
}
_HASHES = DataType.list(DataType.uint64())
# A row is the number of its part and, in so many bits, its place in it.
_PART_BITS = 32
# Records or pairs that are looked at together.
_ROWS = 1024


def write_part(shape: Shape, folder: Path, number: int, path: Path, span: Span | None) -> FileSummary:
    """Write the columns of the records in one span of a file to where a `ClusterSearch` finds them.

    Raises:
        CurateError: as `read_parts`; E906 when they cannot be written.
    """
    frame, about = read_parts(shape, None, path, span)
    rows = pl.int_range(pl.len(), dtype=pl.Int64) + (number << _PART_BITS)
    texts = [
        pl.col("tokens").list.slice(begin, pl.col(end) - pl.col(begin)).alias(name)
        for name, (_, _, begin, end) in _COLUMNS.items()
    ]
    content = BytesIO()
    frame.with_columns(rows.alias("row"), *texts).write_parquet(content)
    write_atomic(folder / f"{number}.parquet", [content.getvalue()])
    return about


class ClusterSearch:
    """A search of the records whose columns are in a folder; it is about those that are tied to another.

    Whoever knows what these are called sets ``ids``.
    """

    ids: Sequence[str] = ()

    def __init__(self, folder: Path, method: Method, watch: Watch) -> None:
        self._method, self._records = method, daft.read_parquet(f"{folder}/*.parquet")
        self.num_records = self._records.count_rows()
        copies = _heads(self._records, self._records, KEYS[:2])
        # One record speaks for all of the same content.
        others = daft.from_arrow(copies.filter(pl.col("row") != pl.col("head")).select("row").to_arrow())
        self._firsts = self._records.join(others, on="row", how="anti", strategy="broadcast")
        self._alike = dict[Field, tuple[Cut, pl.DataFrame, int, pl.DataFrame]]()
        for done, name in enumerate(FIELDS):
            watch("comparing texts", done, len(FIELDS))
            self._alike[name] = self._compare(name)
        found = [copies, _heads(self._records, self._records, ["id"])]
        found += [frame for _, links, _, equal in self._alike.values() for frame in (links, equal)]
        self._rows = distinct(np.concatenate([frame.to_series(side).to_numpy() for frame in found for side in (0, 1)]))
        self.first_of = self._places(copies)

    def tied(self) -> pl.DataFrame:
        """Return the columns of the tied records without their tokens, in their order, with the "part" of each."""
        frame = _frame(self._of(self._records, self._rows).exclude("tokens", *FIELDS)).sort("row")
        return frame.with_columns(pl.col("row").floordiv(1 << _PART_BITS).alias("part"))

    def known(self, ids: Collection[str]) -> list[str]:
        """Return those of ``ids`` that records have."""
        return _frame(self._records.join(daft.from_pydict({"id": [*ids]}), on="id").select("id"))["id"].to_list()

    def alike(self) -> Mapping[Field, Alike]:
        """Return what is alike in each field of the first records of each content."""
        alike, is_copy = {}, self.first_of != np.arange(len(self._rows))
        for name, (cut, found, num_skipped, equal) in self._alike.items():
            left, right = (np.searchsorted(self._rows, found[side]) for side in ("left", "right"))
            heads = np.where(is_copy, -1, self._places(equal))
            alike[name] = Alike(Links(left, right, found["score"].to_numpy()), heads, cut, num_skipped)
        return alike

    def templates(self, rows: Indices, cut: Cut) -> Hashes:
        """Return the passages in the prompts of ``rows`` that stand in more than `MAX_PROMPTS` prompts."""

        def passages(texts: Any) -> Any:
            return _lists(cut.passages(_spans(texts).hashed()))

        said = self._firsts.select("row", KEYS[2], _batch(passages, _HASHES)(col("prompt")).alias("passage"))
        known = self._of(said, self._rows[rows]).explode("passage").select("passage").distinct()
        each = said.explode("passage").select("passage", KEYS[2]).join(known, on="passage").distinct()
        counts = each.groupby("passage").agg(col(KEYS[2]).count().alias("count"))
        return np.sort(_frame(counts.where(col("count") > MAX_PROMPTS))["passage"].to_numpy())

    def judge(self, left: Indices, right: Indices, rule: AlikeRule) -> Verdicts:
        """Hold records against one another part by part."""

        def judged(*columns: Any) -> Any:
            prompts, completions, *forms = (columns[at::4] for at in range(4))
            form = np.stack([np.concatenate([*map(np.asarray, sides)]) for sides in forms], axis=1)
            left, right = np.arange(len(form)).reshape(2, -1)
            flags = verdicts(Sides(_spans(*prompts), _spans(*completions), form), left, right, rule)
            return pa.array((np.stack(flags) << np.arange(len(flags))[:, None]).sum(axis=0))

        pairs = daft.from_pydict({"left": self._rows[left], "right": self._rows[right], "pair": np.arange(len(left))})
        found = _met(pairs, self._records, ["prompt", "completion", *KEYS[8:]], judged, DataType.int64())
        flags = _frame(found).sort("pair")["found"].to_numpy()
        return Verdicts(*((flags & 1 << bit) > 0 for bit in range(len(Verdicts._fields))))

    def _places(self, equal: pl.DataFrame) -> Indices:
        """Return the place of each tied record, and of those that equal another the place of that."""
        places = np.arange(len(self._rows))
        places[np.searchsorted(self._rows, equal["row"])] = np.searchsorted(self._rows, equal["head"])
        return places

    def _of(self, frame: DataFrame, rows: Indices) -> DataFrame:
        return frame.join(daft.from_pydict({"row": rows}), on="row", strategy="broadcast")

    def _compare(self, name: Field) -> tuple[Cut, pl.DataFrame, int, pl.DataFrame]:
        """Return how texts of a field are cut, which are alike, how many were left out, and which are equal."""
        keys, threshold = [*_COLUMNS[name][:2]], self._method.threshold
        said = self._firsts.where(col(name).length() > 0)
        cut = Cut(self._method.ngram, self._popular(said, keys, name))

        def bands(texts: Any) -> Any:
            buckets, lengths = banded(_spans(texts), cut)
            # A text that tells nothing is in no bucket.
            counts = np.where(lengths >= max(1, FEWEST[name]), len(buckets), 0)
            return _lists(Ragged(buckets[:, counts > 0].T.ravel(), ends_of(counts)))

        def alike(*columns: Any) -> Any:
            return pa.array(compare(_spans(*columns), cut, *np.arange(2 * len(columns[0])).reshape(2, -1)))

        cells = said.select("row", *keys, _batch(bands, _HASHES)(col(name)).alias("bucket"))
        texts = cells.groupby(*keys).agg(col("row").min(), col("row").count().alias("num"), col("bucket").any_value())
        telling = texts.collect().where(col("bucket").length() > 0)
        heads = (telling if FEWEST[name] else texts).with_column_renamed("row", "head")
        equal = _heads(said, heads, keys)
        met = telling.select("row", "bucket").explode("bucket").collect()
        sizes = met.groupby("bucket").agg(col("row").count().alias("size")).where(col("size") > 1).collect()
        small = met.join(sizes.where(col("size") <= PAIRWISE_BUCKET), on="bucket")
        sides = [small.select("bucket", col("row").alias(side)) for side in ("left", "right")]
        pairs = (
            sides[0].join(sides[1], on="bucket").where(col("left") < col("right")).select("left", "right").distinct()
        )
        found = _met(pairs, said, [name], alike, DataType.float64()).where(col("found") >= threshold)
        links = [_frame(found.with_column_renamed("found", "score"))]
        # A crowd is compared here: few texts are in one.
        large = _frame(met.join(sizes.where(col("size") > PAIRWISE_BUCKET), on="bucket").select("bucket", "row"))
        crowds = {tuple(rows) for rows in large.group_by("bucket").agg(pl.col("row").sort())["row"].to_list()}
        in_crowds = _frame(self._of(said, large["row"].unique().to_numpy()).select("row", name)).sort("row")
        num_skipped = 0
        for crowd in crowds:
            texts_of = in_crowds.filter(pl.col("row").is_in(crowd))
            led, num_left = by_leaders(cut, threshold, _spans(texts_of[name]))
            rows = texts_of["row"].to_numpy()
            links.append(pl.DataFrame({"left": rows[led.left], "right": rows[led.right], "score": led.scores}))
            num_skipped += num_left
        return cut, pl.concat(links).unique(["left", "right"]), num_skipped, equal

    def _popular(self, said: DataFrame, keys: Sequence[str], name: Field) -> Hashes:
        """Return the passages that many records share."""
        is_long = col("size") >= Cut(self._method.ngram).width
        sized = said.select("row", *keys, col(name).length().alias("size"))
        texts = sized.groupby(*keys).agg(col("row").min(), col("row").count().alias("num"), col("size").any_value())
        long = texts.where(is_long)
        num_records, num_long = (_frame(frame.agg(col("num").sum()))["num"].sum() for frame in (texts, long))
        picked = _frame(long.sort([keys[0], "row"]).limit(SAMPLE).join(said.select("row", name), on="row"))
        weights = picked["num"].to_numpy()
        return popular_in(_spans(picked[name]), self._method.ngram, weights, int(num_records or 0), int(num_long or 0))


def _batch(function: Callable[..., Any], kind: DataType) -> Any:
    return daft.func.batch(return_dtype=kind, batch_size=_ROWS)(function)


def _met(
    pairs: DataFrame, records: DataFrame, names: Sequence[str], function: Callable[..., Any], kind: DataType
) -> DataFrame:
    """Return the pairs with what ``function`` has "found" of ``names`` of the left records and of the right ones."""
    columns, kept = [f"{side} {name}" for side in ("left", "right") for name in names], pairs.column_names
    for at, side in enumerate(kept[:2]):
        renamed = (col(name).alias(new) for name, new in zip(names, columns[at * len(names) :], strict=False))
        pairs = pairs.join(records.select(col("row").alias(side), *renamed), on=side)
    return pairs.select(*kept, _batch(function, kind)(*map(col, columns)).alias("found"))


def _heads(records: DataFrame, texts: DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Return each "row" that has its keys in common with another, and the first one that has them, the "head"."""
    if "head" not in texts.column_names:
        texts = texts.groupby(*keys).agg(col("row").min().alias("head"), col("row").count().alias("num"))
    shared = texts.where(col("num") > 1).select(*keys, "head")
    return _frame(records.select("row", *keys).join(shared, on=[*keys]).select("row", "head"))


def _spans(*columns: Any) -> Spans:
    """Return the texts of some columns of lists, one behind the other."""
    lists = [column.to_arrow() for column in columns]
    begins = ends_of(np.array([len(part.values) for part in lists]))
    bounds = [np.asarray(part.offsets) + begin for part, begin in zip(lists, begins, strict=False)]
    starts, ends = (np.concatenate([of_list[side] for of_list in bounds]) for side in (slice(-1), slice(1, None)))
    return Spans(np.concatenate([np.asarray(part.values) for part in lists]), starts, ends)


def _lists(of: Ragged) -> Any:
    return pa.LargeListArray.from_arrays(pa.array(of.offsets), pa.array(of.hashes))


def _frame(found: DataFrame) -> pl.DataFrame:
    frame = pl.from_arrow(found.to_arrow())
    assert isinstance(frame, pl.DataFrame)
    return frame
