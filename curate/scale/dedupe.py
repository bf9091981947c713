"""All records of many files compared: workers read them and run the inner loops, and one process joins what they say.

That process holds the columns, ids and buckets of all records, as it would without workers, and their tokens in a file
that the workers map. Everything else is `curate.similarity.dedupe` as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from curate.base.record import CurateError, Record
from curate.base.storage import WRITE_FAILED
from curate.checks.runner import read_records
from curate.jsonl import Span
from curate.scale.cluster import WorkerCluster
from curate.scale.examine import spans_on
from curate.schema import Shape, load_shape
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import refuse_repeated_ids
from curate.similarity.dedupe.corpus import Cleaner, Corpus, Sink, gather, joined
from curate.similarity.dedupe.find import find
from curate.similarity.dedupe.kernels import kernels_for
from curate.similarity.dedupe.near import Watch
from curate.similarity.dedupe.results import Duplicates, method_of
from curate.similarity.dedupe.stages import Stages

_APART_BYTES = 512 * 1024 * 1024
"""Bytes of input for each worker from which reading in a process of its own is repaid."""

Namer = Callable[[Sequence[str]], list[str]]
"""Gives the ids of all records, in reading order, to be told apart; returns names that all differ."""


class Scaled(NamedTuple):
    """What was found among the records of ``corpus``."""

    corpus: Corpus
    duplicates: Duplicates
    num_findings: int
    """Findings about lines that are no records."""


def find_on(
    cluster: WorkerCluster,
    files: Sequence[Path],
    shape: Shape,
    settings: DedupeSettings,
    *,
    scratch: Path,
    namer: Namer = list,
    watch: Watch = lambda _stage, _done, _total: None,
) -> Scaled:
    """Find what `curate.similarity.dedupe.find_duplicates` finds among the records of ``files``, in the order of
    reading.

    ``scratch`` is a folder that all workers see; it takes about the size of the texts.

    Raises:
        CurateError: E904 for a file that is missing; E906 when ``scratch`` cannot hold it; E910 when two records have
            the same name; E969 when a worker is lost.
    """
    num_bytes = sum(path.stat().st_size for path in set(files) if path.is_file())
    kernels = kernels_for(num_bytes)._replace(starmap=cluster.starmap)
    tasks = spans_on(cluster, files, None)
    function = partial(_read, str(shape.path.resolve()), shape.root.resolve(), kernels.clean)
    num_findings = 0

    def read(sink: Sink) -> tuple[Corpus, dict[str, int]]:
        def corpora() -> Iterator[Corpus]:
            nonlocal num_findings
            parts = cluster.starmap(function, tasks, is_apart=num_bytes >= _APART_BYTES * cluster.num_workers)
            for done, (corpus, faults) in enumerate(parts, start=1):
                num_findings += faults
                watch("reading parts", done, len(tasks))
                yield corpus

        return joined(corpora(), sink), {}

    stages = Stages(scratch, is_checked=False)
    corpus, _ = stages.corpus((), read)
    if stages.remarks:
        # Without the file each task would carry all tokens.
        raise CurateError(WRITE_FAILED, stages.remarks[0])
    corpus = replace(corpus, ids=namer(corpus.ids))
    refuse_repeated_ids(corpus.ids, corpus.source)
    return Scaled(corpus, find(corpus, method_of(settings), kernels, Stages(), watch), num_findings)


def _read(schema: str, root: Path, cleaner: Cleaner, path: Path, span: Span | None) -> tuple[Corpus, int]:
    """Return the records of a span, and the number of findings about its lines."""
    num_findings = 0

    def records() -> Iterator[Record]:
        nonlocal num_findings
        for item in read_records([path], load_shape(schema, root), span=span):
            if isinstance(item, Record):
                yield item
            else:
                num_findings += 1

    return gather(records(), cleaner), num_findings
