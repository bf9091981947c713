"""What was done in a label session and stands: for its counts, its pace and the last few."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice, takewhile
from typing import Final, Literal

from curate.base.record import Json

QUALITY = "quality"  # A question of this name, if it is asked, has keys of its own beside any other.
FLAG: Final = "flag"
NOTE: Final = "note"
Kind = Literal["answered", "skipped", "flag", "note"]
_RECENT = 600.0  # Seconds that the pace is taken of.


@dataclass(frozen=True, slots=True)
class Done:
    """Something that was done in this session: to which record, on which question, with which answer."""

    record: str
    question: str
    value: Json = None  # None where the record was skipped.
    beginning: str = ""  # The first words of the record.
    at: float = field(default_factory=time.monotonic)

    @property
    def kind(self) -> Kind:
        """What it counts as."""
        if self.value is None:
            return "skipped"
        if self.question == FLAG:
            return "flag"
        return "note" if self.question == NOTE else "answered"


class DoneList:
    """What was done and stands, counted as it comes: to ask how many never walks over all of it."""

    def __init__(self) -> None:
        self._done: dict[int, Done] = {}
        self._numbers_of: defaultdict[str, list[int]] = defaultdict(list)
        self._counts: Counter[Kind] = Counter()
        self._numbers = count()
        self._began = time.monotonic()

    def __len__(self) -> int:
        return len(self._done)

    def __iter__(self) -> Iterator[Done]:
        return iter(self._done.values())

    def add(self, done: Done) -> None:
        """Count in what was done just now."""
        number = next(self._numbers)
        self._done[number] = done
        self._numbers_of[done.record].append(number)
        self._counts[done.kind] += 1

    def keep(self, record: str, stands: Callable[[Done], bool]) -> None:
        """Take out what was done to ``record`` and does not stand any more."""
        for number in self._numbers_of.pop(record, ()):
            if stands(self._done[number]):
                self._numbers_of[record].append(number)
            else:
                self._counts[self._done.pop(number).kind] -= 1

    def count(self, kind: Kind) -> int:
        """Return how many records were answered or skipped, or have got a flag or a note."""
        return self._counts[kind]

    def last(self, count: int) -> Sequence[Done]:
        """Return what was done last, the newest first."""
        return list(islice(reversed(self._done.values()), count))

    def pace(self) -> float | None:
        """Return answers a minute over the last ten minutes; None before there are two."""
        now = time.monotonic()
        recent = takewhile(lambda done: done.at > now - _RECENT, reversed(self._done.values()))
        num = sum(done.kind == "answered" for done in recent)
        return 60 * num / max(min(now - self._began, _RECENT), 1.0) if num >= 2 else None
