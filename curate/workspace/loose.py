"""Record files that belong to no workspace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from curate import say
from curate.door import Entry, read_entries
from curate.record import CurateError, Record
from curate.shape import guess_shape, load_shape
from curate.validate import read_records
from curate.workspace import told_apart

_SAMPLE = 100


def loose_records(files: Sequence[Path]) -> list[Record]:
    """Read ``files`` with the shipped shape that fits their first lines, and say which lines are not records.

    Raises:
        CurateError: E903 when no shipped shape fits; E904 when a file is missing.
    """
    sample = [item.value for path in files for item in islice(read_entries(path), _SAMPLE) if isinstance(item, Entry)]
    name = guess_shape(sample)
    if name is None:
        raise CurateError(
            "E903 bad-schema",
            f"no shipped shape fits the first lines of {', '.join(map(str, files))}",
            "Import the files into a workspace with `curate init DIR --from FILE`.",
        )
    items = list(read_records(files, load_shape(name)))
    records = [item for item in items if isinstance(item, Record)]
    if len(records) < len(items):
        say.talk(f"warning: {len(items) - len(records):,} findings about the lines; see them with `curate validate`")
    return list(told_apart(records))
