"""Record files that belong to no workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from curate.base import console
from curate.base.record import CurateError, Finding, Record, Source
from curate.checks.runner import read_records
from curate.checks.runner.names import with_unique_ids
from curate.jsonl import Entry, Reader, read_entries
from curate.schema import Shape, guess_shape, load_shape
from curate.schema.settings import read_settings

_SAMPLE = 100


class LooseFiles:
    """Files read with the shipped shape that fits their first lines, one record at a time and as often as asked."""

    def __init__(self, files: Sequence[Path]) -> None:
        """Look at the first lines of ``files``.

        Raises:
            CurateError: E903 when no shipped shape fits; E904 when a file is missing.
        """
        shape = shape_for(files)
        if shape is None:
            raise CurateError(
                "E903 bad-schema",
                f"no shipped shape fits the first lines of {', '.join(map(str, files))}",
                "Import the files into a workspace with `curate init DIR --from FILE`.",
            )
        self.files = files
        self.shape = shape
        self.num_findings = 0
        """Findings about lines in the last reading."""

    def __iter__(self) -> Iterator[Record]:
        """Yield the records, each with an id of its own, and count what is not one."""
        self.num_findings = 0
        return with_unique_ids(self._records())

    def _records(self) -> Iterator[Record]:
        for item in read_records(self.files, self.shape):
            if isinstance(item, Record):
                yield item
            else:
                self.num_findings += 1

    def tell(self, num_findings: int) -> None:
        """Say on stderr how many findings there are about the lines, if any."""
        if num_findings:
            console.talk(f"warning: {num_findings:,} findings about the lines; see them with `curate validate`")

    def named(self, names_by_source: Mapping[Source, str]) -> dict[str, Record]:
        """Read the lines at ``names_by_source`` again and return their records by the names that are given for them."""
        records: dict[str, Record] = {}
        # Lines are read again and not held: the files may be larger than memory.
        for path in self.files:
            reader = Reader(path)
            names = {source.line: name for source, name in names_by_source.items() if source.file == reader.name}
            last = max(names, default=0)
            for line in reader.lines() if names else ():
                if isinstance(line, Finding) or line[0] not in names:
                    continue
                entry = reader.entry(line)
                if isinstance(entry, Entry) and self.shape.is_valid(entry.value):
                    name = names[line[0]]
                    records[name] = replace(self.shape.record(entry.value, entry.line.source), id=name)
                if line[0] >= last:
                    break
        return records


def shape_for(files: Sequence[Path], root: Path | None = None) -> Shape | None:
    """Return the shape of the workspace ``root``, else the shipped one that fits the first lines of ``files``, if any.

    Raises:
        CurateError: E902 and E903 for the settings and the schema of the workspace; E904 when a file is missing.
    """
    if root:
        return load_shape(read_settings(root).schema_, root)
    entries = (item for path in files for item in islice(read_entries(path), _SAMPLE))
    name = guess_shape([item.value for item in entries if isinstance(item, Entry)])
    return load_shape(name) if name else None


def loose_records(files: Sequence[Path]) -> list[Record]:
    """Read ``files`` with the shipped shape that fits their first lines, and say which lines are not records.

    Raises:
        CurateError: E903 when no shipped shape fits; E904 when a file is missing.
    """
    loose = LooseFiles(files)
    records = list(loose)
    loose.tell(loose.num_findings)
    return records
