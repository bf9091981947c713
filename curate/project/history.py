"""The decisions on one record in their causal order, and what they leave of each of its facets."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from curate.base.events import (
    AddEvent,
    AnyEvent,
    ApproveEvent,
    AssignEvent,
    DropEvent,
    EditEvent,
    Exclusion,
    LabelEvent,
    PreferEvent,
    ResolveEvent,
    RestoreEvent,
    UndoEvent,
    exclusion_by,
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
# those of a proposal: ("proposal", event) is what it says, ("taken", event) and ("rejected", event) how it ended.
Facet = tuple[str, ...]
RECORD: Facet = ("record",)
STATUS: Facet = ("status",)
SPLIT: Facet = ("split",)

_TAKEN_BACK: Any = object()
_FOLDED, _LIVE, _LAST = range(3)
_UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Fact:
    """The value of a facet in a snapshot, and the events that had given it that value.

    The first of the events is the one whose value it is; others have the same.
    """

    value: Json
    sides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecordSnapshot:
    """What `curate fold` sets down of one record's decisions: which there were, and what they left.

    ``events`` has the folded events in their order, ``apart`` those among them whose makers had not seen all before
    them, with what they had seen. ``facts`` has every facet that was touched, in the order of the last touch. The
    values of ("data", key) stand in the line as well; they are here so that a decision that had not seen them is known
    to contradict them. That of ("record",) is the digest of the line that was added.

    ``before`` has what folds have changed in the line: by key the value that stood there before the first of them, in a
    list that is empty where there was no such key. Of an added record that is every key. It is None for what versions
    before this one have folded: their decisions are not applied anew, see `curate.project.fold.history_of`.

    ``authors`` has, by event, who made those that what the line says comes from, ``texts`` the digests that answers
    hold for.
    """

    events: tuple[str, ...] = ()
    apart: Mapping[str, frozenset[str]] = field(default_factory=dict)
    facts: Mapping[Facet, Fact] = field(default_factory=dict)
    before: Mapping[str, Sequence[Json]] | None = None
    authors: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def frontier(self) -> tuple[str, ...]:
        """Return the folded events that no other of them has seen."""
        frontier: tuple[str, ...] = ()
        for name in self.events:
            ancestors = self.apart.get(name)
            frontier = (name,) if ancestors is None else (*(head for head in frontier if head not in ancestors), name)
        return frontier

    def is_behind(self, events: Sequence[AnyEvent]) -> bool:
        """Whether all ``events`` that are not folded were made on all that is, and take nothing of it back."""
        if not events:
            return True
        folded = set(self.events)
        whole = (1 << len(self.events)) - 1
        return all(
            seen_events.bits & whole == whole and not (isinstance(event, UndoEvent) and event.of in folded)
            for event, seen_events in in_causal_order(events, self)
        )


@dataclass(frozen=True, slots=True)
class SeenEvents:
    """Which of the events before one its maker had seen: a bit for each index in the order."""

    bits: int
    indices: Mapping[str, int]
    """The index of each event, from 0, the folded ones first."""
    num_before: int

    def __contains__(self, name: str) -> bool:
        index = self.indices.get(name, self.num_before)
        return index < self.num_before and bool(self.bits >> index & 1)

    @property
    def is_all(self) -> bool:
        """Whether nothing comes before that is not among them."""
        return self.bits.bit_count() == self.num_before


# Each event names the last events that its maker had seen; who had seen what follows from that, and from the order
# within a session. Events that did not see one another come in the order of session and number, the same on every
# machine; no clock has a part in it.


def in_causal_order(
    events: Sequence[AnyEvent], snapshot: RecordSnapshot | None = None
) -> Iterator[tuple[AnyEvent, SeenEvents]]:
    """Yield the events on one record in the order in which they count, each with the events that its maker had seen."""
    snapshot = snapshot or RecordSnapshot()
    # Bits of a number stand for events: to unite what two of them had seen is a single operation.
    indices = {name: index for index, name in enumerate(snapshot.events)}
    # Those that are folded, which a crash or a merge can leave in the journal, do not count again.
    known = sorted({event.event: event for event in events if event.event not in indices}.values(), key=_rank)
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
        for name in event.parents:
            if name in indices and name not in ranks:
                bits |= _bits_of_folded(name, indices, snapshot)
        index = len(indices)
        yield event, SeenEvents(bits, indices, index)
        indices[event.event] = index
        if num_waiting[rank]:
            views[rank] = bits | 1 << index
        for later in after[rank]:
            lacking[later] -= 1
            if not lacking[later] and not is_done[later]:
                heapq.heappush(ready, later)


def _causal_links(known: Sequence[AnyEvent], ranks: Mapping[str, int]) -> tuple[list[set[int]], list[list[int]]]:
    """Return for each event which ones have to come before it, and which after it."""
    before: list[set[int]] = []
    after: list[list[int]] = [[] for _ in known]
    last: dict[str, int] = {}
    for rank, event in enumerate(known):
        needed = {ranks[parent] for parent in event.parents if parent in ranks} - {rank}
        if event.session in last:
            needed.add(last[event.session])
        last[event.session] = rank
        before.append(needed)
        for parent in needed:
            after[parent].append(rank)
    return before, after


def _bits_of_folded(name: str, indices: Mapping[str, int], snapshot: RecordSnapshot) -> int:
    own = 1 << indices[name]
    ancestors = snapshot.apart.get(name)
    return own | (own - 1 if ancestors is None else sum(1 << indices[ancestor] for ancestor in ancestors))


def _rank(event: AnyEvent) -> tuple[str, int, str]:
    return event.session, event.seq, event.event


def frontier_of(events: Iterable[AnyEvent], snapshot: RecordSnapshot | None = None) -> list[str]:
    """Return the last events on a record, of those in the journal and those that were folded."""
    events = list(events)
    parents = {parent for event in events for parent in event.parents}
    folded = snapshot.frontier() if snapshot else ()
    return [*folded, *(event.event for event in events if event.event not in parents)]


def by_record(events: Iterable[AnyEvent]) -> dict[str, list[AnyEvent]]:
    """Return the events by the record they are on."""
    grouped: dict[str, list[AnyEvent]] = defaultdict(list)
    for event in events:
        grouped[event.id].append(event)
    return grouped


@dataclass(frozen=True, slots=True)
class DecisionConflict:
    """One facet that decisions which did not see one another give different values; the first side holds."""

    record: str
    facet: Facet
    sides: tuple[tuple[AnyEvent | None, Json], ...]
    """Each with its value; None stands for what was folded into the record files."""


@dataclass(frozen=True, slots=True)
class Touch:
    """The value that an event gives a facet, and the indices of the events that its maker had seen, as bits."""

    event: str
    value: Json
    seen_bits: int
    rank: tuple[int, str, int]
    """Of values that contradict one another the lowest rank holds: what was folded, else that of the lowest session."""


@dataclass(slots=True)
class AppliedEvent:
    """An event that was applied."""

    event: AnyEvent
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


class History:
    """The facets of one record as its decisions leave them, one after the other."""

    # A decision is in force unless it was taken back, by the last undo that is about it, however many undos of undos
    # lie between them. A facet has the value of the last decision in force: of the one whose maker had seen all others.

    def __init__(self, snapshot: RecordSnapshot | None = None) -> None:
        self.facts: dict[Facet, Json] = {}
        self.frontier: tuple[str, ...] = snapshot.frontier() if snapshot else ()
        self.last_index: dict[Facet, int] = {}
        """When each facet was touched last by what is in force, counted in events."""
        self.base = snapshot or RecordSnapshot()
        """What was there before the first decision that is applied."""
        self._apart: dict[str, SeenEvents] = {}
        self._steps: dict[str, AppliedEvent] = {}
        # By index in the order.
        self._touches: dict[Facet, dict[int, Touch]] = {}
        # Which of the touches are in force, as bits.
        self._in_force: dict[Facet, int] = {}
        # Those of them that no other has seen, the one that holds first.
        self._sides: dict[Facet, list[int]] = {}
        indices = {name: index for index, name in enumerate(self.base.events)}
        for facet, fact in self.base.facts.items():
            for number, name in enumerate(fact.sides):
                self._put(facet, indices[name], Touch(name, fact.value, 0, (_FOLDED, "", number)))
            self._settle(facet)

    def apply(self, event: AnyEvent, seen_events: SeenEvents) -> AppliedEvent:
        """Apply ``event``, whose maker had seen the events ``seen_events``, and return what it did."""
        step = AppliedEvent(event, is_concurrent=bool(self._steps) and next(reversed(self._steps)) not in seen_events)
        self.frontier = (*(head for head in self.frontier if head not in seen_events), event.event)
        if not seen_events.is_all:
            self._apart[event.event] = seen_events
        self._steps[event.event] = step
        if not isinstance(event, UndoEvent):
            for facet, value in touched(event).items():
                self._touch(step, facet, value, seen_events)
        elif event.of in self.base.events:
            self._contradict(step, event.of, seen_events)
        elif event.of in self._steps and event.of != event.event:
            self._take_back(step, event.of, seen_events)
        return step

    def adder(self) -> AnyEvent:
        """Return the event that added the record."""
        return self._steps[self._holder(RECORD).event].event

    def authors(self) -> dict[str, str]:
        """Return who added the record and who gave each key its value, where decisions did, by their event."""
        touches = [self._holder(facet) for facet in self._sides if facet[0] in ("record", "data")]
        names = sorted({touch.event for touch in touches if touch.value is not _TAKEN_BACK})
        known = self.base.authors
        return {
            name: self._steps[name].event.by if name in self._steps else known[name]
            for name in names
            if name in self._steps or name in known
        }

    def texts(self) -> dict[Facet, Sequence[str]]:
        """Return the digests of the texts that each answer and settlement in force holds for; most have none."""
        facets = [facet for facet in self._sides if facet[0] in ("answer", "resolved")]
        return {facet: texts for facet in facets if (texts := self._texts(self._holder(facet)))}

    def _texts(self, touch: Touch) -> Sequence[str]:
        step = self._steps.get(touch.event)
        event = step.event if step else None
        return event.texts if isinstance(event, LabelEvent | ResolveEvent) else self.base.texts.get(touch.event, ())

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
                yield DecisionConflict(
                    record,
                    facet,
                    tuple(
                        (self._steps[side.event].event if side.event in self._steps else None, _as_value(side.value))
                        for side in sides
                    ),
                )

    def snapshot(self) -> RecordSnapshot:
        """Return what is to be set down of the decisions once the record's line says what they make of it.

        No conflict may be left.
        """
        facts = {}
        for facet in sorted(self.last_index, key=lambda facet: self.last_index[facet]):
            sides = [self._touches[facet][index] for index in self._sides[facet]]
            value = _gist(facet, sides[0].value).decode() if facet == RECORD else sides[0].value
            facts[facet] = Fact(value, tuple(side.event for side in sides))
        names = (*self.base.events, *self._steps)
        apart = dict(self.base.apart)
        for index, name in enumerate(names):
            if name in self._apart:
                ancestors = frozenset(earlier for earlier in names[:index] if earlier in self._apart[name])
                if len(ancestors) < index:
                    apart[name] = ancestors
        # The sides have the value of the first one from now on, so that they hold for its texts as well.
        texts = {side: texts for facet, texts in self.texts().items() for side in facts[facet].sides}
        return RecordSnapshot(names, apart, facts, authors=self.authors(), texts=texts)

    def _put(self, facet: Facet, index: int, touch: Touch) -> None:
        self._touches.setdefault(facet, {})[index] = touch
        self._in_force[facet] = self._in_force.get(facet, 0) | 1 << index

    def _touch(
        self, step: AppliedEvent, facet: Facet, value: Json, seen_events: SeenEvents, *, unseen: int = 0
    ) -> None:
        event = step.event
        rank = (_LAST if value is _TAKEN_BACK else _LIVE, event.session, event.seq)
        self._put(facet, seen_events.num_before, Touch(event.event, value, seen_events.bits & ~unseen, rank))
        step.touches.append((facet, seen_events.num_before))
        step.facets.append(facet)
        self._settle(facet)

    def _contradict(self, step: AppliedEvent, folded: str, seen_events: SeenEvents) -> None:
        """Set the undo of a folded event against it: what stood there before is not known any more."""
        index = seen_events.indices[folded]
        for facet in [facet for facet, sides in self._sides.items() if sides == [index]]:
            if facet == RECORD:
                # The record has a line by now. To take back that it was added is to leave it out.
                self._touch(step, STATUS, Exclusion("its addition was taken back", version=1).status(), seen_events)
            else:
                self._touch(step, facet, _TAKEN_BACK, seen_events, unseen=1 << index)

    def _take_back(self, step: AppliedEvent, name: str, seen_events: SeenEvents) -> None:
        """Take back the event ``name``, or do again what that has taken back."""
        undone = self._steps[name]
        step.root = undone.root or name
        facet = (_UNDONE, step.root)
        step.is_undoing = not undone.is_undoing
        self._put(
            facet, seen_events.num_before, Touch(step.event.event, step.is_undoing, seen_events.bits, (_LIVE, "", 0))
        )
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
        holder = touches[sides[0]]
        # What stands in the line is read from the line: someone may have changed it there.
        is_in_line = holder.rank[0] == _FOLDED and facet[0] in ("data", "record")
        if is_in_line or holder.value is _TAKEN_BACK:
            self.facts.pop(facet, None)
        else:
            self.facts[facet] = holder.value

    def _holder(self, facet: Facet) -> Touch:
        return self._touches[facet][self._sides[facet][0]]


def touched(event: AnyEvent) -> dict[Facet, Json]:
    """Return the facets that ``event`` gives a value, an undo apart."""
    return {**_touched_of_record(event), **touched_by_proposal(event)}


def _touched_of_record(event: AnyEvent) -> dict[Facet, Json]:
    if isinstance(event, AddEvent):
        return {RECORD: event.record}
    if isinstance(event, DropEvent):
        return {STATUS: exclusion_by(event).status()}
    if isinstance(event, RestoreEvent):
        return {STATUS: [None, True]}
    if isinstance(event, AssignEvent):
        return {SPLIT: event.split}
    if isinstance(event, LabelEvent):
        return {("answer", event.question, event.by): event.value}
    if isinstance(event, ResolveEvent):
        return {("resolved", event.question): event.value}
    if isinstance(event, ApproveEvent):
        return {("approved", event.content, event.by): True}
    if isinstance(event, PreferEvent):
        return {("preferred", *event.between, event.by): [event.value, event.first, *event.texts]}
    return {("data", key): value for key, value in event.changes.items()} if isinstance(event, EditEvent) else {}


def _gist(facet: Facet, value: Json, texts: Sequence[str] = ()) -> bytes:
    """Return what must be equal for two values to say the same; two reasons for leaving a record out do.

    ``texts`` are what an answer holds for: two that mean the same text may name other sides.
    """
    if value is _TAKEN_BACK:
        return b"-"
    if texts and texts[0] > texts[-1]:
        return canonical(turned(value))
    if facet == RECORD:
        # As it was added, or the digest of that.
        return (
            value.encode() if isinstance(value, str) else blake2b(canonical(value), digest_size=16).hexdigest().encode()
        )
    return canonical(value[0] is None if facet == STATUS else value)


def _as_value(value: Json) -> Json:
    return None if value is _TAKEN_BACK else value
