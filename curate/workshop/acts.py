"""What one annotator did, act by act, and which act `undo` and `redo` take next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from curate.journal import AnyEvent, Undo


@dataclass(slots=True)
class Act:
    """Decisions that were saved together, by one annotator."""

    name: str
    events: list[AnyEvent] = field(default_factory=list)

    @property
    def undone(self) -> str:
        """The event that the first of its decisions takes back, if they take something back."""
        first = self.events[0]
        return first.of if isinstance(first, Undo) else ""


class Acts:
    """One annotator's acts as two stacks: those that stand, and those that were taken back last."""

    def __init__(self, events: Iterable[AnyEvent] = ()) -> None:
        """Take ``events`` of earlier sittings, in any order.

        Between sittings the order is that of the clock: it decides only what `undo` offers first, never what holds.
        """
        self._of_event: dict[str, Act] = {}
        self._original: dict[str, Act] = {}
        self.done: list[Act] = []
        self.undone: list[Act] = []
        for act in _grouped(sorted(events, key=lambda event: (event.at, event.session, event.seq))):
            self._take(act)

    def add(self, events: Iterable[AnyEvent]) -> None:
        """Add what was saved just now."""
        for act in _grouped(events):
            self._take(act)

    def meant(self, act: Act) -> Act:
        """Return what ``act`` is about: itself, or the act that it has taken back."""
        return self._original.get(act.name, act)

    def _take(self, act: Act) -> None:
        self._of_event.update({event.event: act for event in act.events})
        target = self._of_event.get(act.undone) if act.undone else None
        if target is None:
            self.done.append(act)
            self.undone.clear()
        elif target in self.done or not target.undone:
            self.done = [one for one in self.done if one is not target]
            self.undone.append(act)
            self._original[act.name] = target
        else:
            # An undo was taken back: what it had taken back stands again.
            self.undone = [one for one in self.undone if one is not target]
            self.done.append(self.meant(target))


def told(events: Sequence[AnyEvent]) -> str:
    """Return what an act did, for people: its operations with their counts, and the first records."""
    counts = Counter(event.op for event in events)
    names = list(dict.fromkeys(event.id for event in events))
    what = ", ".join(op if number == 1 else f"{number:,} x {op}" for op, number in counts.items())
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{what}: {', '.join(names[:3])}{more}"


def _grouped(events: Iterable[AnyEvent]) -> list[Act]:
    acts: dict[str, Act] = {}
    for event in events:
        acts.setdefault(event.act, Act(event.act)).events.append(event)
    return list(acts.values())
