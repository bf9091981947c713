"""Past one machine: validation and the search for repeats on a Ray cluster, by daft (extra ``scale``).

Findings, pairs and clusters are the same as without it, because the same functions look at the same lines. Workers read
spans of files; what they keep of the records lies in a folder that all of them see, see `curate.scale.search`. The
process that asks holds what is found, and of other records no more than dataset checks need.
"""

from __future__ import annotations

import fcntl
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import orjson
import polars as pl

from curate.base import console
from curate.base.file_guard import stamp_of
from curate.base.record import CurateError
from curate.base.storage import WRITE_FAILED, remove_folder, write_atomic
from curate.base.tables import counted, listed
from curate.checks.runner.column_cache import FileColumns, FileSummary
from curate.checks.runner.examine import examine
from curate.checks.runner.parallel import tasks_of
from curate.checks.runner.parts import file_name
from curate.checks.runner.results import CheckPlan, SpanResult
from curate.checks.runner.table import RecordTable
from curate.formats.importers import Rejected, SourceRow
from curate.formats.importers.columnar import parquet_rows
from curate.jsonl import Span
from curate.scale.cluster import WorkerCluster
from curate.scale.search import ClusterSearch, write_part
from curate.schema import Shape
from curate.schema.settings import DedupeSettings
from curate.similarity.dedupe import Watch, found_by
from curate.similarity.dedupe.results import Duplicates, method_of

PARQUET = ".parquet"
SUFFIXES = (".jsonl", PARQUET)
_SCRATCH = ".curate-"

Task = tuple[Path, Span | None]


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
def scratch_beside(file: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``file`` that all workers can write to, which is gone afterwards.

    Such folders of runs that were killed are removed.

    Raises:
        CurateError: E906 when it cannot be made.
    """
    beside = file.absolute().parent
    for mark in beside.glob(f"{_SCRATCH}*/owner"):
        with suppress(OSError), mark.open("rb") as left_behind:
            fcntl.flock(left_behind, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_folder(mark.parent)
    try:
        # Another run beside the same data may have our process number on another machine.
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=beside))
        owner = (folder / "owner").open("wb")
    except OSError as error:
        raise CurateError(WRITE_FAILED, f"{console.one_line(str(beside))}: {error.strerror}") from error
    with owner:
        # The system lets go of it whatever ends us.
        fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            remove_folder(folder)


def unpacked(cluster: WorkerCluster, files: Sequence[Path], scratch: Path) -> tuple[list[Path], Callable[[str], str]]:
    """Write the rows of the Parquet files among ``files`` as lines to ``scratch``, row n as line n.

    Returns the files to read in place of ``files``, and a function that puts the names of the Parquet files back into a
    text. A key whose value is null is left out, because a typed table has no other way to leave it out.

    Raises:
        CurateError: E904 for a file that is missing; E908 for one that is not Parquet, is cut off, or holds what JSON
            does not know.
    """
    targets = {path: scratch / f"{number}.jsonl" for number, path in enumerate(files) if path.suffix.lower() == PARQUET}
    for _ in cluster.starmap(_unpack, targets.items()):
        pass
    target_name = re.compile(re.escape(str(scratch)) + r"/([0-9]+)\.jsonl")
    names = [console.spelled(str(path)) for path in files]
    return [targets.get(path, path) for path in files], lambda text: target_name.sub(lambda at: names[int(at[1])], text)


def _unpack(path: Path, target: Path) -> None:
    """Write the rows of one Parquet file to ``target``."""
    write_atomic(target, map(partial(_line, path), parquet_rows(path)))


def _line(path: Path, row: SourceRow | Rejected) -> bytes:
    if isinstance(row, Rejected):
        what = f"{console.one_line(str(path))}: row {row.line:,}: {row.reason}"
        raise CurateError("E908 cannot-import", what, "`curate import` sets such rows aside.")
    return orjson.dumps({name: value for name, value in row.value.items() if value is not None}) + b"\n"


def examine_on(cluster: WorkerCluster) -> Callable[[CheckPlan, Sequence[Path], int], Iterator[tuple[Path, SpanResult]]]:
    """Return an engine for `curate.checks.runner.validate` that has spans examined on ``cluster``, with the same
    verdict.

    The number of processes that it is asked for has no say: the cluster has so many.
    """

    def engine(plan: CheckPlan, files: Sequence[Path], _jobs: int) -> Iterator[tuple[Path, SpanResult]]:
        tasks = spans_on(cluster, files, plan.root)
        results = cluster.starmap(partial(examine, plan), tasks)
        for (path, _), result in zip(tasks, results, strict=True):
            yield path, result

    return engine


def spans_on(cluster: WorkerCluster, files: Sequence[Path], root: Path | None) -> list[Task]:
    """Return the spans of all files in reading order; counting their lines means to read them, so workers do that."""
    parts = cluster.starmap(tasks_of, (([path], root) for path in files))
    return [task for tasks in parts for task in tasks]


def find_on(
    cluster: WorkerCluster,
    files: Sequence[Path],
    shape: Shape,
    settings: DedupeSettings,
    *,
    scratch: Path,
    watch: Watch = lambda _stage, _done, _total: None,
) -> tuple[RecordTable, Duplicates]:
    """Find what `curate.similarity.dedupe.find_duplicates` finds among the records of ``files``, in reading order, and
    return the records that are tied to another with it.

    Ids that repeat get -2, -3 and so on, where `find_duplicates` refuses them. ``scratch`` is a folder that all workers
    see; it takes about the size of the texts.

    Raises:
        CurateError: E904 for a file that is missing; E906 when ``scratch`` cannot hold it; E910 where an id so made is
            that of another record; E969 when a worker is lost; E974 when files change while they are read.
    """
    stamps = {path: stamp_of(path, file_name(path, None)) for path in files}
    tasks, about = spans_on(cluster, files, None), list[FileSummary]()
    written = cluster.starmap(partial(write_part, shape, scratch), ((at, *task) for at, task in enumerate(tasks)))
    for done, summary in enumerate(written, start=1):
        about.append(summary)
        watch("reading parts", done, len(tasks))
    method = method_of(settings)
    search = ClusterSearch(scratch, method, watch)
    parts, tied = {path: list[tuple[pl.DataFrame, FileSummary]]() for path in files}, search.tied()
    for at, ((path, _), summary) in enumerate(zip(tasks, about, strict=True)):
        parts[path].append((tied.filter(pl.col("part") == at).drop("row", "part"), summary))
    table = RecordTable(shape, None, [(path, FileColumns.joined(some, stamps[path])) for path, some in parts.items()])
    table.require_current()
    if made := search.known({*table.ids} - {*tied["id"]}):
        what = f"records whose ids repeat would be called as another one is: {console.one_line(made[0])}"
        raise CurateError("E910 repeated-id", what, "Give each record its own id; `curate validate` names them (S104).")
    search.ids = table.ids
    return table, found_by(search, method, num_untied=search.num_records - len(table))
