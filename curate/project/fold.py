"""Records and decisions folded into the present state of each record, in an order that no clock decides."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from types import MappingProxyType

from curate.base.console import one_line
from curate.base.events import (
    APPLIED_BY,
    Add,
    Drop,
    Event,
    Propose,
    Rewritten,
    needs_record,
)
from curate.base.record import Finding, Json, Record, Severity, Source, canonical, text_digest
from curate.base.tables import listed
from curate.project.answers import answer_now, most_given, ranked
from curate.project.history import (
    RECORD,
    SPLIT,
    STATUS,
    AppliedEvent,
    DecisionConflict,
    Facet,
    History,
    SeenEvents,
    by_record,
    in_causal_order,
)
from curate.project.journal import ASIDES, CATEGORY
from curate.project.proposals import machine_in, touched_by_proposal
from curate.schema import Shape

# The code of the finding that decisions are about another text than the line has now.
HELD_BACK = "L407"
_HELD: tuple[str, str, Severity] = (HELD_BACK, "decision-held-back", "warning")
_REVIEW = "Settle it with `curate review`."
_NONE: Mapping[str, Json] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RecordState:
    """A record as decisions have left it.

    It is out because of ``exclusion``, if any; ``is_wanted`` once someone restored it. ``record.labels`` has what is
    agreed on each question: what was resolved, else what all or most annotators answered, else what the line says.
    """

    record: Record
    exclusion: Drop | None = None
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
    held: Mapping[Facet, Event] = field(default_factory=lambda: MappingProxyType({}))
    """What was decided about another text than the line has now, by facet: it does nothing until somebody decides."""
    base: str = ""
    """The digest of the text of its line, without what decisions make of it; empty where nobody has decided on it."""
    machine: str = ""
    """The model of the last proposal that somebody took for it, edited or not; empty where nobody took one."""

    @property
    def dropped(self) -> str | None:
        """Why it is out, in words; None while it is in."""
        return None if self.exclusion is None else self.exclusion.why

    @property
    def version(self) -> tuple[str, ...]:
        """What changes whenever somebody decides on it, or its line says something else."""
        return (*self.heads, self.text)

    @property
    def text(self) -> str:
        """The digest of the text that a decision on this state is about."""
        return self.base or text_digest(self.record.data)

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
class Told:
    """What is to be said of decisions: what could not be applied, and decisions on records that are not there."""

    findings: list[Finding] = field(default_factory=list)
    orphans: list[Event] = field(default_factory=list)
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

    def __init__(self, events: Iterable[Event], shape: Shape) -> None:
        self._events, self._shape = by_record(events), shape
        self.names = self._events.keys()
        """The records that decisions are on, whether they are there or not."""
        self.outcomes: dict[str, Told] = {}
        """What is to be said of records that were folded, by id; those of which nothing is are not there."""
        self._met: set[str] = set()

    def after(self, events: Sequence[Event]) -> Decisions:
        """Return these decisions with further ``events``, whose records are still to be folded."""
        decisions = self.anew()
        decisions.outcomes, decisions._met = dict(self.outcomes), self._met
        for name, further in by_record(events).items():
            decisions._events[name] = [*self.of(name), *further]
        return decisions

    def anew(self) -> Decisions:
        """Return these decisions before any record was folded."""
        decisions = Decisions((), self._shape)
        decisions._events.update(self._events)
        return decisions

    def state(self, record: Record) -> RecordState:
        """Return a record that stands in a file, and has a name of its own, as decisions have left it."""
        if record.id not in self.names:
            return RecordState(record)
        # What no line has shown in the end was added by a decision, see `added`.
        self._met.add(record.id)
        state = self.fold(record.id, record)
        assert state is not None, "what has a line of its own stays a record"
        return state

    def of(self, name: str) -> Sequence[Event]:
        """Return the events on a record that are in the journal."""
        return self._events.get(name, ())

    def fold(self, name: str, record: Record | None) -> RecordState | None:
        """Return the state of one record, None where there is none; ``record`` is its line, if a file has one."""
        events, outcome = self.of(name), Told()
        if record is None and not any(isinstance(event.decision, Add | Propose) for event in events):
            state = None
            outcome.orphans += _orphaned_events(events)
            lost = {event.event for event in outcome.orphans}
            in_force = _in_force(_history_of_decisions(events))
            if held := {facet: event for facet, event in in_force.items() if event.event in lost}:
                why = f"decided on {one_line(name, 60)}, which is not in the data any more: {said_of(held)}; where its"
                why += " text was changed in the file, that is another record now, without these decisions"
                fix = "Put the line back, or decide on the new one."
                outcome.findings.append(_finding(*_HELD, why, name, None, fix))
            outcome.idle += [event.event for event in events]
        else:
            state = folded(name, record, events, self._shape, outcome)
        self.outcomes.pop(name, None)
        if outcome.findings or outcome.orphans or outcome.conflicts or outcome.lapsed or outcome.idle:
            self.outcomes[name] = outcome
        return state

    def facts(self, name: str) -> Mapping[Facet, Json]:
        """Return what the decisions on a record come to, by facet, whatever its line says."""
        return _history_of_decisions(self.of(name)).facts

    def is_out(self, name: str) -> bool:
        """Whether a decision leaves the record out, whatever its line says."""
        return bool(self.facts(name).get(STATUS))

    def with_proposals(self) -> list[str]:
        """Return the records, some not there yet, that models have proposed something for, or answered in Ask."""
        return [
            name
            for name in self.names
            if any(facet[0] == "proposal" for event in self.of(name) for facet in touched_by_proposal(event))
        ]

    def added(self) -> Iterator[RecordState]:
        """Yield the records that decisions have added; it comes last, because none of them stands in a file."""
        for name in self.names:
            if name not in self._met and (state := self.fold(name, None)) is not None:
                yield state

    def told(self) -> Told:
        """Return what is to be said of all records that were folded, once `added` has come last."""
        result = Told()
        for outcome in (self.outcomes[name] for name in self.names if name in self.outcomes):
            result.findings += outcome.findings
            result.orphans += outcome.orphans
            result.conflicts += outcome.conflicts
            result.lapsed += outcome.lapsed
        return result

    def has_effect(self, name: str, numbers: Collection[str]) -> bool:
        """Whether one of the events ``numbers`` has changed anything of a record that was folded."""
        # The fold has noted it: to walk through each history again takes as long as to make the states anew.
        outcome = self.outcomes.get(name)
        idle = outcome.idle if outcome else ()
        return any(event.event in numbers and event.event not in idle for event in self.of(name))

    def is_applied(self, event: Event) -> bool:
        """Whether an edit, an addition or a drop stands in its record file, put there by `curate apply-edits`."""
        if event.op not in ("edit", "add", "drop"):
            return False
        ordered = in_causal_order(self.of(event.id))
        return any(other.op == "rewrite" and other.by == APPLIED_BY and event.event in seen for other, seen in ordered)


def folded(name: str, record: Record | None, events: Sequence[Event], shape: Shape, result: Told) -> RecordState | None:
    """Return one record's state; what is found on the way is added to ``result``."""
    history, held = History(), History()
    for step in _walk(record, events, shape, history, held, result):
        if step.event.of and not step.facets:
            result.idle.append(step.event.event)
    state = _state(record, history, held, shape)
    if record is not None and (finding := _hidden(record, history, events)):
        result.findings.append(finding)
    for conflict in history.conflicts(name):
        result.conflicts.append(conflict)
        result.findings.append(_contradicted(conflict, state.record if state else None))
    if state is not None and state.held:
        is_out = not {facet[0] for facet in state.held} <= {"answer", "resolved"}
        fate = "the record is left out until somebody decides" if is_out else "it is asked for again"
        why = f"decided about another text than the line has now: {said_of(state.held)}; {fate}"
        fix = "Say with `curate review` whether it holds for this text, or put the old text back."
        result.findings.append(_finding(*_HELD, why, name, state.record.source, fix))
    if state is not None and state.dropped is None:
        disagreements = state.disagreements().items()
        result.findings += [_disagreed(state.record, question, values) for question, values in disagreements]
        # Where somebody has answered since, no more is to be done for it than for any other answer that is wanted.
        result.lapsed += [name for facet in state.lapsed if facet[1] not in {**state.answers, **state.resolved}]
    return state


