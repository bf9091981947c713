"""`curate dedupe --engine daft`: a folder of shards compared here or on a Ray cluster, and told like any other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.record import Record, Source

if TYPE_CHECKING:
    from curate.dedupe import Duplicates
    from curate.dedupe.find import Watch
    from curate.scale import Scaled
    from curate.settings import DedupeSettings
    from curate.workspace.loose import LooseFiles


@dataclass(frozen=True, slots=True)
class OnCluster:
    """Records of shards, of which the driver knows those that repeat something."""

    scaled: Scaled
    loose: LooseFiles
    rename: Callable[[str], str]

    @property
    def found(self) -> Duplicates:
        """Duplicates, conflicts and clusters."""
        return self.scaled.found

    def places(self, names: Collection[str]) -> dict[str, Source]:
        """Return where the records called ``names`` are, as the user calls the files."""
        return {name: self._told(self.scaled.sources[name]) for name in names}

    def records(self, names: Collection[str]) -> dict[str, Record]:
        """Read the lines of the records called ``names`` again."""
        places = {self.scaled.sources[name]: name for name in names}
        found = self.loose.named(places)
        gone = {name: Record(name, "instruction", place, {}) for place, name in places.items() if name not in found}
        return {name: replace(record, source=self._told(record.source)) for name, record in (found | gone).items()}

    def all_records(self) -> Iterator[Record]:
        """Read every record again, in the order of the files."""
        return (replace(record, source=self._told(record.source)) for record in self.loose)

    def _told(self, source: Source) -> Source:
        return Source(self.rename(source.file), source.line)


@contextmanager
def compared_on(paths: Sequence[Path], settings: DedupeSettings, ray_address: str, watch: Watch) -> Iterator[OnCluster]:
    """Compare the records of files, and of folders of shards, in the order of reading; yield what was found.

    Raises:
        click.UsageError: a path is a workspace, whose decisions only this machine knows.
        CurateError: E940 without the extra [scale]; E969 when no Ray cluster answers or a worker is lost; E904 or E908
            for a file that is missing or is not Parquet; E903 when no shipped shape fits.
    """
    # The engine is an extra.
    from curate.scale import find_on, joined, scratch_for, unpacked
    from curate.workspace.loose import LooseFiles

    files = _shards(paths)
    with joined(ray_address) as cluster, scratch_for(cluster, files) as scratch:
        readable, rename = unpacked(cluster, files, scratch)
        loose = LooseFiles(readable)
        scaled = find_on(cluster, readable, loose.shape, settings, scratch=scratch, namer=_names, watch=watch)
        loose.tell(scaled.num_findings)
        yield OnCluster(scaled, loose, rename)


def _shards(paths: Sequence[Path]) -> list[Path]:
    from curate.scale import shards_in
    from curate.settings import FILE_NAME

    files: list[Path] = []
    for path in paths or [Path()]:
        if (path / FILE_NAME).is_file():
            raise click.UsageError(
                "a workspace has decisions of people in it: name its record files, or --engine local"
            )
        files += shards_in(path) if path.is_dir() else [path]
    return list(dict.fromkeys(files))


def _names(ids: Sequence[str]) -> list[str]:
    """Return ``ids`` told apart as those of loose files are."""
    from curate.workspace import told_apart

    nowhere = Source("", 0)
    return [record.id for record in told_apart(Record(name, "instruction", nowhere, {}) for name in ids)]
