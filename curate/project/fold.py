"""Records and decisions folded into the present state of each record, in an order that no clock decides."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from types import MappingProxyType

from curate.base.events import AddEvent, AnyEvent, Exclusion, ProposeEvent, UndoEvent, exclusion_of, needs_record
from curate.base.record import Finding, Json, Record, Source, canonical, strings_of
from curate.base.tables import listed
from curate.project.answers import answer_now, most_given, ranked
from curate.project.fold_findings import contradicted, disagreed, unfit
from curate.project.history import (
    RECORD,
    SPLIT,
    STATUS,
    AppliedEvent,
    DecisionConflict,
    Facet,
    History,
    RecordSnapshot,
    by_record,
    in_causal_order,
)
from curate.project.journal import ASIDES, CATEGORY
from curate.project.proposals import machine_in, touched_by_proposal
from curate.project.snapshot import Snapshot
from curate.schema import Shape

# Where a UUID has its version.
_VERSION = 12
_NONE: Mapping[str, Json] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RecordState:
    """A record as decisions have left it.

    It is out because of ``exclusion``, if any; ``is_wanted`` once someone restored it. ``record.labels`` has what is
    agreed on each question: what was resolved, else what all or most annotators answered, else what the line says.
    """

    record: Record
    exclusion: Exclusion | None = None
    """As it was written; `ProjectData.exclusions` says which of version 1 a rule has made."""
    is_wanted: bool = False
    answers: Mapping[str, Mapping[str, Json]] = field(default_factory=lambda: _NONE)
    """By question, what each annotator answered."""
    resolved: Mapping[str, Json] = field(default_factory=lambda: _NONE)
    """By question, what was settled whatever the answers are."""
    texts: Mapping[str, Sequence[str]] = field(default_factory=lambda: _NONE)
    """By question, the digests of what the record's answers to it are about, where they hold for these texts alone."""
    lapsed: tuple[Facet, ...] = ()
    """The answers, and what was settled, that say nothing any more, because the texts that they are about changed."""
    heads: tuple[str, ...] = ()
    """The last events on the record."""
    approvals: frozenset[str] = frozenset()
    """Who has approved what its line says now."""
    authors: frozenset[str] = frozenset()
    """Who wrote what its line says now: who added it, and who last edited each key; nobody where files alone say it."""
    machine: str = ""
    """The model of the last proposal that somebody took for it, edited or not; empty where nobody took one."""

    @property
    def dropped(self) -> str | None:
        """Why it is out, in words; None while it is in."""
        return None if self.exclusion is None else str(self.exclusion)

    def parents(self) -> tuple[str, ...]:
        """Return what a decision on this state names as its parents."""
        return self.heads or (line_digest(self.record),)

    def disagreements(self) -> dict[str, list[Json]]:
        """Return, by question that is not resolved, the different answers, the most frequent first."""
        # Flags and notes are nobody's answers to anything.
        disagreements = {}
        for question, answers in self.answers.items():
            counts = ranked(answers.values())
            if len(counts) > 1 and self.resolved.get(question) is None and question not in ASIDES:
                disagreements[question] = [value for value, _ in counts]
        return disagreements


# By id; those of a large workspace are read when they are looked at.
States = Mapping[str, RecordState]


@dataclass(slots=True)
class Fold:
    """Every record's state by id, in order; what could not be applied; decisions on records that are not there."""

    states: States
    findings: list[Finding] = field(default_factory=list)
    orphans: list[AnyEvent] = field(default_factory=list)
    conflicts: list[DecisionConflict] = field(default_factory=list)
    lapsed: list[str] = field(default_factory=list)
    """The record of each answer of `RecordState.lapsed` to a question that has no other answer."""
    idle: list[str] = field(default_factory=list)
    """Of one record: events that take something back and change nothing."""

    def remarks(self) -> list[str]:
        """Return what a person should know of decisions that apply to nothing, each kind in a sentence."""
        texts = []
        if self.orphans:
            names = listed(sorted({event.id for event in self.orphans}))
            texts.append(f"decisions on records that are no longer in the data: {len(self.orphans):,} ({names})")
        if self.lapsed:
            names = listed(sorted({*self.lapsed}))
            why = f"answers about texts that have changed since: {len(self.lapsed):,} ({names})"
            texts.append(f"{why}; `curate label` asks again")
        return texts