def steps(
    record: Record | None, events: Sequence[Event], shape: Shape
) -> Iterator[tuple[AppliedEvent, RecordState | None]]:
    """Yield the decisions on one record in the order in which they count, each with the state that it leaves."""
    history, held = History(), History()
    for step in _walk(record, events, shape, history, held, Told()):
        yield step, _state(record, history, held, shape)


def answered(name: str, events: Sequence[Event]) -> RecordState:
    """Return a record with its answers as decisions leave them, and with nothing of what its line says."""
    # Some callers need no more than that, and would have to read all lines to find this one. Answers that hold for
    # certain texts have lapsed here, because there are none.
    history = _history_of_decisions(events)
    record = Record(name, "domain", Source("", 0), {})
    return RecordState(record, None, False, *_answers(history, record), heads=history.frontier)


def _history_of_decisions(events: Sequence[Event]) -> History:
    """Return what the decisions on a record come to, whatever its line says."""
    history = History()
    for event, seen_events in in_causal_order(events):
        history.apply(event, seen_events)
    return history


def content_digest(line: Mapping[str, Json], shape: Shape) -> str:
    """Return the digest of what a line says, 32 hex digits: what an approval is of. The id is no part of it."""
    return blake2b(canonical(_without_id(line, shape)), digest_size=16).hexdigest()


