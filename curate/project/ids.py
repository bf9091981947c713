"""Which ids are in use: by records, by decisions, by the newest dataset and by the frozen test set."""

from __future__ import annotations

from pathlib import Path

from curate.base.console import spelled
from curate.base.file_guard import inside
from curate.base.record import Record
from curate.formats.dataset import latest, read_pins
from curate.project.data import DATASETS, ProjectData
from curate.project.golden import frozen_ids
from curate.project.journal import read_journal


def taken_ids(data: ProjectData, target: Path) -> set[str]:
    """Return the ids that rows of an import into the record file ``target`` cannot have: they are of other records.

    Raises:
        CurateError: as `ProjectData.read_lines` and `names_in_use`.
    """
    file, own, others = spelled(str(target.relative_to(data.root))), set[str](), set[str]()
    for item in data.read_lines() if data.matching_files() else ():
        if isinstance(item, Record):
            (own if item.source.file == file else others).add(item.id)
    return others | (names_in_use(data.root) - own)


def names_in_use(root: Path) -> frozenset[str]:
    """Return the ids that decisions name, and those that the newest dataset or the frozen test set holds.

    Raises:
        CurateError: E911 when the newest dataset is not what its manifest says; E913 and E980
            for a journal that cannot be read.
    """
    # A record without an id of its own is known by its content. If that changes it is another record: decisions on it
    # are lost, and what was a test record may be trained on.
    folder = latest(inside(root, root / DATASETS))
    decided = frozenset(event.id for event in read_journal(root)[0])
    return decided.union(read_pins(folder) if folder else (), frozen_ids(root))