class Decisions:
    """The decisions on the records of a workspace, in whatever order they were read, by record."""

    def __init__(self, events: Iterable[AnyEvent], shape: Shape, snapshot: Snapshot | None = None) -> None:
        """Take ``events``; ``snapshot`` has those that `curate fold` has put into the record files, or beside them."""
        self._events, self._snapshot, self._shape = by_record(events), snapshot or Snapshot(), shape
        self.names = dict.fromkeys([*self._snapshot.records, *self._events])
        """The records that decisions are on, whether they are there or not."""
        self.outcomes: dict[str, Fold] = {}
        """What is to be said of records that were folded, by id; those of which nothing is are not there."""
        self._met: set[str] = set()

    def state(self, record: Record) -> RecordState:
        """Return a record that stands in a file, and has a name of its own, as decisions have left it."""
        if record.id not in self.names:
            return RecordState(record)
        # What no line has shown in the end was added by a decision, see `added`.
        self._met.add(record.id)
        state = self.fold(record.id, record)
        assert state is not None, "what has a line of its own stays a record"
        return state

    def add(self, event: AnyEvent) -> None:
        """Take one more event."""
        self._events.setdefault(event.id, []).append(event)
        self.names[event.id] = None

    def of(self, name: str) -> Sequence[AnyEvent]:
        """Return the events on a record that are in the journal."""
        return self._events.get(name, ())

    def fold(self, name: str, record: Record | None) -> RecordState | None:
        """Return the state of one record, None where there is none; ``record`` is its line, if a file has one."""
        events, outcome = self.of(name), Fold({})
        if record is None and not any(isinstance(event, AddEvent | ProposeEvent) for event in events):
            state = None
            outcome.orphans += events
            outcome.idle += [event.event for event in events]
        else:
            state = folded(name, record, events, self._shape, self._snapshot, outcome)
        self.outcomes.pop(name, None)
        if outcome.findings or outcome.orphans or outcome.conflicts or outcome.lapsed or outcome.idle:
            self.outcomes[name] = outcome
        return state

    def facts(self, name: str) -> Mapping[Facet, Json]:
        """Return what the decisions on a record come to, by facet, whatever its line says."""
        return _history_of_decisions(name, self.of(name), self._snapshot).facts

    def is_out(self, name: str) -> bool:
        """Whether a decision leaves the record out, whatever its line says."""
        return exclusion_of(self.facts(name).get(STATUS)) is not None

    def with_proposals(self) -> list[str]:
        """Return the records, some not there yet, that models have proposed something for, or answered in Ask."""
        folded = self._snapshot.records
        return [
            name
            for name in self.names
            if any(facet[0] == "proposal" for event in self.of(name) for facet in touched_by_proposal(event))
            or (name in folded and any(facet[0] == "proposal" for facet in folded[name].facts))
        ]

    def can_say(self, texts: Collection[str]) -> bool:
        """Whether a decision, or what was kept of one, holds one of ``texts`` as a value."""
        events = (event.model_dump() for record_events in self._events.values() for event in record_events)
        folded = self._snapshot.records.values()
        facts = (fact.value for own in folded for fact in own.facts.values())
        before = (value for own in folded for values in (own.before or {}).values() for value in values)
        return any(text in texts for value in chain(events, facts, before) for text in strings_of(value))

    def added(self) -> Iterator[RecordState]:
        """Yield the records that decisions have added; it comes last, because none of them stands in a file."""
        for name in self.names:
            if name not in self._met and (state := self.fold(name, None)) is not None:
                yield state

    def folded(self, states: States) -> Fold:
        """Return ``states``, those of all records, with what was found on the way, once `added` has come last."""
        result = Fold(states)
        for outcome in (self.outcomes[name] for name in self.names if name in self.outcomes):
            result.findings += outcome.findings
            result.orphans += outcome.orphans
            result.conflicts += outcome.conflicts
            result.lapsed += outcome.lapsed
        return result