def _equivalent_texts(record: Record | None, events: Sequence[Event]) -> set[str]:
    """Return the digests of the texts that decisions on ``record`` may be about, to hold for the text of its line."""
    if record is None:
        return set()
    texts, rewrites = {text_digest(record.data)}, list[Facet]()
    if any(isinstance(event.decision, Rewritten) for event in events):
        rewrites = [facet for facet in _history_of_decisions(events).facts if facet[0] == "text"]
    while earlier := {was for _, was, now in rewrites if now in texts} - texts:
        texts |= earlier
    return texts


def _walk(
    record: Record | None, events: Sequence[Event], shape: Shape, history: History, held: History, result: Told
) -> Iterator[AppliedEvent]:
    """Apply ``events`` to ``history``, those that are about another text than the line's to ``held``."""
    texts = _equivalent_texts(record, events)
    for event, seen_events in in_causal_order(events):
        if record is None and needs_record(event.decision) and RECORD not in history.facts:
            result.orphans.append(event)
            continue
        # An undo goes where the decision is that it takes back, whatever the text was then.
        is_elsewhere = bool(texts and event.decision.text) and event.decision.text not in texts
        if held.knows(event.of) if event.of else is_elsewhere and not isinstance(event.decision, Rewritten):
            history.pass_over(event, seen_events)
            yield replace(held.apply(event, seen_events), is_held=True)
            continue
        step = history.apply(event, seen_events)
        if _makes_no_line(step, record, history, shape):
            history.refuse(step)
            source = record.source if record else Source(f"journal of {event.by}", event.seq)
            what = f"the {event.op} of {event.id} by {event.by} makes a line that the schema refuses; it is not applied"
            again = "Edit the record again."
            result.findings.append(_finding("S102", "schema-violation", "error", what, event.id, source, again))
        yield step


def _in_force(history: History) -> dict[Facet, Event]:
    """Return what decides on a record, by facet; restores and answers that were taken back ask for nothing."""
    return {
        facet: event
        for facet, event in history.holders().items()
        if facet[0] in ("status", "split", "data", "answer", "resolved")
        and (history.facts[facet] if facet == STATUS else history.facts[facet] is not None)
    }


