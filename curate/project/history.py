"""The decisions on one record in their causal order, and what they leave of each of its facets."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from curate.base.events import (
    FILE_SESSION,
    Add,
    Approve,
    Assign,
    Drop,
    Edit,
    Event,
    Label,
    Prefer,
    Resolve,
    Restore,
    Rewritten,
)
from curate.base.record import Json, canonical
from curate.project.answers import turned
from curate.project.proposals import touched_by_proposal

# A *facet* is what one decision can change and another can contradict: a key of the line, the split, whether the record
# is in, one annotator's answer to one question. It has the value of the last decision on it that nobody has taken back.
# Where two that did not see one another give a facet different values, both are kept as *sides* and the first one
# holds, until a later event that has seen both touches the facet, or one of them is taken back.
# ("record",), ("status",), ("split",), ("data", key), ("answer", question, annotator), ("resolved", question), or
# ("approved", content, annotator), which cannot be contradicted: an approval of other content is another facet. Nor can
# ("preferred", model, model, annotator) be: of two words of one person the first side holds; nor can
# ("text", was, now), that a rewrite makes, nor those of a proposal: ("proposal", event) is what it says, ("taken",
# event) and ("rejected", event) how it ended.
Facet = tuple[str, ...]
RECORD: Facet = ("record",)
STATUS: Facet = ("status",)
SPLIT: Facet = ("split",)

_UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class SeenEvents:
    """Which of the events before one its maker had seen: a bit for each index in the order."""

    bits: int
    indices: Mapping[str, int]
    """The index of each event, from 0."""
    num_before: int

    def __contains__(self, name: str) -> bool:
        index = self.indices.get(name, self.num_before)
        return index < self.num_before and bool(self.bits >> index & 1)


# Each event names the last events that its maker had seen; who had seen what follows from that, and from the order
# within a session. Events that did not see one another come in the order of session and number, the same on every
# machine; no clock has a part in it.


def in_causal_order(events: Sequence[Event]) -> Iterator[tuple[Event, SeenEvents]]:
    """Yield the events on one record in the order in which they count, each with the events that its maker had seen."""
    # Bits of a number stand for events: to unite what two of them had seen is a single operation.
    indices: dict[str, int] = {}
    known = sorted({event.event: event for event in events}.values(), key=_rank)
    ranks = {event.event: rank for rank, event in enumerate(known)}
    before, after = _causal_links(known, ranks)
    lacking = [len(needed) for needed in before]
    num_waiting = [len(later) for later in after]
    ready = [rank for rank, number in enumerate(lacking) if not number]
    rest = iter(range(len(known)))
    views: dict[int, int] = {}
    is_done = bytearray(len(known))
    for _ in known:
        # Only a forged journal has events that each claim to have seen the other.
        rank = heapq.heappop(ready) if ready else next(earlier for earlier in rest if not is_done[earlier])
        event, is_done[rank] = known[rank], True
        bits = 0
        for earlier in before[rank]:
            bits |= views.get(earlier, 0)
            # Each of these has a bit for every event before it, and mostly it is asked for once.
            num_waiting[earlier] -= 1
            if not num_waiting[earlier]:
                views.pop(earlier, None)
        index = len(indices)
        yield event, SeenEvents(bits, indices, index)
        indices[event.event] = index
        if num_waiting[rank]:
            views[rank] = bits | 1 << index
        for later in after[rank]:
            lacking[later] -= 1
            if not lacking[later] and not is_done[later]:
                heapq.heappush(ready, later)


def _causal_links(known: Sequence[Event], ranks: Mapping[str, int]) -> tuple[list[set[int]], list[list[int]]]:
    """Return for each event which ones have to come before it, and which after it."""
    before: list[set[int]] = []
    after: list[list[int]] = [[] for _ in known]
    last: dict[str, int] = {}
    for rank, event in enumerate(known):
        needed = {ranks[parent] for parent in event.decision.parents if parent in ranks} - {rank}
        if event.session in last:
            needed.add(last[event.session])
        last[event.session] = rank
        before.append(needed)
        for parent in needed:
            after[parent].append(rank)
    return before, after


def _rank(event: Event) -> tuple[str, int, str]:
    return event.session, event.seq, event.event


def frontier_of(events: Iterable[Event]) -> list[str]:
    """Return the last events on a record."""
    events = list(events)
    parents = {parent for event in events for parent in event.decision.parents}
    return [event.event for event in events if event.event not in parents]


def by_record(events: Iterable[Event]) -> dict[str, list[Event]]:
    """Return the events by the record they are on."""
    grouped: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        grouped[event.id].append(event)
    return grouped


@dataclass(frozen=True, slots=True)
class DecisionConflict:
    """One facet that decisions which did not see one another give different values; the first side holds."""

    record: str
    facet: Facet
    sides: tuple[tuple[Event, Json], ...]
    """Each with its value."""


@dataclass(frozen=True, slots=True)
class Touch:
    """The value that an event gives a facet, and the indices of the events that its maker had seen, as bits."""

    event: str
    value: Json
    seen_bits: int
    rank: tuple[str, int]
    """Of values that contradict one another the lowest rank holds: that of the lowest session."""


@dataclass(slots=True)
class AppliedEvent:
    """An event that was applied."""

    event: Event
    is_concurrent: bool = False
    """Whether its maker had not seen the event before it: two people worked at the same time."""
    touches: list[tuple[Facet, int]] = field(default_factory=list)
    """The facets that it gives a value, and its index."""
    facets: list[Facet] = field(default_factory=list)
    """The facets on which something changed."""
    root: str = ""
    """Of an undo: the event that is taken back, or done again, by it."""
    is_undoing: bool = False
    """Of an undo: whether it takes that back."""
    is_undone: bool = False
    is_held: bool = False
    """Whether it was made about another text than the record has, and so does nothing."""


class History:
    """The facets of one record as its decisions leave them, one after the other."""

    # A decision is in force unless it was taken back, by the last undo that is about it, however many undos of undos
    # lie between them. A facet has the value of the last decision in force: of the one whose maker had seen all others.

    def __init__(self) -> None:
        self.facts: dict[Facet, Json] = {}
        self.frontier: tuple[str, ...] = ()
        self.last_index: dict[Facet, int] = {}
        """When each facet was touched last by what is in force, counted in events."""
        self._steps: dict[str, AppliedEvent] = {}
        # By index in the order.
        self._touches: dict[Facet, dict[int, Touch]] = {}
        # Which of the touches are in force, as bits.
        self._in_force: dict[Facet, int] = {}
        # Those of them that no other has seen, the one that holds first.
        self._sides: dict[Facet, list[int]] = {}

    def apply(self, event: Event, seen_events: SeenEvents) -> AppliedEvent:
        """Apply ``event``, whose maker had seen the events ``seen_events``, and return what it did."""
        step = AppliedEvent(event, is_concurrent=bool(self._steps) and next(reversed(self._steps)) not in seen_events)
        self.pass_over(event, seen_events)
        self._steps[event.event] = step
        for facet, value in touched(event).items():
            self._touch(step, facet, value, seen_events)
        if event.of in self._steps and event.of != event.event:
            self._take_back(step, event.of, seen_events)
        return step

    def adder(self) -> Event:
        """Return the event that added the record."""
        return self._event_of(self._holder(RECORD))

    def authors(self) -> dict[str, str]:
        """Return who added the record and who gave each key its value, where decisions did, by their event."""
        events = [event for facet, event in self.holders().items() if facet[0] in ("record", "data")]
        return {event.event: event.by for event in events}

    def texts(self) -> dict[Facet, Sequence[str]]:
        """Return the digests of the texts that each answer and settlement in force holds for; most have none."""
        facets = [facet for facet in self._sides if facet[0] in ("answer", "resolved")]
        return {facet: texts for facet in facets if (texts := self._texts(self._holder(facet)))}

    def _texts(self, touch: Touch) -> Sequence[str]:
        decision = self._event_of(touch).decision
        return decision.texts if isinstance(decision, Label | Resolve) else ()

    def refuse(self, step: AppliedEvent) -> None:
        """Put back what ``step``, the last one, has changed: the line that it makes is not one."""
        for facet, index in step.touches:
            self._in_force[facet] &= ~(1 << index)
        if step.root:
            self._turn(step.root)
        for facet in step.facets:
            self._settle(facet)
        step.touches, step.facets = [], []

    def conflicts(self, record: str) -> Iterator[DecisionConflict]:
        """Yield the facets on which sides are left that do not agree."""
        for facet, indices in self._sides.items():
            if facet[0] == "preferred":
                continue
            sides = [self._touches[facet][index] for index in indices]
            if len({_gist(facet, side.value, self._texts(side)) for side in sides}) > 1:
                yield DecisionConflict(record, facet, tuple((self._event_of(side), side.value) for side in sides))
        yield from self._drop_against_edit(record)

    def _drop_against_edit(self, record: str) -> Iterator[DecisionConflict]:
        """Yield a drop with the edits by people that had not seen it, nor it them: is it out, or mended?"""
        drop = self._holder(STATUS) if STATUS in self._sides else None
        if drop is None or not drop.value:
            return
        edits: dict[str, Touch] = {}
        words = {index: self._touches[STATUS][index] for index in self._sides[STATUS]}
        for facet, (other, *_) in self._sides.items():
            touch = self._touches[facet][other]
            is_apart = not any(touch.seen_bits >> at & 1 or word.seen_bits >> other & 1 for at, word in words.items())
            if facet[0] == "data" and is_apart and not touch.rank[0].startswith(FILE_SESSION):
                edits[touch.event] = touch
        if edits:
            sides: list[tuple[Event, Json]] = [(self._event_of(touch), {}) for touch in edits.values()]
            yield DecisionConflict(record, STATUS, ((self._event_of(drop), drop.value), *sides))

    def holders(self) -> dict[Facet, Event]:
        """Return the event that gave each facet the value that it has."""
        return {facet: self._event_of(self._holder(facet)) for facet in self._sides}

    def pass_over(self, event: Event, seen_events: SeenEvents) -> None:
        """Note that whoever decides next has seen ``event``, which changes nothing."""
        self.frontier = (*(head for head in self.frontier if head not in seen_events), event.event)

    def knows(self, name: str) -> bool:
        """Whether the event ``name`` was applied here."""
        return name in self._steps

    def _event_of(self, touch: Touch) -> Event:
        return self._steps[touch.event].event

    def _put(self, facet: Facet, index: int, touch: Touch) -> None:
        self._touches.setdefault(facet, {})[index] = touch
        self._in_force[facet] = self._in_force.get(facet, 0) | 1 << index

    def _touch(self, step: AppliedEvent, facet: Facet, value: Json, seen_events: SeenEvents) -> None:
        event = step.event
        rank = (event.session, event.seq)
        self._put(facet, seen_events.num_before, Touch(event.event, value, seen_events.bits, rank))
        step.touches.append((facet, seen_events.num_before))
        step.facets.append(facet)
        self._settle(facet)

    def _take_back(self, step: AppliedEvent, name: str, seen_events: SeenEvents) -> None:
        """Take back the event ``name``, or do again what that has taken back."""
        undone = self._steps[name]
        step.root = undone.root or name
        facet = (_UNDONE, step.root)
        step.is_undoing = not undone.is_undoing
        self._put(facet, seen_events.num_before, Touch(step.event.event, step.is_undoing, seen_events.bits, ("", 0)))
        step.touches.append((facet, seen_events.num_before))
        for changed in self._turn(step.root):
            before = self._sides.get(changed)
            self._settle(changed)
            if self._sides.get(changed) != before:
                step.facets.append(changed)

    def _turn(self, root: str) -> list[Facet]:
        """See whether an event is taken back now, and return the facets that have to be settled anew."""
        facet, step = (_UNDONE, root), self._steps[root]
        is_undone = any(self._touches[facet][index].value for index in self._outermost(facet))
        if is_undone == step.is_undone:
            return []
        step.is_undone = is_undone
        for touched_, index in step.touches:
            self._in_force[touched_] ^= 1 << index
        return [touched_ for touched_, _ in step.touches]

    def _outermost(self, facet: Facet) -> list[int]:
        """Return the indices of the touches in force that no other of them has seen, the last one first."""
        # From the last touch back: all that it has seen is taken off at once, so that few are looked at.
        sides, rest = [], self._in_force[facet]
        while rest:
            index = rest.bit_length() - 1
            sides.append(index)
            rest &= ~(self._touches[facet][index].seen_bits | 1 << index)
        return sides

    def _settle(self, facet: Facet) -> None:
        """Find the sides of a facet, and the value that it has."""
        touches = self._touches[facet]
        sides = sorted(self._outermost(facet), key=lambda index: touches[index].rank)
        if not sides:
            for known in (self._sides, self.last_index, self.facts):
                known.pop(facet, None)
            return
        self._sides[facet] = sides
        self.last_index[facet] = max(sides) + 1
        self.facts[facet] = touches[sides[0]].value

    def _holder(self, facet: Facet) -> Touch:
        return self._touches[facet][self._sides[facet][0]]


def touched(event: Event) -> dict[Facet, Json]:
    """Return the facets that ``event`` gives a value, an undo apart."""
    return {**_touched_of_record(event), **touched_by_proposal(event)}


def _touched_of_record(event: Event) -> dict[Facet, Json]:
    match event.decision:
        case Add(record=record):
            return {RECORD: record}
        case Drop() as drop:
            return {STATUS: drop.fields}
        case Restore():
            return {STATUS: {}}
        case Assign(split=split):
            return {SPLIT: split}
        case Label(question=question, value=value):
            return {("answer", question, event.by): value}
        case Resolve(question=question, value=value):
            return {("resolved", question): value}
        case Approve(content=content):
            return {("approved", content, event.by): True}
        case Prefer() as word:
            return {("preferred", *word.between, event.by): [word.value, word.first, *word.texts]}
        case Edit(changes=changes):
            return {("data", key): value for key, value in changes.items()}
        case Rewritten(was=was, now=now):
            return {("text", was, now): True}
    return {}


def _gist(facet: Facet, value: Json, texts: Sequence[str] = ()) -> bytes:
    """Return what must be equal for two values to say the same; two reasons for leaving a record out do.

    ``texts`` are what an answer holds for: two that mean the same text may name other sides.
    """
    if texts and texts[0] > texts[-1]:
        return canonical(turned(value))
    return canonical(not value if facet == STATUS else value)