def fold(records: Iterable[Record], events: Iterable[AnyEvent], shape: Shape, snapshot: Snapshot | None = None) -> Fold:
    """Apply ``events``, in whatever order they come, to ``records``, whose ids all differ.

    ``snapshot`` has the decisions that `curate fold` has put into the record files, or set down beside them.
    """
    decisions = Decisions(events, shape, snapshot)
    states = [decisions.state(record) for record in records]
    return decisions.folded({state.record.id: state for state in [*states, *decisions.added()]})


def folded(
    name: str, record: Record | None, events: Sequence[AnyEvent], shape: Shape, snapshot: Snapshot, result: Fold
) -> RecordState | None:
    """Return one record's state; what is found on the way is added to ``result``."""
    base, events, own = history_of(name, record, events, shape, snapshot)
    history = History(own)
    for step in _walk(base, events, shape, history, result):
        if isinstance(step.event, UndoEvent) and not step.facets:
            result.idle.append(step.event.event)
    state = _state(base, history, shape)
    if record is not None and base is None:
        state = _in_its_file(state, record, history)
    if base is not None and (finding := _hidden(base, history, shape)):
        result.findings.append(finding)
    for conflict in history.conflicts(name):
        result.conflicts.append(conflict)
        result.findings.append(contradicted(conflict, state.record if state else None))
    if state is not None and state.dropped is None:
        disagreements = state.disagreements().items()
        result.findings += [disagreed(state.record, question, values) for question, values in disagreements]
        # Where somebody has answered since, no more is to be done for it than for any other answer that is wanted.
        result.lapsed += [name for facet in state.lapsed if facet[1] not in {**state.answers, **state.resolved}]
    return state


def steps(
    name: str, record: Record | None, events: Sequence[AnyEvent], shape: Shape, snapshot: Snapshot
) -> Iterator[tuple[AppliedEvent, RecordState | None]]:
    """Yield the decisions on one record in the order in which they count, each with the state that it leaves."""
    base, events, own = history_of(name, record, events, shape, snapshot)
    history = History(own)
    for step in _walk(base, events, shape, history, Fold({})):
        yield step, _state(base, history, shape)


def settled(
    base: Record | None, events: Sequence[AnyEvent], shape: Shape, own: RecordSnapshot | None = None
) -> tuple[dict[str, Json] | None, RecordSnapshot, int]:
    """Return the line that decisions make of a record, None where they leave none, and the snapshot of them.

    Last comes the number of those that had no effect, because the schema refuses the line that they make. There must be
    no conflict among the decisions. The arguments are those that `history_of` returns.
    """
    history, outcome = History(own), Fold({})
    for _ in _walk(base, events, shape, history, outcome):
        pass
    return _line(base, history.facts), history.snapshot(), len(outcome.findings)


def answered(name: str, events: Sequence[AnyEvent], snapshot: Snapshot) -> RecordState:
    """Return a record with its answers as decisions leave them, and with nothing of what its line says."""
    # Some callers need no more than that, and would have to read all lines to find this one. Answers that hold for
    # certain texts have lapsed here, because there are none.
    history = _history_of_decisions(name, events, snapshot)
    record = Record(name, "domain", Source("", 0), {})
    return RecordState(record, None, False, *_answers(history, record), heads=history.frontier)


def _history_of_decisions(name: str, events: Sequence[AnyEvent], snapshot: Snapshot) -> History:
    """Return what the decisions on a record come to, whatever its line says."""
    own = snapshot.records.get(name)
    if own is not None and own.before is not None and not own.is_behind(events):
        events, own = [*snapshot.retired(name), *events], None
    history = History(own)
    for event, seen_events in in_causal_order(events, own):
        history.apply(event, seen_events)
    return history


