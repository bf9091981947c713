"""What one annotator does, act by act, and which act `undo` and `redo` take next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from curate.base.console import one_line
from curate.base.events import AnyEvent, UndoEvent
from curate.base.tables import counted

_SHOWN = 3
"""Records of an act that are named."""


class Applied(list[AnyEvent]):
    """The events of an act that was saved, in their order."""

    @property
    def ids(self) -> list[str]:
        """The records that were decided on, each once."""
        return list(dict.fromkeys(event.id for event in self))

    def __repr__(self) -> str:
        return f"<saved: {told(self)}>" if self else "<nothing to save>"


@dataclass(frozen=True, slots=True, repr=False)
class Undone:
    """An act that was taken back, or done again: its decisions, and on which records it changed nothing.

    Nothing changes where somebody has decided on the same thing since.
    """

    events: Sequence[AnyEvent]
    kept: Sequence[str] = ()
    is_redo: bool = False

    def __repr__(self) -> str:
        return f"<{self.told}{'; ' if self.remark else ''}{self.remark}>"

    @property
    def told(self) -> str:
        """What was taken back or done again, for people."""
        return f"{'done again' if self.is_redo else 'taken back'}: {told(self.events)}"

    @property
    def remark(self) -> str:
        """What stays as it is all the same, and why; empty where nothing does."""
        if not self.kept:
            return ""
        why = "somebody has decided on the same thing since, or it had changed nothing"
        return f"{counted(len(self.kept), 'record')} unchanged ({_named(self.kept)}): {why}"


@dataclass(slots=True, eq=False)
class Act:
    """Decisions that were saved together, by one annotator."""

    name: str
    events: list[AnyEvent] = field(default_factory=list)

    @property
    def undone(self) -> str:
        """The event that the first of its decisions takes back, if they take something back."""
        first = self.events[0]
        return first.of if isinstance(first, UndoEvent) else ""


class Acts:
    """One annotator's acts as two stacks: those that stand, and those that were taken back last."""

    def __init__(self, events: Iterable[AnyEvent] = ()) -> None:
        """Take ``events`` of earlier sittings, in any order; where they had not seen one another, that of the clock."""
        self._named: dict[str, Act] = {}
        self._of_event: dict[str, Act] = {}
        self._original: dict[str, Act] = {}
        self.done: list[Act] = []
        self.undone: list[Act] = []
        self.add(_in_order(list(events)))

    def add(self, events: Iterable[AnyEvent]) -> None:
        """Add what was saved just now, here or elsewhere; of an act that is being written, the rest comes later."""
        for event in events:
            if event.event in self._of_event:
                continue
            act = self._named.get(event.act)
            if act is None:
                act = self._named[event.act] = self._taken(Act(event.act, [event]))
            else:
                act.events.append(event)
            self._of_event[event.event] = act

    def meant(self, act: Act) -> Act:
        """Return what ``act`` is about: itself, or the act that it has taken back."""
        return self._original.get(act.name, act)

    def _taken(self, act: Act) -> Act:
        """Put ``act`` where it belongs and return the act that its decisions are to be added to."""
        target = self._of_event.get(act.undone) if act.undone else None
        if target is None:
            self.done.append(act)
            self.undone.clear()
        elif target.name in self._original:
            # An undo was taken back: what it had taken back stands again.
            meant = self.meant(target)
            if _remove(self.undone, target) or meant not in self.done:
                self.done.append(meant)
        elif _remove(self.done, target):
            self.undone.append(act)
            self._original[act.name] = target
        else:
            # Two sittings have taken it back. Only one of them had an effect, so that both are done again together.
            for other in self.undone:
                if self.meant(other) is target:
                    other.events.append(act.events[0])
                    return other
        return act


def _in_order(events: Sequence[AnyEvent]) -> Iterator[AnyEvent]:
    """Yield ``events`` by the clock, but each after those that it had seen: clocks differ, and tell only seconds."""
    before = {
        later.event: earlier.event
        for earlier, later in pairwise(sorted(events, key=lambda event: (event.session, event.seq)))
        if earlier.session == later.session
    }
    missing = {event.event for event in events}
    waiting: dict[str, list[AnyEvent]] = {}
    for event in sorted(events, key=lambda event: (event.at, event.session, event.seq)):
        ready = [event]
        while ready:
            one = ready.pop()
            needed = (before.get(one.event, ""), one.of if isinstance(one, UndoEvent) else "", *one.parents)
            late = next((name for name in needed if name in missing and name != one.event), None)
            if late is None:
                missing.discard(one.event)
                yield one
                ready += reversed(waiting.pop(one.event, []))
            else:
                waiting.setdefault(late, []).append(one)
    # Only in a forged journal events claim to have seen each other.
    yield from (one for several in waiting.values() for one in several)


def told(events: Sequence[AnyEvent]) -> str:
    """Return what an act did, for people: its operations with their counts, and the first records."""
    counts = Counter(event.op for event in events)
    what = ", ".join(op if number == 1 else f"{number:,} x {op}" for op, number in counts.items())
    return f"{what} of {_named(list(dict.fromkeys(event.id for event in events)))}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(one_line(name, 40) for name in names[:_SHOWN]) + more


def _remove(stack: list[Act], act: Act) -> bool:
    """Take ``act`` out of a stack, where it is mostly the last one; return whether it was there."""
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] is act:
            del stack[place]
            return True
    return False
