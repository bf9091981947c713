"""What is decided as one act: the rules for it, the states it leaves, and which act `undo` and `redo` take next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from curate.base.console import one_line
from curate.base.events import (
    APPLIED_BY,
    Approve,
    Assign,
    Decision,
    Drop,
    Event,
    Label,
    Propose,
    Reject,
    Resolve,
    SourceEdit,
)
from curate.base.record import CurateError, Json, Record, Source, canonical, text_digest
from curate.base.tables import counted, listed
from curate.jsonl import strict_loads
from curate.project.answers import as_answer, texts_of
from curate.project.data import FILES_CHANGED, ProjectData
from curate.project.fold import Decisions, Fold, RecordState, content_digest, steps
from curate.project.history import AppliedEvent, frontier_of, in_causal_order
from curate.project.journal import CATEGORY, JournalReader, moment_of
from curate.schema import Shape

if TYPE_CHECKING:
    from curate.checks.runner.parts import Progress


def require_valid(
    decisions: Sequence[Decision],
    state_of: Callable[[str], RecordState | None],
    heads_of: Callable[[str], Sequence[str]],
    data: ProjectData,
) -> list[Decision]:
    """Return ``decisions`` as one act on the present states of their records, each after the one before it.

    ``state_of`` gives a record as it is, ``heads_of`` the last events on one that is not there; ``data`` are settings
    and schema.

    Raises:
        CurateError: E916 when a record is not there, or is to be added and is; E997 for a test or validation record in
            the words of a model; E972 when something is no JSON, or the
            schema refuses a line, or a line names another record. Nothing is saved then.
    """
    lines: dict[str, Mapping[str, Json]] = {}
    shape, questions = data.shape, {question.name: question for question in data.settings.label.questions}
    valid = []
    for decision in decisions:
        name = decision.id
        _require_json(decision)
        state = state_of(name)
        # Of several decisions on one record, each is held against the line that the one before it makes.
        present = lines.get(name, state.record.data if state else None)
        if _is_misplaced(decision, is_there=present is not None):
            message = "there is no record" if present is None else "there already is a record"
            raise CurateError("E916 unknown-record", f"{message} {one_line(name, 60)!r}", "Nothing was saved.")
        if isinstance(decision, Assign) and decision.split != "train":
            _require_own_words(state, data)
        line = _line(decision, present or {})
        if line is not None:
            _require_fit(line, present, name, shape)
            lines |= {} if isinstance(decision, Propose) else {name: line}
        completed = decision
        if not isinstance(decision, SourceEdit):
            heads = state.heads if state else tuple(heads_of(name))
            completed = replace(decision, parents=heads, text=state.text if state else "")
        if isinstance(completed, Drop) and completed.of and (kept := state_of(completed.of)):
            completed = replace(completed, digest=text_digest(kept.record.data))
        if isinstance(completed, Approve) and not completed.content:
            completed = replace(completed, content=content_digest(present or {}, shape))
        if isinstance(completed, Label | Resolve) and (question := questions.get(completed.question)):
            completed = replace(completed, value=as_answer(question, completed.value))
            if question.kind in ("pair", "rating"):
                record = shape.record(present or {}, Source("", 0))
                completed = replace(completed, texts=completed.texts or texts_of(record, question.kind))
        valid.append(completed)
    return valid


def _require_own_words(state: RecordState | None, data: ProjectData) -> None:
    """Refuse to hold models against the words of one of them.

    Raises:
        CurateError: E997 where a model wrote the record and nobody has edited or approved it.
    """
    if state is not None and data.is_as_proposed(state):
        hint = "Nothing was saved. Edit its text first, or approve it with `curate approve`."
        raise CurateError("E997 machine-share", f"{one_line(state.record.id, 60)} is in the words of a model", hint)


def _is_misplaced(decision: Decision, *, is_there: bool) -> bool:
    """Whether ``decision`` is for a record that is not there, or for a new one that is."""
    if isinstance(decision, Reject) or (isinstance(decision, Propose) and decision.failed):
        return False
    is_of_new = decision.op == "add" or (isinstance(decision, Propose) and decision.changes is None)
    return is_there == is_of_new


def _line(decision: Decision, present: Mapping[str, Json]) -> dict[str, Json] | None:
    """Return the line that ``decision`` makes, None where it makes none."""
    fields = decision.fields
    if fields.get("record") is not None:
        return dict(fields["record"])
    changes = fields.get("changes")
    if changes is None:
        return None
    return {key: value for key, value in {**present, **changes}.items() if value is not None or key not in changes}


def _require_fit(line: dict[str, Json], present: Mapping[str, Json] | None, name: str, shape: Shape) -> None:
    """Refuse a line that the schema refuses, and one with the id of another record: an id names its record for good."""
    if not shape.is_valid(line):
        problem = next(iter(shape.problems(line)), None)
        raise _unfit(
            name, f"{problem.pointer or 'the line'} {problem.message}" if problem else "the schema refuses the line"
        )
    record = shape.record(line, Source("", 0))
    before = shape.record(present, Source("", 0)) if present is not None else None
    has_same_id = before is not None and before.has_own_id and record.has_own_id and record.id == before.id
    if not has_same_id and ((before is not None and before.has_own_id) or (record.has_own_id and record.id != name)):
        raise _unfit(name, "its line has another id" if present is None else "an edit cannot change the id of a record")


def _require_json(decision: Decision) -> None:
    """Refuse what could not be read again, such as NaN or half of a surrogate pair."""
    try:
        for part in (decision.id, *decision.fields.values()):
            strict_loads(canonical(part))
    except (ValueError, RecursionError) as error:
        raise _unfit(decision.id, f"{decision.op}: {error}") from error


def _unfit(name: str, why: str) -> CurateError:
    return CurateError("E972 unfit-line", f"{one_line(name, 60)}: {why}", "Nothing was saved. Fix it and save again.")


class Applied(list[Event]):
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

    events: Sequence[Event]
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
    events: list[Event] = field(default_factory=list)

    @property
    def undone(self) -> str:
        """The event that the first of its decisions takes back, if they take something back."""
        return self.events[0].of


class UndoStacks:
    """One annotator's acts as two stacks: those that stand, and those that were taken back last."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        """Take ``events`` of earlier sessions, in any order; where they had not seen one another, that of the clock."""
        self._named: dict[str, Transaction] = {}
        self._of_event: dict[str, Transaction] = {}
        self._original: dict[str, Transaction] = {}
        self.done: list[Transaction] = []
        self.undone: list[Transaction] = []
        self.add(_in_order(list(events)))

    def add(self, events: Iterable[Event]) -> None:
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
            # Two sessions have taken it back. Only one of them had an effect, so that both are done again together.
            for other in self.undone:
                if self.original_of(other) is target:
                    other.events.append(act.events[0])
                    return other
        return act