def history_of(
    name: str, record: Record | None, events: Sequence[AnyEvent], shape: Shape, snapshot: Snapshot
) -> tuple[Record | None, Sequence[AnyEvent], RecordSnapshot | None]:
    """Return what a record's state comes from: its line, decisions, and the snapshot of those that come before them."""
    # Mostly that is what was given. Where one of ``events`` has not seen all that is folded, or takes it back, and
    # where a fold was cut off, it is the line as it was before any fold, with all decisions that were ever made: so a
    # fold changes nothing that people see. That needs the retired segments, and the line must be as the fold has left
    # it.
    own, unfinished = snapshot.records.get(name), snapshot.unfinished.get(name)
    before = own.before if own is not None and unfinished is None else unfinished
    if before is None or (unfinished is None and own is not None and own.is_behind(events)):
        return record, events, own
    base = _put_back(record, before, shape)
    if own is None:
        return base, events, None
    counted = set(own.events)
    retired = (event for event in snapshot.retired(name) if event.event in counted)
    # A fold that was cut off, or a merge, can have left folded decisions in the journal.
    known = {event.event: event for event in (*retired, *events)}
    if known.keys() >= counted:
        is_as_folded = unfinished is not None or _makes(
            base, [known[event_id] for event_id in own.events], record, shape
        )
        return (base, list(known.values()), None) if is_as_folded else (record, events, own)
    return record, events, own


def _put_back(record: Record | None, before: Mapping[str, Sequence[Json]], shape: Shape) -> Record | None:
    """Return a record as its line was before the folds, None where it had none."""
    if record is None:
        return None
    old = {key: value[0] for key, value in before.items() if value}
    line = {key: old.get(key, value) for key, value in record.data.items() if before.get(key, [value])}
    line |= old
    return replace(shape.record(line, record.source), id=record.id) if line else None


def _makes(base: Record | None, events: Sequence[AnyEvent], record: Record | None, shape: Shape) -> bool:
    """Whether ``events`` make of ``base`` the line of ``record``: nobody has changed it by hand."""
    line = settled(base, events, shape)[0]
    if line is None or record is None:
        return line is None and record is None
    return canonical(_without_id(line, shape)) == canonical(_without_id(record.data, shape))


def _in_its_file(state: RecordState | None, record: Record, history: History) -> RecordState:
    """Return the state of an added record that has a line by now. To take back its addition is to leave it out."""
    if state is not None:
        return replace(state, record=replace(state.record, source=record.source))
    return RecordState(record, Exclusion("its addition was taken back", version=1), heads=history.frontier)


def line_digest(record: Record) -> str:
    """Return what a decision on a record that nobody has decided on names as its parent: the digest of its line."""
    # It is never the number of an event, which as a random UUID has a 4 where this has a 0.
    digest = blake2b(canonical(dict(record.data)), digest_size=16).hexdigest()
    return f"{digest[:_VERSION]}0{digest[_VERSION + 1 :]}"


def content_digest(line: Mapping[str, Json], shape: Shape) -> str:
    """Return the digest of what a line says, 32 hex digits: what an approval is of. The id is no part of it."""
    return blake2b(canonical(_without_id(line, shape)), digest_size=16).hexdigest()


def is_line_digest(parent: str) -> bool:
    """Whether a parent is the digest of a line, and not the number of an event."""
    return parent[_VERSION] == "0"


def _walk(
    record: Record | None, events: Sequence[AnyEvent], shape: Shape, history: History, result: Fold
) -> Iterator[AppliedEvent]:
    for event, seen_events in in_causal_order(events, history.base):
        if record is None and needs_record(event) and RECORD not in history.facts:
            result.orphans.append(event)
            continue
        step = history.apply(event, seen_events)
        if _makes_no_line(step, record, history, shape):
            history.refuse(step)
            result.findings.append(unfit(event, record))
        yield step


def _makes_no_line(step: AppliedEvent, record: Record | None, history: History, shape: Shape) -> bool:
    if not any(facet[0] in ("data", "record") for facet in step.facets):
        return False
    line = _line(record, history.facts)
    return line is not None and not shape.is_valid(line)


def _line(record: Record | None, facts: Mapping[Facet, Json]) -> dict[str, Json] | None:
    """Return the line that the facts make of the record's own; None where there is none, or not any more."""
    own = dict(record.data) if record else facts.get(RECORD)
    if own is None:
        return None
    changed = {facet[1]: value for facet, value in facts.items() if facet[0] == "data"}
    if not changed:
        return dict(own)
    return {key: value for key, value in {**own, **changed}.items() if value is not None or key not in changed}


