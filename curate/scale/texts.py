"""The texts of all records on disk, span by span, where every worker finds them: read once, then looked up by number.

A record's number says where it is and comes in reading order: the number of its span, then its row in that span.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from curate.dedupe.corpus import Corpus, gather
from curate.dedupe.minhash import Kernels
from curate.dedupe.near import NUMPY, kernels_for
from curate.dedupe.pairs import Sides
from curate.dedupe.shingles import Spans, Tokens
from curate.dedupe.stages import Stages
from curate.dedupe.text import Field
from curate.door import Entry, Reader, Span
from curate.hashing import Indices
from curate.record import Finding, Record
from curate.shape import load_shape
from curate.validate.examine import violations

ROW_BITS = 24
"""Bits of a number that tell the row. A span has 16 MiB and fewer lines than that."""
_ROW = (1 << ROW_BITS) - 1


class Shard(NamedTuple):
    """A span of a file as it was when the run began."""

    path: Path
    span: Span | None
    size: int
    changed_ns: int


class Texts(NamedTuple):
    """What workers need to get at the texts; it can be pickled."""

    scratch: str
    shards: tuple[Shard, ...]
    schema: str
    schema_root: Path
    by_character: bool
    is_compiled: bool


class Shelf:
    """The texts of a run, as one worker sees them; threads may share it."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        # The folder is of this run alone, and goes with it.
        self._stages = Stages(Path(texts.scratch), is_checked=False)
        self.corpus = lru_cache(maxsize=256)(self._corpus)

    @cached_property
    def kernels(self) -> Kernels:
        """The loops to use, the same in all workers."""
        return kernels_for(0, True) if self._texts.is_compiled else NUMPY

    @property
    def stages(self) -> Stages:
        """Where more of the kind can be kept."""
        return self._stages

    def read(self, number: int) -> tuple[int, int]:
        """Read span ``number`` unless it is read already; return how many records it has, and findings about lines."""
        corpus, known = self._opened(number)
        return len(corpus), int(known["num_findings"])

    def _corpus(self, number: int) -> Corpus:
        return self._opened(number)[0]

    def _opened(self, number: int) -> tuple[Corpus, dict[str, Any]]:
        shard = self._texts.shards[number]
        about = (number, str(shard.path), shard.size, shard.changed_ns, shard.span, self._texts.by_character)
        source = _Source(shard, self._texts)

        def make(sink: Any) -> tuple[Corpus, dict[str, Any]]:
            corpus = gather(source, self.kernels.clean, by_character=self._texts.by_character, sink=sink)
            return corpus, {"num_findings": source.num_findings}

        return self._stages.corpus((*about, self._texts.is_compiled), make)

    def numbers(self, number: int) -> Indices:
        """Return the numbers of the records of span ``number``."""
        return (number << ROW_BITS) + np.arange(len(self.corpus(number)))

    def sides(self, numbers: Indices) -> Sides:
        """Return what is compared part by part of the records ``numbers``, which are sorted."""
        forms = [self.corpus(number).columns.forms[rows] for number, rows in by_span(numbers)]
        return Sides(self.take("prompt", numbers), self.take("completion", numbers), np.concatenate(forms))

    def take(self, field: Field, numbers: Indices) -> Spans:
        """Return the texts of the records ``numbers``, which are sorted."""
        tokens: list[Tokens] = []
        sizes: list[Indices] = []
        for number, rows in by_span(numbers):
            spans = self.corpus(number).spans(field).take(rows)
            lengths = spans.ends - spans.starts
            starts = np.cumsum(lengths) - lengths
            tokens.append(spans.tokens[np.arange(int(lengths.sum())) + np.repeat(spans.starts - starts, lengths)])
            sizes.append(lengths)
        if not sizes:
            nothing = np.zeros(0, np.int64)
            none: Tokens = np.zeros(0, np.uint32) if self._texts.by_character else np.zeros(0, np.uint64)
            return Spans(none, nothing, nothing)
        lengths = np.concatenate(sizes)
        ends = np.cumsum(lengths)
        return Spans(cast("Tokens", np.concatenate(tokens)), ends - lengths, ends)


@lru_cache(maxsize=1)
def shelf_of(texts: Texts) -> Shelf:
    """Return the shelf of this process for a run: what one job has opened, the next need not open again."""
    return Shelf(texts)


def by_span(numbers: Indices) -> Iterator[tuple[int, Indices]]:
    """Yield each span that the sorted ``numbers`` lie in, with their rows there."""
    spans, starts = np.unique(numbers >> ROW_BITS, return_index=True)
    ends = np.append(starts, len(numbers))[1:]
    for span, low, high in zip(spans.tolist(), starts.tolist(), ends.tolist(), strict=True):
        yield span, numbers[low:high] & _ROW


class _Source:
    """The records of one span, read when it is iterated over."""

    def __init__(self, shard: Shard, texts: Texts) -> None:
        self._shard = shard
        self._shape = load_shape(str(Path(texts.schema).resolve()), texts.schema_root.resolve())
        self.num_findings = 0

    def __iter__(self) -> Iterator[Record]:
        self.num_findings = 0
        reader = Reader(self._shard.path, span=self._shard.span)
        for item in reader:
            if isinstance(item, Finding):
                self.num_findings += 1
            elif self._shape.is_valid(item.value):
                yield self._shape.record(item.value, item.line.source)
            else:
                self.num_findings += self._count(item)
        self.num_findings += bool(reader.num_crlf)

    def _count(self, entry: Entry) -> int:
        return sum(1 for _ in violations(self._shape, entry, with_column=False))


class Reading:
    """Reads spans."""

    def __init__(self, texts: Texts) -> None:
        self._shelf = shelf_of(texts)

    def __call__(self, number: int) -> tuple[int, int]:
        """Read a span; return how many records it has, and how many findings there are about its lines."""
        return self._shelf.read(number)
