"""What is decided as one act: the rules for it, the states it leaves, and which act `undo` and `redo` take next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from curate.base.console import one_line
from curate.base.events import (
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
from curate.base.record import CurateError, Json, Source, canonical, text_digest
from curate.base.tables import counted, listed
from curate.jsonl import strict_loads
from curate.project.answers import as_answer, texts_of
from curate.project.data import ProjectData
from curate.project.fold import RecordState, content_digest
from curate.schema import Shape


def require_valid(decisions: Sequence[Decision], data: ProjectData) -> list[Decision]:
    """Return ``decisions`` as one act on the present states of their records, each after the one before it.

    Raises:
        CurateError: E916 when a record is not there, or is to be added and is; E997 for a test or validation record in
            the words of a model; E972 when something is no JSON, or the schema refuses a line, or a line names another
            record; E974 when a line cannot be read any more. Nothing is saved then.
    """
    of = [decision.of for decision in decisions if isinstance(decision, Drop) and decision.of]
    state_of = data.hold(list(dict.fromkeys([*(decision.id for decision in decisions), *of])))
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
            completed = replace(decision, parents=data.heads(name), text=state.text if state else "")
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
        """Take ``events`` of earlier sessions, in the order in which they were saved."""
        self._named: dict[str, Transaction] = {}
        self._of_event: dict[str, Transaction] = {}
        self._original: dict[str, Transaction] = {}
        self.done: list[Transaction] = []
        self.undone: list[Transaction] = []
        self.add(events)

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
