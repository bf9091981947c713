"""Past one machine: validation and near-duplicate search by daft, here or on a Ray cluster (extra ``scale``).

Every finding, pair and cluster is the same as without it, because the same functions look at the same bytes: daft maps
them over spans of files and blocks of texts, and reads no record itself. Texts lie in a file that all workers map; the
driver holds the numbers of all records, as a single process does, and findings up to their limit.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from threading import local
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl

from curate.base import console
from curate.base.file_guard import stamp_of
from curate.base.record import CurateError
from curate.base.storage import WRITE_FAILED, remove_folder, write_atomic
from curate.base.tables import counted, listed
from curate.checks.runner.column_cache import FileColumns, FileSummary
from curate.checks.runner.examine import examine
from curate.checks.runner.parallel import num_bytes, tasks_of
from curate.checks.runner.parts import file_name, read_parts
from curate.checks.runner.results import CheckPlan, SpanResult
from curate.checks.runner.table import RecordTable
from curate.formats.importers import SourceRow, jsonable
from curate.jsonl import Span
from curate.project.records import Records
from curate.scale.cluster import NATIVE, WorkerCluster
from curate.schema import Shape
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import Watch, find
from curate.similarity.dedupe.results import Duplicates, method_of

PARQUET = ".parquet"
SUFFIXES = (".jsonl", PARQUET)
_ROWS = 1024
# Bytes of Parquet from which unpacking in processes is repaid.
_APART_BYTES = 32 * 1024 * 1024
_MAGIC = b"PAR1"
# Codes for numbers that JSON text can hold and the strict parser refuses.
_LEFT_TO_THE_PARSER = frozenset({"S106", "S107"})

Task = tuple[Path, Span | None]
# Bytes of input for each worker from which reading in a process of its own is repaid.
_READ_APART_BYTES = 512 * 1024 * 1024


def shards_in(folder: Path) -> list[Path]:
    """Return the shards in ``folder`` and the folders within, in the order of their names; hidden ones are left out.

    Files that are none are named on stderr.

    Raises:
        CurateError: E904 when there is none.
    """
    paths = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    seen = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    shards = [path for path in seen if path.suffix.lower() in SUFFIXES]
    if passed := [console.one_line(str(path.relative_to(folder)), 60) for path in seen if path not in shards]:
        console.talk(f"no shards, and passed over: {len(passed):,} of {counted(len(seen), 'file')} ({listed(passed)})")
    if not shards:
        hint = "Shards end in .jsonl or .parquet."
        raise CurateError("E904 no-such-file", f"no shard in {console.one_line(str(folder))}", hint)
    return shards


@contextmanager
def scratch_for(cluster: WorkerCluster, files: Sequence[Path]) -> Iterator[Path]:
    """Yield a folder that all workers can write to, which is gone afterwards.

    On this machine it lies among the temporary files. The machines of a cluster share the folder of the data, so there
    it is a hidden folder beside the first file.

    Raises:
        CurateError: E906 when it cannot be made.
    """
    if cluster.runner == NATIVE:
        with tempfile.TemporaryDirectory(prefix="curate-") as name:
            yield Path(name)
        return
    try:
        # Another run beside the same data may have our process number on another machine.
        folder = Path(tempfile.mkdtemp(prefix=".curate-", dir=files[0].absolute().parent))
    except OSError as error:
        raise CurateError(WRITE_FAILED, f"{console.one_line(str(files[0].parent))}: {error.strerror}") from error
    try:
        yield folder
    finally:
        remove_folder(folder)


def unpacked(cluster: WorkerCluster, files: Sequence[Path], scratch: Path) -> tuple[list[Path], Callable[[str], str]]:
    """Write the rows of the Parquet files among ``files`` as lines to ``scratch``, row n as line n.

    Returns the files to read in place of ``files``, and a function that puts the names of the Parquet files back into a
    text. A key whose value is null is left out, because a typed table has no other way to leave it out. Numbers that
    JSON does not know stay, for the strict parser to report.

    Raises:
        CurateError: E904 for a file that is missing; E908 for one that is not Parquet, is cut off, or holds bytes.
    """
    targets = {path: scratch / f"{number}.jsonl" for number, path in enumerate(files) if path.suffix.lower() == PARQUET}
    is_apart = sum(path.stat().st_size for path in targets if path.is_file()) >= _APART_BYTES
    for _ in cluster.starmap(_unpack, targets.items(), is_apart=is_apart):
        pass
    target_name = re.compile(re.escape(str(scratch)) + r"/([0-9]+)\.jsonl")
    names = [console.spelled(str(path)) for path in files]
    return [targets.get(path, path) for path in files], lambda text: target_name.sub(lambda at: names[int(at[1])], text)


def _unpack(path: Path, target: Path) -> None:
    """Write the rows of one Parquet file to ``target``."""
    write_atomic(target, _lines(path))


def _lines(path: Path) -> Iterator[bytes]:
    # The engine is built on both.
    import polars
    import pyarrow
    from pyarrow import parquet

    # The library crashes on some files that are something else, and waits for a pipe.
    _refuse_disguise(path)
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches(_ROWS):
            for values in polars.DataFrame(polars.from_arrow(batch)).iter_rows(named=True):
                number += 1
                yield _line({name: value for name, value in values.items() if value is not None}, number, path)
    # A panic is what the library calls a text that is not UTF-8.
    except (pyarrow.ArrowException, polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
        what = console.one_line(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)
        raise _unreadable(path, what, "The file may be cut off; fetch it again.") from error


def _line(values: dict[str, Any], number: int, path: Path) -> bytes:
    row = jsonable(values, number)
    if isinstance(row, SourceRow):
        return orjson.dumps(row.value) + b"\n"
    if row.code not in _LEFT_TO_THE_PARSER:
        raise _unreadable(path, f"row {number:,}: {row.reason}", "`curate import` sets such rows aside.")
    return json.dumps(values, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"


def _refuse_disguise(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise _unreadable(path, "not a regular file", "Name a file.")
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise CurateError("E904 no-such-file", f"{console.one_line(str(path))}: {error.strerror}") from error
    if head != _MAGIC:
        raise _unreadable(path, "not a Parquet file", "A Parquet file begins with the bytes PAR1.")


def _unreadable(path: Path, what: str, hint: str) -> CurateError:
    return CurateError("E908 cannot-import", f"{console.one_line(str(path))}: {what}", hint)


def examine_on(cluster: WorkerCluster) -> Callable[[CheckPlan, Sequence[Path], int], Iterator[tuple[Path, SpanResult]]]:
    """Return an engine for `curate.checks.runner.validate` that has spans examined on ``cluster``, with the same
    verdict.

    The number of processes that it is asked for has no say: the cluster has so many.
    """

    def engine(plan: CheckPlan, files: Sequence[Path], _jobs: int) -> Iterator[tuple[Path, SpanResult]]:
        tasks = spans_on(cluster, files, plan.root)
        results = cluster.starmap(partial(examine, plan), tasks, is_apart=True)
        for (path, _), result in zip(tasks, results, strict=True):
            yield path, result

    return engine


def spans_on(cluster: WorkerCluster, files: Sequence[Path], root: Path | None) -> list[Task]:
    """Return the spans of all files in reading order; counting their lines means to read them, so workers do that."""
    parts = cluster.starmap(tasks_of, (([path], root) for path in files))
    return [task for tasks in parts for task in tasks]


class Scaled(NamedTuple):
    """What was found among the records of ``table``."""

    table: RecordTable
    duplicates: Duplicates


def find_on(
    cluster: WorkerCluster,
    files: Sequence[Path],
    shape: Shape,
    settings: DedupeSettings,
    *,
    scratch: Path,
    watch: Watch = lambda _stage, _done, _total: None,
) -> Scaled:
    """Find what `curate.similarity.dedupe.find_duplicates` finds among the records of ``files``, in reading order.

    Ids that repeat get -2, -3 and so on, where `find_duplicates` refuses them.

    ``scratch`` is a folder that all workers see; it takes about the size of the texts.

    Raises:
        CurateError: E904 for a file that is missing; E906 when ``scratch`` cannot hold it; E969 when a worker is lost;
            E974 when files change while they are read.
    """
    stamps = {path: stamp_of(path, file_name(path, None)) for path in files}
    parts: dict[Path, list[tuple[pl.DataFrame, FileSummary]]] = {path: [] for path in stamps}
    num = num_bytes(list(stamps))
    tasks = spans_on(cluster, list(stamps), None)
    is_apart = num >= _READ_APART_BYTES * cluster.num_workers
    results = cluster.starmap(partial(read_parts, shape, None), tasks, is_apart=is_apart)
    for done, ((path, _), part) in enumerate(zip(tasks, results, strict=True), start=1):
        parts[path].append(part)
        watch("reading parts", done, len(tasks))
    read = {path: FileColumns.joined(some, stamps[path]) for path, some in parts.items()}
    table = RecordTable(shape, None, [(path, read[path]) for path in files])
    table.require_current()
    corpus = Records([], table, np.arange(len(table))).corpus()
    # Workers map them from a file.
    if len(corpus.tokens):
        write_atomic(scratch / "tokens", [corpus.tokens.tobytes()])
        corpus = replace(corpus, tokens=np.memmap(scratch / "tokens", np.uint64, "r"))
    return Scaled(table, find(corpus, method_of(settings), starmap=cluster.starmap, watch=watch))
