"""The decisions on one record in their order, and what they leave of each of its facets.

A *facet* is what one decision can change and another can contradict: a key of the line, the split, whether the record
is in, one annotator's answer to one question. It has the value of the last decision on it that nobody has taken back.

Where two that did not see one another give a facet different values, both are kept as *sides* and the first one holds,
until a later event that has seen both touches the facet, or one of them is taken back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from curate.journal import Add, AnyEvent, Assign, Drop, Edit, Label, Resolve, Restore, Undo
from curate.record import Json, canonical
from curate.workspace.exclusion import Exclusion, exclusion_by
from curate.workspace.order import Facet, Held, Kept, Seen

RECORD: Facet = ("record",)
STATUS: Facet = ("status",)
SPLIT: Facet = ("split",)

_TAKEN_BACK: Any = object()
_FOLDED, _LIVE, _LAST = range(3)
_UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class Conflict:
    """One facet that decisions which did not see one another give different values; the first side holds."""

    record: str
    facet: Facet
    sides: tuple[tuple[AnyEvent | None, Json], ...]
    """Each with its value; None stands for what was folded into the record files."""


@dataclass(frozen=True, slots=True)
class Touch:
    """The value that an event gives a facet, and the places of the events that its maker had seen, as bits."""

    event: str
    value: Json
    seen: int
    rank: tuple[int, str, int]
    """Of values that contradict one another the lowest rank holds: what was folded, else that of the lowest session."""


@dataclass(slots=True)
class Step:
    """An event that was applied."""

    event: AnyEvent
    is_apart: bool = False
    """Whether its maker had not seen the event before it: two people worked at the same time."""
    touches: list[tuple[Facet, int]] = field(default_factory=list)
    """The facets that it gives a value, and its place."""
    facets: list[Facet] = field(default_factory=list)
    """The facets on which something changed."""
    root: str = ""
    """Of an undo: the event that is taken back, or done again, by it."""
    is_undoing: bool = False
    """Of an undo: whether it takes that back."""
    is_undone: bool = False


class Trail:
    """The facets of one record as its decisions leave them, one after the other.

    A decision is in force unless it was taken back, by the last undo that is about it, however many undos of undos lie
    between them. A facet has the value of the last decision in force: of the one whose maker had seen all others.
    """

    def __init__(self, kept: Kept | None = None) -> None:
        self.facts: dict[Facet, Json] = {}
        self.heads: tuple[str, ...] = kept.heads() if kept else ()
        self.place: dict[Facet, int] = {}
        """When each facet was touched last by what is in force, counted in events."""
        self.base = kept or Kept((), {}, {})
        """What was there before the first decision that is applied."""
        self._apart: dict[str, Seen] = {}
        self._steps: dict[str, Step] = {}
        self._touches: dict[Facet, dict[int, Touch]] = {}
        """By place in the order."""
        self._in_force: dict[Facet, int] = {}
        """Which of the touches are in force, as bits."""
        self._sides: dict[Facet, list[int]] = {}
        """Those of them that no other has seen, the one that holds first."""
        places = {name: place for place, name in enumerate(self.base.events)}
        for facet, held in self.base.facts.items():
            for number, name in enumerate(held.sides):
                self._put(facet, places[name], Touch(name, held.value, 0, (_FOLDED, "", number)))
            self._settle(facet)

    def apply(self, event: AnyEvent, seen: Seen) -> Step:
        """Apply ``event``, whose maker had seen the events ``seen``, and return what it did."""
        step = Step(event, is_apart=bool(self._steps) and next(reversed(self._steps)) not in seen)
        self.heads = (*(head for head in self.heads if head not in seen), event.event)
        if not seen.is_all:
            self._apart[event.event] = seen
        self._steps[event.event] = step
        if not isinstance(event, Undo):
            for facet, value in touched(event).items():
                self._touch(step, facet, value, seen)
        elif event.of in self.base.events:
            self._contradict(step, event.of, seen)
        elif event.of in self._steps and event.of != event.event:
            self._take_back(step, event.of, seen)
        return step

    def adder(self) -> AnyEvent:
        """Return the event that added the record."""
        return self._steps[self._holder(RECORD).event].event

    def refuse(self, step: Step) -> None:
        """Put back what ``step``, the last one, has changed: the line that it makes is not one."""
        for facet, place in step.touches:
            self._in_force[facet] &= ~(1 << place)
        if step.root:
            self._turn(step.root)
        for facet in step.facets:
            self._settle(facet)
        step.touches, step.facets = [], []

    def conflicts(self, record: str) -> Iterator[Conflict]:
        """Yield the facets on which sides are left that do not agree."""
        for facet, places in self._sides.items():
            sides = [self._touches[facet][place] for place in places]
            if len({_gist(facet, side.value) for side in sides}) > 1:
                yield Conflict(
                    record,
                    facet,
                    tuple(
                        (self._steps[side.event].event if side.event in self._steps else None, _shown(side.value))
                        for side in sides
                    ),
                )

    def kept(self) -> Kept:
        """Return what is to be kept of the decisions once the record's line says what they make of it.

        No conflict may be left.
        """
        facts = {}
        for facet in sorted(self.place, key=lambda facet: self.place[facet]):
            sides = [self._touches[facet][place] for place in self._sides[facet]]
            value = _gist(facet, sides[0].value).decode() if facet == RECORD else sides[0].value
            facts[facet] = Held(value, tuple(side.event for side in sides))
        names = (*self.base.events, *self._steps)
        apart = dict(self.base.apart)
        for place, name in enumerate(names):
            if name in self._apart:
                seen = frozenset(one for one in names[:place] if one in self._apart[name])
                if len(seen) < place:
                    apart[name] = seen
        return Kept(names, apart, facts)

    def _put(self, facet: Facet, place: int, touch: Touch) -> None:
        self._touches.setdefault(facet, {})[place] = touch
        self._in_force[facet] = self._in_force.get(facet, 0) | 1 << place

    def _touch(self, step: Step, facet: Facet, value: Json, seen: Seen, *, unseen: int = 0) -> None:
        event = step.event
        rank = (_LAST if value is _TAKEN_BACK else _LIVE, event.session, event.seq)
        self._put(facet, seen.num_before, Touch(event.event, value, seen.bits & ~unseen, rank))
        step.touches.append((facet, seen.num_before))
        step.facets.append(facet)
        self._settle(facet)

    def _contradict(self, step: Step, folded: str, seen: Seen) -> None:
        """Set the undo of a folded event against it: what stood there before is not known any more."""
        place = seen.places[folded]
        for facet in [facet for facet, sides in self._sides.items() if sides == [place]]:
            if facet == RECORD:
                # The record has a line by now. To take back that it was added is to leave it out.
                self._touch(step, STATUS, Exclusion("its addition was taken back", version=1).status(), seen)
            else:
                self._touch(step, facet, _TAKEN_BACK, seen, unseen=1 << place)

    def _take_back(self, step: Step, name: str, seen: Seen) -> None:
        """Take back the event ``name``, or do again what that has taken back."""
        undone = self._steps[name]
        step.root = undone.root or name
        facet = (_UNDONE, step.root)
        step.is_undoing = not undone.is_undoing
        self._put(facet, seen.num_before, Touch(step.event.event, step.is_undoing, seen.bits, (_LIVE, "", 0)))
        step.touches.append((facet, seen.num_before))
        for changed in self._turn(step.root):
            before = self._sides.get(changed)
            self._settle(changed)
            if self._sides.get(changed) != before:
                step.facets.append(changed)

    def _turn(self, root: str) -> list[Facet]:
        """See whether an event is taken back now, and return the facets that have to be settled anew."""
        facet, step = (_UNDONE, root), self._steps[root]
        is_undone = any(self._touches[facet][place].value for place in self._outermost(facet))
        if is_undone == step.is_undone:
            return []
        step.is_undone = is_undone
        for touched_, place in step.touches:
            self._in_force[touched_] ^= 1 << place
        return [touched_ for touched_, _ in step.touches]

    def _outermost(self, facet: Facet) -> list[int]:
        """Return the places of the touches in force that no other of them has seen, the last one first."""
        sides, rest = [], self._in_force[facet]
        while rest:
            place = rest.bit_length() - 1
            sides.append(place)
            rest &= ~(self._touches[facet][place].seen | 1 << place)
        return sides

    def _settle(self, facet: Facet) -> None:
        """Find the sides of a facet, and the value that it has."""
        touches = self._touches[facet]
        sides = sorted(self._outermost(facet), key=lambda place: touches[place].rank)
        if not sides:
            for known in (self._sides, self.place, self.facts):
                known.pop(facet, None)
            return
        self._sides[facet] = sides
        self.place[facet] = max(sides) + 1
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
    if isinstance(event, Add):
        return {RECORD: event.record}
    if isinstance(event, Drop):
        return {STATUS: exclusion_by(event).status()}
    if isinstance(event, Restore):
        return {STATUS: [None, True]}
    if isinstance(event, Assign):
        return {SPLIT: event.split}
    if isinstance(event, Label):
        return {("answer", event.question, event.by): event.value}
    if isinstance(event, Resolve):
        return {("resolved", event.question): event.value}
    return {("data", key): value for key, value in event.changes.items()} if isinstance(event, Edit) else {}


def _gist(facet: Facet, value: Json) -> bytes:
    """Return what must be equal for two values to say the same; two reasons for leaving a record out do."""
    if value is _TAKEN_BACK:
        return b"-"
    if facet == RECORD:
        # As it was added, or the digest of that.
        return (
            value.encode() if isinstance(value, str) else blake2b(canonical(value), digest_size=16).hexdigest().encode()
        )
    return canonical(value[0] is None if facet == STATUS else value)


def _shown(value: Json) -> Json:
    return None if value is _TAKEN_BACK else value
