"""Records and decisions folded into the present state of each record.

The order does not come from a clock. Each decision names the digest of the state it was made on, so the decisions on
one record form a chain. Where no decision continues the chain (two people worked apart), the rest follows in the order
of session and number, which is the same on every machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from curate.journal import Add, AnyEvent, Assign, Drop, Edit, Label, Restore
from curate.record import Finding, Record, Source, canonical
from curate.shape import Shape


@dataclass(frozen=True, slots=True)
class State:
    """A record as it now is: left out for the reason ``dropped``, if any; ``is_wanted`` once someone restored it."""

    record: Record
    dropped: str | None = None
    is_wanted: bool = False

    def digest(self) -> str:
        """Return what a decision on this state names as its parent."""
        seen = [dict(self.record.data), self.record.split, dict(self.record.labels), self.dropped, self.is_wanted]
        return blake2b(canonical(seen), digest_size=16).hexdigest()


@dataclass(slots=True)
class Fold:
    """Every record's state by id, in order; what could not be applied; decisions on records that are not there."""

    states: dict[str, State]
    findings: list[Finding] = field(default_factory=list)
    orphans: list[AnyEvent] = field(default_factory=list)


def fold(records: Iterable[Record], events: Sequence[AnyEvent], shape: Shape) -> Fold:
    """Apply ``events``, in whatever order they come, to ``records``, whose ids all differ."""
    result = Fold({record.id: State(record) for record in records})
    by_record: dict[str, list[AnyEvent]] = defaultdict(list)
    for event in sorted(events, key=lambda event: (event.session, event.seq)):
        by_record[event.id].append(event)
    for name, waiting in by_record.items():
        state = _followed(result.states.get(name), waiting, shape, result)
        if state is not None:
            result.states[name] = state
    return result


def _followed(state: State | None, waiting: list[AnyEvent], shape: Shape, result: Fold) -> State | None:
    """Apply the decisions on one record in their order, following parents as far as they lead."""
    while waiting:
        digest = state.digest() if state else ""
        chosen = next((event for event in waiting if event.parent == digest), waiting[0])
        waiting.remove(chosen)
        if state is None and not isinstance(chosen, Add):
            result.orphans.append(chosen)
        else:
            state = _applied(state, chosen, shape, result)
    return state


def _applied(state: State | None, event: AnyEvent, shape: Shape, result: Fold) -> State | None:
    if isinstance(event, Add):
        return state or _added(event, shape, result)
    assert state is not None, "decisions on nothing are orphans"
    if isinstance(event, Drop):
        return replace(state, dropped=event.reason, is_wanted=False)
    if isinstance(event, Restore):
        return replace(state, dropped=None, is_wanted=True)
    if isinstance(event, Assign):
        return replace(state, record=state.record.moved_to(event.split))
    if isinstance(event, Label):
        labels = {**state.record.labels, event.question: event.value}
        kept = {question: value for question, value in labels.items() if value is not None}
        return replace(state, record=replace(state.record, labels=kept))
    return _edited(state, event, shape, result)


def _added(event: Add, shape: Shape, result: Fold) -> State | None:
    source = Source(f"journal of {event.by}", event.seq)
    if not shape.is_valid(event.record):
        result.findings.append(_unfit(source, event))
        return None
    return State(replace(shape.record(event.record, source), id=event.id))


def _edited(state: State, event: Edit, shape: Shape, result: Fold) -> State:
    line = {**state.record.data, **event.changes}
    line = {key: value for key, value in line.items() if value is not None or key not in event.changes}
    old = state.record
    if not shape.is_valid(line):
        result.findings.append(_unfit(old.source, event))
        return state
    # An edit keeps the id, also where the id was the digest of what has now changed, and what was decided before.
    return replace(state, record=replace(shape.record(line, old.source), id=old.id, labels=old.labels, split=old.split))


def _unfit(source: Source, event: Add | Edit) -> Finding:
    return Finding(
        "S102",
        "schema-violation",
        "error",
        f"the {event.op} of {event.id} by {event.by} makes a line that the schema refuses; it is not applied",
        source.file,
        source.line,
        record=event.id,
        fix="Edit the record again.",
    )
