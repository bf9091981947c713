"""What records are called where ids repeat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from curate.base.record import Record


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
