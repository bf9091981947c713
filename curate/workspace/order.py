"""The order of the decisions on one record, and what the maker of each had seen; no clock has a part in it.

Each event names the last events that its maker had seen; who saw what follows from that, and from the order within a
sitting. Events that did not see one another come in the order of session and number, which is the same on every
machine.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from curate.journal import AnyEvent
from curate.record import Json

Facet = tuple[str, ...]
"""("record",), ("status",), ("split",), ("data", key), ("answer", question, annotator) or ("resolved", question)."""


@dataclass(frozen=True, slots=True)
class Held:
    """A facet's value as a fold into the record files has found it, and the events that had given it that value.

    The first of the events is the one whose value it is; others have the same.
    """

    value: Json
    sides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a fold into the record files has kept of one record's decisions: which there were, and what they left.

    ``events`` has the folded events in their order, ``apart`` those among them whose makers had not seen all before
    them, with what they had seen. ``facts`` has every facet that was touched, in the order of the last touch. The
    values of ("data", key) stand in the line as well; they are here so that a decision that had not seen them is known
    to contradict them. That of ("record",) is the digest of the line that was added.
    """

    events: tuple[str, ...]
    apart: Mapping[str, frozenset[str]]
    facts: Mapping[Facet, Held]

    def heads(self) -> tuple[str, ...]:
        """Return the folded events that no other of them has seen."""
        heads: tuple[str, ...] = ()
        for name in self.events:
            seen = self.apart.get(name)
            heads = (name,) if seen is None else (*(head for head in heads if head not in seen), name)
        return heads


@dataclass(frozen=True, slots=True)
class Seen:
    """Which of the events before one its maker had seen: a bit for each place in the order."""

    bits: int
    places: Mapping[str, int]
    """The place of each event, from 0, the folded ones first."""
    num_before: int

    def __contains__(self, name: str) -> bool:
        place = self.places.get(name, self.num_before)
        return place < self.num_before and bool(self.bits >> place & 1)

    @property
    def is_all(self) -> bool:
        """Whether nothing comes before that is not among them."""
        return self.bits.bit_count() == self.num_before


def ordered(events: Sequence[AnyEvent], kept: Kept | None = None) -> Iterator[tuple[AnyEvent, Seen]]:
    """Yield the events on one record in the order in which they count, each with the events that its maker had seen.

    Those that are folded, which a crash or a merge can leave in the journal, do not count again.
    """
    kept = kept or Kept((), {}, {})
    places = {name: place for place, name in enumerate(kept.events)}
    known = sorted({event.event: event for event in events if event.event not in places}.values(), key=_rank)
    ranks = {event.event: rank for rank, event in enumerate(known)}
    before, after = _neighbours(known, ranks)
    lacking = [len(needed) for needed in before]
    num_waiting = [len(later) for later in after]
    ready = [rank for rank, number in enumerate(lacking) if not number]
    rest = iter(range(len(known)))
    views: dict[int, int] = {}
    is_done = bytearray(len(known))
    for _ in known:
        # Only a forged journal has events that each claim to have seen the other.
        rank = heapq.heappop(ready) if ready else next(one for one in rest if not is_done[one])
        event, is_done[rank] = known[rank], True
        bits = 0
        for one in before[rank]:
            bits |= views.get(one, 0)
            # Each of these has a bit for every event before it, and mostly it is asked for once.
            num_waiting[one] -= 1
            if not num_waiting[one]:
                views.pop(one, None)
        for name in event.parents:
            if name in places and name not in ranks:
                bits |= _folded_view(name, places, kept)
        place = len(places)
        yield event, Seen(bits, places, place)
        places[event.event] = place
        if num_waiting[rank]:
            views[rank] = bits | 1 << place
        for later in after[rank]:
            lacking[later] -= 1
            if not lacking[later] and not is_done[later]:
                heapq.heappush(ready, later)


def _neighbours(known: Sequence[AnyEvent], ranks: Mapping[str, int]) -> tuple[list[set[int]], list[list[int]]]:
    """Return for each event which ones have to come before it, and which after it."""
    before: list[set[int]] = []
    after: list[list[int]] = [[] for _ in known]
    last: dict[str, int] = {}
    for rank, event in enumerate(known):
        needed = {ranks[one] for one in event.parents if one in ranks} - {rank}
        if event.session in last:
            needed.add(last[event.session])
        last[event.session] = rank
        before.append(needed)
        for one in needed:
            after[one].append(rank)
    return before, after


def _folded_view(name: str, places: Mapping[str, int], kept: Kept) -> int:
    own = 1 << places[name]
    seen = kept.apart.get(name)
    return own | (own - 1 if seen is None else sum(1 << places[one] for one in seen))


def _rank(event: AnyEvent) -> tuple[str, int, str]:
    return event.session, event.seq, event.event


def heads_of(events: Iterable[AnyEvent], kept: Kept | None = None) -> list[str]:
    """Return the last events on a record, of those in the journal and those that were folded."""
    events = list(events)
    seen = {parent for event in events for parent in event.parents}
    folded = kept.heads() if kept else ()
    return [*folded, *(event.event for event in events if event.event not in seen)]


def by_record(events: Iterable[AnyEvent]) -> dict[str, list[AnyEvent]]:
    """Return the events by the record they are on."""
    found: dict[str, list[AnyEvent]] = defaultdict(list)
    for event in events:
        found[event.id].append(event)
    return found
