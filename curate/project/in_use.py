"""Which records something hangs on by their id."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from curate.base.file_guard import inside
from curate.formats.dataset import latest, read_pins
from curate.project.journal import read_journal
from curate.project.snapshot import read_snapshot

_DATASETS = "dataset"


def names_in_use(root: Path) -> frozenset[str]:
    """Return the ids that decisions name, folded ones too, and those that the newest dataset holds.

    A record without an id of its own is known by its content. If that changes it is another record: decisions on it are
    lost, and what was a test record may be trained on.

    Raises:
        CurateError: E911 when the newest dataset is not what its manifest says; E913 for an event of a newer version.
    """
    folder = latest(inside(root, root / _DATASETS))
    decided = {event.id for event in read_journal(root)[0]}
    return frozenset(decided).union(read_snapshot(root).records, read_pins(folder) if folder else ())


def names_in_chains(root: Path) -> frozenset[str]:
    """Return the ids of records that people decided on in more than one sitting.

    What order those decisions are in is told by digests that begin with the record as it is in its file; if its line
    changes, the order is lost, and a record that was restored may be dropped again.

    Raises:
        CurateError: E913 for an event of a newer version.
    """
    sittings: dict[str, set[str]] = defaultdict(set)
    for event in read_journal(root)[0]:
        sittings[event.id].add(event.session)
    return frozenset(name for name, some in sittings.items() if len(some) > 1)