def _orphaned_events(events: Sequence[Event]) -> list[Event]:
    """Return the decisions on a record that is gone, without those with which its line was taken out of its file."""
    nothing, seen = text_digest({}), list[SeenEvents]()
    for event, before in in_causal_order(events):
        if isinstance(event.decision, Rewritten) and event.decision.now == nothing:
            seen.append(before)
    return [
        event
        for event in events
        if not isinstance(event.decision, Rewritten) and not any(event.event in before for before in seen)
    ]


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


def _state(record: Record | None, history: History, others: History, shape: Shape) -> RecordState | None:
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
    status = facts.get(STATUS)
    held = {facet: event for facet, event in _in_force(others).items() if facet not in history.last_index}
    exclusion = Drop(decided.id, **status) if status else None
    if exclusion is None and not {facet[0] for facet in held} <= {"answer", "resolved"}:
        exclusion = Drop(decided.id, "decisions about another text of it are held back", HELD_BACK)
    lapsed += tuple(facet for facet in held if facet[0] in ("answer", "resolved"))
    approved = [facet for facet in facts if facet[0] == "approved"]
    content = content_digest(line, shape) if approved else ""
    approvals = frozenset(by for _, digest, by in approved if digest == content)
    authors = frozenset(history.authors().values())
    base = text_digest(record.data if record else facts[RECORD])
    return RecordState(
        decided, exclusion, status == {}, answers, resolved, texts, lapsed, history.frontier, approvals,
        authors, held, base, machine,
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


def _hidden(record: Record, history: History, events: Sequence[Event]) -> Finding | None:
    """Return the finding about a line that was added by decision, where a record file has another with its id."""
    added = history.facts.get(RECORD)
    if added is None or text_digest(added) in _equivalent_texts(record, events):
        return None
    event = history.adder()
    what = f"{event.by} has added a record with this id, and it is not this line; the line holds, both are kept"
    fix = "Give the line another id, or take back what was added with `curate undo`."
    return _finding("S104", "repeated-id", "error", what, record.id, record.source, fix)


def said_of(held: Mapping[Facet, Event]) -> str:
    """Return what was decided, and by whom, for people."""
    names = {"status": "drop", "data": "edit of"}
    parts = [f"{' '.join((names.get(kind, kind), *rest[:1]))} by {event.by}" for (kind, *rest), event in held.items()]
    return listed(parts)


def _contradicted(conflict: DecisionConflict, record: Record | None) -> Finding:
    """Return the finding about decisions that contradict one another; ``record`` is as they leave it."""
    people, facet = sorted({event.by for event, _ in conflict.sides}), conflict.facet
    what = f"{' and '.join(people)} decided on {' '.join(facet[:2])} without having seen one another's decision"
    place, pointer = record.source if record else None, f"/{facet[1]}" if facet[0] == "data" else ""
    what += "; both are kept"
    return _finding("L403", "edit-conflict", "error", what, conflict.record, place, _REVIEW, pointer)


def _disagreed(record: Record, question: str, values: Sequence[Json]) -> Finding:
    what = f"annotators gave {len(values)} different answers to {question}"
    return _finding("L402", "annotators-disagree", "warning", what, record.id, record.source, _REVIEW)


def _finding(
    code: str,
    kind: str,
    severity: Severity,
    message: str,
    name: str,
    source: Source | None,
    fix: str,
    pointer: str = "",
) -> Finding:
    file, line = (source.file, source.line) if source else ("", 0)
    return Finding(code, kind, severity, message, file, line, record=name, pointer=pointer, fix=fix)


def _without_id(line: Mapping[str, Json], shape: Shape) -> dict[str, Json]:
    """Return a line without the key that its id is in: a fold may have put it there."""
    pointer = shape.view.paths.get("id", ()) if shape.view else ()
    return {key: value for key, value in line.items() if key not in pointer[:1]}
