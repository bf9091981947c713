"""What is decided as one act: the rules for it, whoever saves it, and which act `undo` and `redo` take next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from curate.base.console import one_line
from curate.base.events import AnyEvent, Decision, UndoEvent
from curate.base.record import CurateError, Json, Source, canonical
from curate.base.tables import counted
from curate.jsonl import strict_loads
from curate.project.fold import RecordState
from curate.schema import Shape

# Records of an act that are named.
_MAX_NAMES = 3


def require_valid(
    decisions: Sequence[Decision],
    state_of: Callable[[str], RecordState | None],
    heads_of: Callable[[str], Sequence[str]],
    shape: Shape,
) -> list[Decision]:
    """Return ``decisions`` as one act on the present states of their records, each after the one before it.

    ``state_of`` gives a record as it is, ``heads_of`` the last events on one that is not there.

    Raises:
        CurateError: E916 when a record is not there, or is to be added and is; E972 when something is no JSON, or the
            schema refuses a line, or a line names another record. Nothing is saved then.
    """
    lines: dict[str, Mapping[str, Json]] = {}
    valid = []
    for decision in decisions:
        name = decision.id
        _require_json(decision)
        state = state_of(name)
        present = lines.get(name, state.record.data if state else None)
        if (present is None) != (decision.op == "add"):
            message = "there is no record" if present is None else "there already is a record"
            raise CurateError("E916 unknown-record", f"{message} {one_line(name, 60)!r}", "Nothing was saved.")
        line = _line(decision, present or {})
        if line is not None:
            _require_fit(line, present, name, shape)
            lines[name] = line
        valid.append(replace(decision, parents=state.parents() if state else heads_of(name)))
    return valid


def _line(decision: Decision, present: Mapping[str, Json]) -> dict[str, Json] | None:
    """Return the line that ``decision`` makes, None where it makes none."""
    if decision.op == "add":
        return dict(decision.fields["record"])
    if decision.op != "edit":
        return None
    changes = decision.fields["changes"]
    return {key: value for key, value in {**present, **changes}.items() if value is not None or key not in changes}


def _require_fit(line: dict[str, Json], present: Mapping[str, Json] | None, name: str, shape: Shape) -> None:
    """Refuse a line that the schema refuses, and one with the id of another record: an id names its record for good."""
    if not shape.is_valid(line):
        problem = next(iter(shape.problems(line)), None)
        raise _unfit(
            name, f"{problem.pointer or 'the line'} {problem.message}" if problem else "it is no line of the schema"
        )
    record = shape.record(line, Source("", 0))
    before = shape.record(present, Source("", 0)) if present is not None else None
    has_same_id = before is not None and before.has_own_id and record.has_own_id and record.id == before.id
    if not has_same_id and ((before is not None and before.has_own_id) or (record.has_own_id and record.id != name)):
        raise _unfit(name, "the id names the record for good")


def _require_json(decision: Decision) -> None:
    """Refuse what could not be read again, such as NaN or half of a surrogate pair."""
    try:
        for part in (decision.id, *decision.fields.values()):
            strict_loads(canonical(part))
    except (ValueError, RecursionError) as error:
        raise _unfit(decision.id, f"{decision.op}: {error}") from error


def _unfit(name: str, why: str) -> CurateError:
    return CurateError("E972 unfit-line", f"{one_line(name, 60)}: {why}", "Nothing was saved. Mend it and save again.")


class Applied(list[AnyEvent]):
    """The events of an act that was saved, in their order."""

    @property
    def ids(self) -> list[str]:
        """The records that were decided on, each once."""
        return list(dict.fromkeys(event.id for event in self))

    def __repr__(self) -> str:
        return f"<saved: {render_act(self)}>" if self else "<nothing to save>"


@dataclass(frozen=True, slots=True, repr=False)
class Undone:
    """An act that was taken back, or done again: its decisions, and on which records it changed nothing.

    Nothing changes where somebody has decided on the same thing since.
    """

    events: Sequence[AnyEvent]
    unchanged: Sequence[str] = ()
    is_redo: bool = False

    def __repr__(self) -> str:
        return f"<{self.message}{'; ' if self.remark else ''}{self.remark}>"

    @property
    def ids(self) -> list[str]:
        """The records that it was about, each once."""
        return list(dict.fromkeys(event.id for event in self.events))

    @property
    def message(self) -> str:
        """What was taken back or done again, for people."""
        return f"{'done again' if self.is_redo else 'taken back'}: {render_act(self.events)}"

    @property
    def remark(self) -> str:
        """What stays as it is all the same, and why; empty where nothing does."""
        if not self.unchanged:
            return ""
        why = "somebody has decided on the same thing since, or it had changed nothing"
        return f"{counted(len(self.unchanged), 'record')} unchanged ({_named(self.unchanged)}): {why}"


@dataclass(slots=True, eq=False)
class Transaction:
    """Decisions that were saved together, by one annotator."""

    name: str
    events: list[AnyEvent] = field(default_factory=list)

    @property
    def undone(self) -> str:
        """The event that the first of its decisions takes back, if they take something back."""
        first = self.events[0]
        return first.of if isinstance(first, UndoEvent) else ""


class UndoStacks:
    """One annotator's acts as two stacks: those that stand, and those that were taken back last."""

    def __init__(self, events: Iterable[AnyEvent] = ()) -> None:
        """Take ``events`` of earlier sittings, in any order; where they had not seen one another, that of the clock."""
        self._named: dict[str, Transaction] = {}
        self._of_event: dict[str, Transaction] = {}
        self._original: dict[str, Transaction] = {}
        self.done: list[Transaction] = []
        self.undone: list[Transaction] = []
        self.add(_in_order(list(events)))

    def add(self, events: Iterable[AnyEvent]) -> None:
        """Add what was saved just now, here or elsewhere; of an act that is being written, the rest comes later."""
        for event in events:
            if event.event in self._of_event:
                continue
            act = self._named.get(event.act)
            if act is None:
                act = self._named[event.act] = self._taken(Transaction(event.act, [event]))
            else:
                act.events.append(event)
            self._of_event[event.event] = act

    def original_of(self, act: Transaction) -> Transaction:
        """Return what ``act`` is about: itself, or the act that it has taken back."""
        return self._original.get(act.name, act)

    def _taken(self, act: Transaction) -> Transaction:
        """Put ``act`` where it belongs and return the act that its decisions are to be added to."""
        target = self._of_event.get(act.undone) if act.undone else None
        if target is None:
            self.done.append(act)
            self.undone.clear()
        elif target.name in self._original:
            # An undo was taken back: what it had taken back stands again.
            original = self.original_of(target)
            if _remove(self.undone, target) or original not in self.done:
                self.done.append(original)
        elif _remove(self.done, target):
            self.undone.append(act)
            self._original[act.name] = target
        else:
            # Two sittings have taken it back. Only one of them had an effect, so that both are done again together.
            for other in self.undone:
                if self.original_of(other) is target:
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
            candidate = ready.pop()
            needed = (
                before.get(candidate.event, ""),
                candidate.of if isinstance(candidate, UndoEvent) else "",
                *candidate.parents,
            )
            late = next((name for name in needed if name in missing and name != candidate.event), None)
            if late is None:
                missing.discard(candidate.event)
                yield candidate
                ready += reversed(waiting.pop(candidate.event, []))
            else:
                waiting.setdefault(late, []).append(candidate)
    # Only in a forged journal events claim to have seen each other.
    yield from (candidate for several in waiting.values() for candidate in several)


def render_act(events: Sequence[AnyEvent]) -> str:
    """Return what an act did, for people: its operations with their counts, and the first records."""
    counts = Counter(event.op for event in events)
    what = ", ".join(op if number == 1 else f"{number:,} x {op}" for op, number in counts.items())
    return f"{what} of {_named(list(dict.fromkeys(event.id for event in events)))}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(one_line(name, 40) for name in names[:_MAX_NAMES]) + more


def _remove(stack: list[Transaction], act: Transaction) -> bool:
    """Take ``act`` out of a stack, where it is mostly the last one; return whether it was there."""
    for index in range(len(stack) - 1, -1, -1):
        if stack[index] is act:
            del stack[index]
            return True
    return False
