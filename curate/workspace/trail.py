"""The decisions on one record in their order, and what they leave of each of its facets.

A *facet* is what one decision can change and another can contradict: a key of the line, the split, whether the record
is in, one annotator's answer to one question. The order does not come from a clock. Each event names the last events
that its maker had seen; who saw what follows from that, and from the order within a sitting. Events that did not see
one another come in the order of session and number, which is the same on every machine.

Where two that did not see one another give a facet different values, both are kept as *sides* and the first one holds,
until a later event that has seen both touches the facet.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from curate.journal import Add, AnyEvent, Assign, Drop, Edit, Label, Resolve, Restore, Undo
from curate.record import Json, canonical

Facet = tuple[str, ...]
"""("record",), ("status",), ("split",), ("data", key), ("answer", question, annotator) or ("resolved", question)."""

RECORD: Facet = ("record",)
STATUS: Facet = ("status",)
SPLIT: Facet = ("split",)

_UNSET: Any = object()
_TAKEN_BACK: Any = object()


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

    def seen_by(self, name: str) -> set[str]:
        """Return which of the folded events the maker of one of them had seen."""
        return set(self.apart[name] if name in self.apart else self.events[: self.events.index(name)])

    def heads(self) -> tuple[str, ...]:
        """Return the folded events that no other of them has seen."""
        heads: tuple[str, ...] = ()
        for name in self.events:
            seen = self.apart.get(name)
            heads = (name,) if seen is None else (*(head for head in heads if head not in seen), name)
        return heads


@dataclass(frozen=True, slots=True)
class Conflict:
    """One facet that decisions which did not see one another give different values; the first side holds."""

    record: str
    facet: Facet
    sides: tuple[tuple[AnyEvent | None, Json], ...]
    """Each with its value; None stands for what was folded into the record files."""


@dataclass(frozen=True, slots=True)
class Found:
    """A facet as an event finds it: its value, whose it is, and the sides that stand against one another."""

    value: Json
    owner: str
    sides: Mapping[str, Json]
    place: int
    """When it was touched last, see `Trail.place`."""


@dataclass(slots=True)
class Step:
    """An event that was applied."""

    event: AnyEvent
    is_apart: bool = False
    """Whether its maker had not seen the event before it: two people worked at the same time."""
    before: dict[Facet, Found] = field(default_factory=dict)
    """What it found at each facet that it touches."""
    after: dict[Facet, str] = field(default_factory=dict)
    """Whose value stands there after it: not its own where it contradicts a side that holds."""


class Trail:
    """The facets of one record as its decisions leave them, one after the other."""

    def __init__(self, kept: Kept | None = None) -> None:
        self.facts: dict[Facet, Json] = {}
        self.heads: tuple[str, ...] = kept.heads() if kept else ()
        self.place: dict[Facet, int] = {}
        """When each facet was touched last, counted in events."""
        self.base = kept or Kept((), {}, {})
        """What was there before the first decision that is applied."""
        self._apart = dict(self.base.apart)
        self._owner: dict[Facet, str] = {}
        self._sides: dict[Facet, dict[str, Json]] = {}
        self._steps: dict[str, Step] = {}
        for place, (facet, held) in enumerate(self.base.facts.items(), start=1):
            self.place[facet] = place
            self._owner[facet] = held.sides[0]
            self._sides[facet] = dict.fromkeys(held.sides, held.value)
            # What stands in the line is read from the line: someone may have changed it there.
            if facet[0] not in ("data", "record"):
                self.facts[facet] = held.value

    def apply(self, event: AnyEvent, seen: set[str]) -> Step:
        """Apply ``event``, whose maker had seen the events ``seen``, and return what it did."""
        step = Step(event, is_apart=bool(self._steps) and next(reversed(self._steps)) not in seen)
        self.heads = (*(head for head in self.heads if head not in seen), event.event)
        earlier = {*self.base.events, *self._steps}
        if not earlier <= seen:
            self._apart[event.event] = frozenset(earlier & seen)
        if isinstance(event, Undo):
            self._take_back(step, event.of, seen)
        else:
            for facet, value in touched(event).items():
                self._touch(step, facet, value, event.event, seen)
        self._steps[event.event] = step
        return step

    def adder(self) -> AnyEvent:
        """Return the event that added the record."""
        return self._steps[self._owner[RECORD]].event

    def refuse(self, step: Step) -> None:
        """Put back what ``step``, the last one, has changed: the line that it makes is not one."""
        for facet, found in step.before.items():
            self._set(facet, found.value, found.owner)
            self._sides[facet] = dict(found.sides)
            self.place[facet] = found.place
        step.before.clear()
        step.after.clear()

    def conflicts(self, record: str) -> Iterator[Conflict]:
        """Yield the facets on which sides are left that do not agree."""
        for facet, sides in self._sides.items():
            if len({_gist(facet, value) for value in sides.values()}) > 1:
                holder = self._owner.get(facet, "")
                yield Conflict(
                    record,
                    facet,
                    tuple(
                        (self._steps[name].event if name in self._steps else None, _shown(value))
                        for name, value in sorted(sides.items(), key=lambda side: side[0] != holder)
                    ),
                )

    def kept(self) -> Kept:
        """Return what is to be kept of the decisions once the record's line says what they make of it.

        No conflict may be left.
        """
        facts = {}
        for facet in sorted(self.place, key=lambda facet: self.place[facet]):
            if sides := self._sides[facet]:
                owner = self._owner[facet]
                value = _gist(facet, sides[owner]).decode() if facet == RECORD else sides[owner]
                facts[facet] = Held(value, tuple(sorted(sides, key=lambda name: name != owner)))
        return Kept((*self.base.events, *self._steps), self._apart, facts)

    def _touch(self, step: Step, facet: Facet, value: Json, owner: str, seen: set[str]) -> None:
        self._note(step, facet)
        sides = {name: other for name, other in self._sides.get(facet, {}).items() if name not in seen}
        is_contradicted = any(_gist(facet, other) != _gist(facet, value) for other in sides.values())
        self._sides[facet] = {**sides, step.event.event: value}
        if not (is_contradicted and self._owner.get(facet, "") in sides):
            self._set(facet, value, owner)
        self.place[facet] = len(self.base.facts) + len(self._steps) + 1
        step.after[facet] = self._owner.get(facet, "")

    def _take_back(self, step: Step, name: str, seen: set[str]) -> None:
        """Give each facet that the undone step changed what stood there, unless someone has changed it since."""
        if name in self.base.events:
            self._contradict(step, name, seen)
        undone = self._steps.get(name)
        for facet, found in undone.before.items() if undone else ():
            assert undone is not None, "it was looked at"
            if self._owner.get(facet, "") != undone.after[facet]:
                continue
            self._note(step, facet)
            later = {name: value for name, value in self._sides[facet].items() if name != undone.event.event}
            self._sides[facet] = sides = {**found.sides, **later}
            if found.owner not in sides and sides:
                # What had contradicted it is what is left.
                owner, value = next(iter(sides.items()))
                self._set(facet, value, owner)
            else:
                self._set(facet, found.value, found.owner)
            self.place[facet] = found.place
            step.after[facet] = self._owner.get(facet, "")

    def _contradict(self, step: Step, folded: str, seen: set[str]) -> None:
        """Set the undo of a folded event against it: what stood there before is not known any more."""
        for facet in [facet for facet, sides in self._sides.items() if list(sides) == [folded]]:
            if facet == RECORD:
                # The record has a line by now. To take back that it was added is to leave it out.
                self._touch(step, STATUS, ["its addition was taken back", False], step.event.event, seen)
                continue
            self._note(step, facet)
            self._sides[facet][step.event.event] = _TAKEN_BACK
            step.after[facet] = self._owner[facet]

    def _note(self, step: Step, facet: Facet) -> None:
        sides = dict(self._sides.get(facet, {}))
        place = self.place.get(facet, 0)
        step.before[facet] = Found(self.facts.get(facet, _UNSET), self._owner.get(facet, ""), sides, place)

    def _set(self, facet: Facet, value: Json, owner: str) -> None:
        self._owner[facet] = owner
        if value is _UNSET:
            self.facts.pop(facet, None)
        else:
            self.facts[facet] = value


def touched(event: AnyEvent) -> dict[Facet, Json]:
    """Return the facets that ``event`` gives a value, an undo apart."""
    if isinstance(event, Add):
        return {RECORD: event.record}
    if isinstance(event, Drop):
        return {STATUS: [event.reason, False]}
    if isinstance(event, Restore):
        return {STATUS: [None, True]}
    if isinstance(event, Assign):
        return {SPLIT: event.split}
    if isinstance(event, Label):
        return {("answer", event.question, event.by): event.value}
    if isinstance(event, Resolve):
        return {("resolved", event.question): event.value}
    return {("data", key): value for key, value in event.changes.items()} if isinstance(event, Edit) else {}


def ordered(events: Sequence[AnyEvent], kept: Kept | None = None) -> Iterator[tuple[AnyEvent, set[str]]]:
    """Yield the events on one record in the order in which they count, each with the events that its maker had seen.

    Those that are folded, which a crash or a merge can leave in the journal, do not count again.
    """
    kept = kept or Kept((), {}, {})
    folded = frozenset(kept.events)
    events = [event for event in events if event.event not in folded] if folded else events
    known = {event.event: event for event in events}
    before: dict[str, set[str]] = {
        name: {one for one in event.parents if one in known} for name, event in known.items()
    }
    by_session: dict[str, list[AnyEvent]] = defaultdict(list)
    for event in sorted(known.values(), key=_rank):
        if earlier := by_session[event.session]:
            before[event.event].add(earlier[-1].event)
        by_session[event.session].append(event)
    after: dict[str, list[str]] = defaultdict(list)
    for name, needed in before.items():
        for one in needed:
            after[one].append(name)
    lacking = {name: len(needed) for name, needed in before.items()}
    ready = [(_rank(event), name) for name, event in known.items() if not lacking[name]]
    heapq.heapify(ready)
    seen: dict[str, set[str]] = {}
    while len(seen) < len(known):
        if not ready:
            # Only a forged journal has events that each claim to have seen the other.
            ready = [min((_rank(event), name) for name, event in known.items() if name not in seen)]
        _, name = heapq.heappop(ready)
        if name in seen:
            continue
        event = known[name]
        views = [seen[one] | {one} for one in before[name] if one in seen]
        views += [kept.seen_by(one) | {one} for one in event.parents if one in folded]
        seen[name] = set().union(*views)
        yield event, seen[name]
        for later in after[name]:
            lacking[later] -= 1
            if not lacking[later]:
                heapq.heappush(ready, (_rank(known[later]), later))


def _rank(event: AnyEvent) -> tuple[str, int]:
    return event.session, event.seq


def _gist(facet: Facet, value: Json) -> bytes:
    """Return what must be equal for two values to say the same; two reasons for leaving a record out do."""
    if value is _UNSET or value is _TAKEN_BACK:
        return b"" if value is _UNSET else b"-"
    if facet == RECORD:
        # As it was added, or the digest of that.
        return (
            value.encode() if isinstance(value, str) else blake2b(canonical(value), digest_size=16).hexdigest().encode()
        )
    return canonical(value[0] is None if facet == STATUS else value)


def _shown(value: Json) -> Json:
    return None if value is _UNSET or value is _TAKEN_BACK else value


def by_record(events: Iterable[AnyEvent]) -> dict[str, list[AnyEvent]]:
    """Return the events by the record they are on."""
    found: dict[str, list[AnyEvent]] = defaultdict(list)
    for event in events:
        found[event.id].append(event)
    return found
