"""The records of a call, wherever they come from, compared: a workspace in memory, or files read as a stream, by this
process or by daft."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
from platformdirs import user_cache_path

from curate.base.file_guard import open_file
from curate.base.record import Record, Source
from curate.project.data import ProjectData
from curate.project.loose import LooseFiles
from curate.project.records import Records
from curate.project.repeats import STAGED_FROM, stages_in
from curate.schema.settings import FILE_NAME, DedupeSettings, root_of
from curate.similarity.dedupe import Duplicates, Keep, find_in_stream
from curate.similarity.dedupe.corpus import Corpus
from curate.similarity.dedupe.near import Watch
from curate.similarity.dedupe.stages import Stages


@dataclass(frozen=True, slots=True)
class InMemory:
    """The records of a workspace."""

    duplicates: Duplicates
    _records: Records
    """In the order of preference."""

    def sources(self, names: Collection[str]) -> dict[str, Source]:
        """Return where the records called ``names`` are."""
        some = self._records.where(names.__contains__)
        return dict(zip(some.ids, some.sources(), strict=True))

    def records(self, names: Collection[str]) -> dict[str, Record]:
        """Return the records called ``names``."""
        return {record.id: record for record in self._records.where(names.__contains__)}

    def all_records(self) -> Iterable[Record]:
        """Return every record in the order of preference."""
        return self._records


@dataclass(frozen=True, slots=True)
class Streamed:
    """The records of loose files, of which only numbers were kept; ``rename`` calls files as the user does."""

    duplicates: Duplicates
    corpus: Corpus
    loose: LooseFiles
    rename: Callable[[str], str] = str
    _rows: dict[str, int] = field(default_factory=dict)

    def sources(self, names: Collection[str]) -> dict[str, Source]:
        """Return where the records called ``names`` are."""
        return {name: self._renamed(source) for name, source in self._sources(names).items()}

    def records(self, names: Collection[str]) -> dict[str, Record]:
        """Read the lines of the records called ``names`` again; a line that is gone meanwhile has no texts."""
        sources = self._sources(names)
        present = self.loose.named({source: name for name, source in sources.items()})
        gone = {
            name: Record(name, "instruction", source, {}) for name, source in sources.items() if name not in present
        }
        return {name: replace(record, source=self._renamed(record.source)) for name, record in (present | gone).items()}

    def all_records(self) -> Iterable[Record]:
        """Read every record again, in the order of the files."""
        return (replace(record, source=self._renamed(record.source)) for record in self.loose)

    def _sources(self, names: Collection[str]) -> dict[str, Source]:
        if not self._rows:
            self._rows.update((name, row) for row, name in enumerate(self.corpus.ids))
        return {name: self.corpus.source(self._rows[name]) for name in names}

    def _renamed(self, source: Source) -> Source:
        return Source(self.rename(source.file), source.line)


# What was found, and the way back to the records.
ComparedRecords = InMemory | Streamed


def compare_workspace(
    data: ProjectData, settings: DedupeSettings, keep: Keep, watch: Watch, *, is_staged: bool
) -> tuple[InMemory, Stages]:
    """Compare the records of a workspace."""
    from curate.project.repeats import find_repeats

    repeats = find_repeats(data, settings, keep=keep, watch=watch, is_staged=is_staged)
    return InMemory(repeats.duplicates, repeats.records), repeats.stages


def compare_files(
    files: list[Path], settings: DedupeSettings, watch: Watch, *, is_staged: bool
) -> tuple[Streamed, Stages]:
    """Compare the records of files that belong to no workspace."""
    loose, num_bytes = LooseFiles(files), _num_bytes(files)
    stages = _stages_for(files[0], num_bytes if is_staged else 0)
    corpus, duplicates, known = find_in_stream(
        lambda: loose,
        _digests([loose.shape.path, *files], watch) if stages.folder else (),
        num_bytes,
        settings,
        stages=stages,
        watch=watch,
        known=lambda: {"num_findings": loose.num_findings},
    )
    # A call that resumes reads no record, and has their number from the stages.
    loose.tell(int(known["num_findings"]))
    return Streamed(duplicates, corpus, loose), stages


@contextmanager
def compare_on(paths: Sequence[Path], settings: DedupeSettings, ray_address: str, watch: Watch) -> Iterator[Streamed]:
    """Compare the records of files, and of folders of shards, by daft; yield what was found."""
    # The engine is an extra.
    from curate.scale import find_on, scratch_for, unpacked
    from curate.scale.cluster import joined

    files = _shards(paths)
    with joined(ray_address) as cluster, scratch_for(cluster, files) as scratch:
        readable, rename = unpacked(cluster, files, scratch)
        loose = LooseFiles(readable)
        scaled = find_on(cluster, readable, loose.shape, settings, scratch=scratch, watch=watch)
        loose.tell(scaled.num_findings)
        yield Streamed(scaled.duplicates, scaled.corpus, loose, rename)


def _shards(paths: Sequence[Path]) -> list[Path]:
    from curate.scale import shards_in

    files: list[Path] = []
    for path in paths or [Path()]:
        if (path / FILE_NAME).is_file():
            # Decisions lie in the journal of this machine, and the workers of a cluster read files alone.
            raise click.UsageError(
                "a workspace has decisions of people in it: name its record files, or --engine local"
            )
        files += shards_in(path) if path.is_dir() else [path]
    return list(dict.fromkeys(files))


def _num_bytes(files: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _stages_for(path: Path, num_bytes: int) -> Stages:
    """Return the stages kept in the workspace that a file is in, else those of the user."""
    if root := root_of(path.resolve()):
        return stages_in(root, num_bytes)
    stages = Stages(user_cache_path("pairsmith") / "dedupe" if num_bytes >= STAGED_FROM else None)
    stages.sweep()
    return stages


def _digests(files: list[Path], watch: Watch) -> tuple[tuple[str, str], ...]:
    """Return the name and the SHA-256 of each file, 0.8 s a gigabyte."""
    digests = []
    for number, path in enumerate(files):
        # The digests are the key of the stages: a file that was changed in place must not be resumed from.
        watch("digesting files", number, len(files))
        with open_file(path) as file:
            digests.append((str(path), hashlib.file_digest(file, "sha256").hexdigest()))
    return tuple(digests)