def _state(record: Record | None, history: History, shape: Shape) -> RecordState | None:
    facts = history.facts
    line = _line(record, facts)
    if line is None or (record is None and not shape.is_valid(line)):
        return None
    decided = _decided_record(record, line, history, shape)
    answers, resolved, texts, lapsed = _answers(history, decided)
    agreed = {name: value for name, given in answers.items() if (value := most_given(given)) is not None} | resolved
    # An answer that was taken back leaves no label, although the line may still have one.
    taken_back = {facet[1] for facet in facts if facet[0] == "answer"} - answers.keys()
    labels = {question: value for question, value in decided.labels.items() if question not in taken_back} | agreed
    # What a model wrote is trained on: no exam holds models against the words of one of them.
    machine = machine_in(facts)
    decided = replace(decided, labels=labels, split=facts.get(SPLIT) or decided.split or ("train" if machine else None))
    if CATEGORY in agreed and isinstance(agreed[CATEGORY], str) and _is_labelled_last(history, shape):
        decided = replace(decided, category=agreed[CATEGORY])
    status = facts.get(STATUS) or [None, False]
    approved = [facet for facet in facts if facet[0] == "approved"]
    content = content_digest(line, shape) if approved else ""
    approvals = frozenset(by for _, digest, by in approved if digest == content)
    authors = frozenset(history.authors().values())
    return RecordState(
        decided, exclusion_of(status), status[1], answers, resolved, texts, lapsed, history.frontier, approvals,
        authors, machine,
    )  # fmt: skip


def _answers(
    history: History, record: Record
) -> tuple[dict[str, dict[str, Json]], dict[str, Json], Mapping[str, Sequence[str]], tuple[Facet, ...]]:
    """Return what `RecordState` says of the answers to ``record``: ``answers``, ``resolved``, ``texts``, ``lapsed``."""
    answers: dict[str, dict[str, Json]] = {}
    resolved: dict[str, Json] = {}
    texts: dict[str, Sequence[str]] = {}
    known, lapsed = history.texts(), []
    for facet, value in history.facts.items():
        if value is None or facet[0] not in ("answer", "resolved"):
            continue
        now, present = answer_now(value, known.get(facet, ()), record)
        if now:
            texts[facet[1]] = now
        if present is None:
            lapsed.append(facet)
        elif facet[0] == "answer":
            answers.setdefault(facet[1], {})[facet[2]] = present
        else:
            resolved[facet[1]] = present
    return answers, resolved, texts or _NONE, tuple(lapsed)


def _decided_record(record: Record | None, line: dict[str, Json], history: History, shape: Shape) -> Record:
    """Return the line as a record that keeps its id, also where the id was the digest of what has now changed."""
    if record is not None and not any(facet[0] == "data" for facet in history.facts):
        return record
    if record is not None:
        return replace(shape.record(line, record.source), id=record.id)
    event = history.adder()
    return replace(shape.record(line, Source(f"journal of {event.by}", event.seq)), id=event.id)


def _is_labelled_last(history: History, shape: Shape) -> bool:
    """Whether the category was answered after the line's own was edited: what was decided last holds."""
    path = shape.view.paths.get(CATEGORY) if shape.view else None
    edited = history.last_index.get(("data", path[0]), 0) if path else 0
    facets = (facet for facet in history.last_index if facet[0] in ("answer", "resolved") and facet[1] == CATEGORY)
    answers = [history.last_index[facet] for facet in facets]
    return max(answers, default=1) > edited


def _hidden(record: Record, history: History, shape: Shape) -> Finding | None:
    """Return the finding about a line that was added by decision, where a record file has another with its id."""
    added = _line(None, history.facts)
    if added is None:
        return None
    if canonical(_without_id(added, shape)) == canonical(_without_id(record.data, shape)):
        # It stands there because a fold has put it there, and was interrupted.
        return None
    event = history.adder()
    return Finding(
        "S104",
        "repeated-id",
        "error",
        f"{event.by} has added a record with this id, and it is not this line; the line holds, both are kept",
        record.source.file,
        record.source.line,
        record=record.id,
        fix="Give the line another id, or take back what was added with `curate undo`.",
    )


def _without_id(line: Mapping[str, Json], shape: Shape) -> dict[str, Json]:
    """Return a line without the key that its id is in: a fold may have put it there."""
    pointer = shape.view.paths.get("id", ()) if shape.view else ()
    return {key: value for key, value in line.items() if key not in pointer[:1]}