def _in_order(events: Sequence[Event]) -> Iterator[Event]:
    """Yield ``events`` by the clock, each after those that it had seen: clocks differ, and old acts tell seconds."""
    before = {
        later.event: earlier.event
        for earlier, later in pairwise(sorted(events, key=lambda event: (event.session, event.seq)))
        if earlier.session == later.session
    }
    missing = {event.event for event in events}
    waiting: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: (moment_of(event), event.session, event.seq)):
        ready = [event]
        while ready:
            candidate = ready.pop()
            needed = (
                before.get(candidate.event, ""),
                candidate.of,
                *candidate.decision.parents,
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


def render_act(events: Sequence[Event]) -> str:
    """Return what an act did, for people: its operations with their counts, and the first records."""
    counts = Counter(event.op for event in events)
    what = ", ".join(op if number == 1 else f"{number:,} x {op}" for op, number in counts.items())
    return f"{what} of {_named(list(dict.fromkeys(event.id for event in events)))}"


def _named(names: Sequence[str]) -> str:
    return listed(names, spell=lambda name: one_line(name, 40))


def _remove(stack: list[Transaction], act: Transaction) -> bool:
    """Take ``act`` out of a stack, where it is mostly the last one; return whether it was there."""
    for index in range(len(stack) - 1, -1, -1):
        if stack[index] is act:
            del stack[index]
            return True
    return False


class StateTracker:
    """A workspace's decisions by record, and the states that they leave. One thread at a time may use it."""

    # The line of a record that was decided on is kept here: whatever becomes of the file, what is saved can be shown.

    def __init__(self, data: ProjectData, by: str, on_progress: Progress | None = None) -> None:
        """Read the journal and the records for the annotator ``by``; ``on_progress`` hears bytes done and in all.

        Raises:
            CurateError: as `open_catalog`; E913 and E980 for a journal that cannot be read.
        """
        # polars comes with the catalog, and most commands decide without it.
        from curate.project.blind import blind_in
        from curate.project.catalog import open_catalog

        self.reader = JournalReader(data.root)
        self.order: list[Event] = []
        """Every decision, in the order in which it was made or read."""
        self.blind = blind_in(data, by)
        self._shape = data.shape
        self._known: set[str] = set()
        self._hidden_categories: set[str] = set()
        self._states: dict[str, RecordState | None] = {}
        self._bases: dict[str, Record | None] = {}
        events = self.reader.read()
        for fault in self.reader.new_faults():
            raise fault
        self._decisions = Decisions((), data.shape)
        self.catalog = open_catalog(data, on_progress)
        """Every record as the annotator may see it."""
        if self.blind.fault is not None:
            remark = f"others' answers are hidden until you have given yours: {self.blind.fault.message}"
            self.catalog.remarks.append(remark)
        self._late: set[str] = set()
        self.take(sorted(events, key=lambda event: (moment_of(event), event.session, event.seq)))

    @property
    def has_hidden_categories(self) -> bool:
        """Whether `blind` hides the category of some record."""
        return bool(self._hidden_categories)

    def is_followed(self) -> bool:
        """Whether no decision has left the journal since it was read, so that looking at its end shows all."""
        return self.reader.is_whole()

    def acts(self, by: str) -> UndoStacks:
        """Return what an annotator has done."""
        return UndoStacks(event for event in self.order if event.by == by)

    def state(self, name: str) -> RecordState | None:
        """Return the record called ``name`` as decisions have left it, None where there is none.

        Raises:
            CurateError: E974 when nobody had decided on it before its file was changed.
        """
        if name in self._late:
            self._refold({name})
        if name in self._states:
            return self._states[name]
        base = self._base(name)
        return RecordState(base) if base else None

    def hold(self, name: str) -> RecordState | None:
        """Return the state as `state` does, and keep the line, so that a decision on it can be taken for certain."""
        state = self.state(name)
        if name not in self._states:
            self._bases[name] = state.record if state else None
        return state

    def parents(self, name: str) -> Sequence[str]:
        """Return what a decision on the present state of ``name`` names as its parents."""
        state = self.state(name)
        return state.heads if state else frontier_of(self._decisions.of(name))

    def decided(self) -> list[RecordState]:
        """Return the states of all records that somebody has decided on and that are there."""
        return [state for state in self._states.values() if state is not None]

    def fold_outcomes(self) -> list[Fold]:
        """Return what is to be told of single records, in the order of their ids."""
        return [outcome for _, outcome in sorted(self._decisions.outcomes.items())]

    def history(self, name: str) -> list[Event]:
        """Return the decisions on one record in the order in which they count."""
        return [step.event for step, _ in self._steps(name)]

    def has_effect(self, name: str, numbers: Collection[str]) -> bool:
        """Whether one of the events ``numbers`` has changed anything of the record."""
        # The fold has noted it: to walk through each history again takes as long as to make the states anew.
        outcome = self._decisions.outcomes.get(name)
        idle = outcome.idle if outcome else ()
        return any(event.event in numbers and event.event not in idle for event in self._decisions.of(name))

    def is_applied(self, event: Event) -> bool:
        """Whether an edit, an addition or a drop stands in its record file, put there by `curate apply-edits`."""
        if event.op not in ("edit", "add", "drop"):
            return False
        ordered = in_causal_order(self._decisions.of(event.id))
        return any(other.op == "rewrite" and other.by == APPLIED_BY and event.event in seen for other, seen in ordered)

    def take(self, events: Iterable[Event]) -> set[str]:
        """Take ``events`` in, those that are new, and return the records that they are on."""
        changed = set(self._late)
        for event in events:
            if event.event not in self._known:
                self._known.add(event.event)
                self.order.append(event)
                self._decisions.add(event)
                changed.add(event.id)
        return self._refold(changed)

    def differing(self, other: StateTracker) -> set[str]:
        """Return the records that somebody has decided on and that are not the same in ``other``."""
        mine, theirs = self._states, other._states
        return {name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name)}

    def remarks(self) -> list[str]:
        """Return what a person should know of the journal: of segments, and of decisions that apply to nothing."""
        return [*self.reader.remarks(), *self._decisions.folded({}).remarks()]

    def _refold(self, names: Collection[str]) -> set[str]:
        """Work out the states of ``names`` anew and return them; those whose lines cannot be read now come later."""
        done: dict[str, RecordState | None] = {}
        with suppress(CurateError):
            # At once; what cannot be read now is met again one by one.
            self._bases |= self.catalog.read_all([name for name in names if name not in self._bases])
        for name in names:
            try:
                base = self._bases[name] = self._base(name)
            except CurateError as error:
                if error.code != FILES_CHANGED:
                    raise
                self._late.add(name)
                continue
            done[name] = self._decisions.fold(name, base)
        self._states |= done
        self._late -= done.keys()
        states = ((name, state) for name, state in done.items() if state is not None)
        visible = {name: self.blind.redacted(state, self._shape) for name, state in states}
        hidden = {name for name, state in done.items() if state is not None and self.blind.hides(state, CATEGORY)}
        self._hidden_categories = (self._hidden_categories - done.keys()) | hidden
        # What is hidden is in no row: no cell, filter, order or count can tell it.
        self.catalog.update(done, {name: state for name, state in visible.items() if state is not done[name]})
        return set(done)

    def _base(self, name: str) -> Record | None:
        """Return the record as its line has it."""
        return self._bases[name] if name in self._bases else self.catalog.read(name)

    def _steps(self, name: str) -> Iterator[tuple[AppliedEvent, RecordState | None]]:
        return steps(self._base(name), self._decisions.of(name), self._shape)
