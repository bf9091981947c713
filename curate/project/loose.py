"""Record files that belong to no workspace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from curate.base import console
from curate.base.record import CurateError, Record
from curate.checks.runner import read_records
from curate.checks.runner.names import with_unique_ids
from curate.jsonl import Entry, read_entries
from curate.schema import Shape, guess_shape, load_shape
from curate.schema.settings import read_settings

_SAMPLE = 100


def loose_shape(files: Sequence[Path]) -> Shape:
    """Return the shipped shape that fits the first lines of ``files``.

    Raises:
        CurateError: E903 when none fits; E904 when a file is missing.
    """
    shape = shape_for(files)
    if shape is None:
        raise CurateError(
            "E903 bad-schema",
            f"no shipped shape fits the first lines of {', '.join(map(str, files))}",
            "Import the files into a workspace with `curate init DIR FILE`.",
        )
    return shape


def tell_of_lines(num_findings: int) -> None:
    """Say on stderr how many findings there are about lines, if any."""
    if num_findings:
        console.talk(f"warning: {num_findings:,} findings about the lines; see them with `curate validate`")


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
    items = list(read_records(files, loose_shape(files)))
    records = [item for item in items if isinstance(item, Record)]
    tell_of_lines(len(items) - len(records))
    return list(with_unique_ids(records))
