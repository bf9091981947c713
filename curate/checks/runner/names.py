"""What records are called where ids repeat, and which of them have a name that a decision may be on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from curate.base.record import Record

# The number that an id gets where it repeats.
_NUMBERED = re.compile(r"-(?:[2-9]|[1-9][0-9]+)\Z")


class UniqueNames:
    """Names records by their ids in reading order; ids that repeat get the suffixes -2, -3 and so on."""

    # A repeated id of a record's own is an error (S104) that validation reports; ids made from content repeat with it.

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._taken: set[str] = set()

    def name(self, own_id: str) -> str:
        """Return the name of the next record, whose id is ``own_id``."""
        count = self._counts.get(own_id, 0) + 1
        name = own_id if count == 1 else f"{own_id}-{count}"
        while name in self._taken:
            count += 1
            name = f"{own_id}-{count}"
        self._counts[own_id] = count
        self._taken.add(name)
        return name

    def rename(self, record: Record) -> Record:
        """Return the next record under its name."""
        name = self.name(record.id)
        return record if name == record.id else replace(record, id=name)


def with_unique_ids(records: Iterable[Record]) -> Iterator[Record]:
    """Yield records under names of their own, as `UniqueNames` gives them."""
    return map(UniqueNames().rename, records)


# A name depends on the records before it, which a worker that examines a part of a file does not know. So spans are
# examined wherever there is room, and the few records whose names matter, because a decision may be on them, come back
# to the process that reads all spans in order.


@dataclass(frozen=True, slots=True)
class WatchedIds:
    """The ids of records on which a decision may be. It can be pickled."""

    ids: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str]) -> WatchedIds:
        """Return the ids that records of these ``names`` can have: the name itself, or that without its number."""
        ids: set[str] = set()
        stems = set(names)
        while stems - ids:
            ids |= stems
            stems = {_NUMBERED.sub("", name) for name in stems}
        return cls(frozenset(ids))

    def can_displace(self, own_id: str) -> bool:
        """Whether a record with this id may take the name that one with a watched id would have got."""
        # It is asked of every line, so that any end after a dash passes for a number: more than needed does no harm.
        return own_id.rpartition("-")[0] in self.ids
