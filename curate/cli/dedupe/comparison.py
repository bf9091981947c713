"""The records of a call compared, wherever they come from: a workspace, or files, by this process or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import numpy as np

from curate.base.record import CurateError, Record, Source
from curate.checks.runner.table import RecordTable, read_table
from curate.project.data import FILES_CHANGED, ProjectData
from curate.project.loose import loose_shape, tell_of_lines
from curate.project.records import Records
from curate.project.repeats import find_repeats
from curate.schema.settings import FILE_NAME, DedupeSettings
from curate.similarity.dedupe import Duplicates, Keep, Watch, find, method_of


@dataclass(frozen=True, slots=True)
class ComparedRecords:
    """What was found, and the way back to the records; ``rename`` calls files as the user does."""

    duplicates: Duplicates
    _records: Records
    """In the order of preference."""
    rename: Callable[[str], str] = str
    remarks: Sequence[str] = ()
    """What stood in the way of keeping what was read."""

    def sources(self, names: Collection[str]) -> dict[str, Source]:
        """Return where the records called ``names`` are."""
        some = self._records.where(names.__contains__)
        return dict(zip(some.ids, map(self._renamed, some.sources()), strict=True))

    def records(self, names: Collection[str]) -> dict[str, Record]:
        """Return the records called ``names``; one whose file has changed meanwhile has no texts."""
        some = self._records.where(names.__contains__)
        try:
            records = list(some)
        except CurateError as error:
            if error.code != FILES_CHANGED:
                raise
            records = [_read_if_there(some, number, name) for number, name in enumerate(some.ids)]
        return {record.id: replace(record, source=self._renamed(record.source)) for record in records}

    def all_records(self) -> Iterable[Record]:
        """Return every record in the order of preference."""
        return (replace(record, source=self._renamed(record.source)) for record in self._records)

    def _renamed(self, source: Source) -> Source:
        return Source(self.rename(source.file), source.line)


def _read_if_there(records: Records, number: int, name: str) -> Record:
    try:
        return records[number]
    except CurateError as error:
        if error.code != FILES_CHANGED:
            raise
        return Record(name, "instruction", records.source(number), {})


def compare_workspace(data: ProjectData, settings: DedupeSettings, keep: Keep, watch: Watch) -> ComparedRecords:
    """Compare the records of a workspace."""
    repeats = find_repeats(data, settings, keep=keep, watch=watch)
    return ComparedRecords(
        repeats.duplicates, repeats.records, str, data.lines.table.remarks if data.lines.table else ()
    )


def compare_files(files: list[Path], settings: DedupeSettings, watch: Watch) -> ComparedRecords:
    """Compare the records of files that belong to no workspace; nothing of them is kept."""
    table = read_table(files, loose_shape(files), None, on_progress=partial(watch, "reading bytes"))
    num_findings = len(table.findings())
    records = _all_of(table)
    duplicates = find(records.corpus(), method_of(settings), watch=watch)
    tell_of_lines(num_findings)
    return ComparedRecords(duplicates, records)


@contextmanager
def compare_on(
    paths: Sequence[Path], settings: DedupeSettings, address: str, watch: Watch
) -> Iterator[ComparedRecords]:
    """Compare the records of files, and of folders of shards, on a Ray cluster; yield what was found."""
    # The engine is an extra.
    from curate.scale import find_on, scratch_beside, unpacked
    from curate.scale.cluster import joined

    files = _shards(paths)
    with joined(address) as cluster, scratch_beside(files[0]) as scratch:
        readable, rename = unpacked(cluster, files, scratch)
        table, duplicates = find_on(cluster, readable, loose_shape(readable), settings, scratch=scratch, watch=watch)
        tell_of_lines(len(table.findings()))
        yield ComparedRecords(duplicates, _all_of(table), rename)


def _all_of(table: RecordTable) -> Records:
    return Records([], table, np.arange(len(table)))


def _shards(paths: Sequence[Path]) -> list[Path]:
    from curate.scale import shards_in

    files: list[Path] = []
    for path in paths or [Path()]:
        if (path / FILE_NAME).is_file():
            # Decisions lie in the journal of this machine, and the workers of a cluster read files alone.
            raise click.UsageError(
                "a workspace has decisions of people in it: name its record files, or leave out --ray"
            )
        files += shards_in(path) if path.is_dir() else [path]
    return list(dict.fromkeys(files))
