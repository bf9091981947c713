"""`curate log`: what people decided, as the journal has it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from curate.base import console
from curate.base.record import CurateError, Exit, Json, Record
from curate.base.tables import counted, listed
from curate.cli._options import format_option
from curate.cli._output import print_lines
from curate.cli._visible import blind_of

if TYPE_CHECKING:
    from curate.base.events import Event
    from curate.project.blind import Blind
    from curate.project.data import ProjectData
    from curate.project.fold import RecordState

# Which values are shown: none, those that this annotator may see, or all.
Values = Literal["none", "seen", "all"]


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """One decision on a record, with the states that it was applied to and left.

    ``is_apart`` says that it was made on another state than the one before: two people worked at the same time.
    """

    event: Event
    before: RecordState | None
    after: RecordState | None
    is_apart: bool
    is_held: bool = False
    """Whether it does nothing, because it is about another text than the record has now."""


@dataclass(frozen=True, slots=True)
class ValueVisibility:
    """Which values may be shown."""

    has_values: bool = True
    # Events whose value must not be shown: others' answers to a question that this annotator is still asked.
    hidden: Container[str] = frozenset()
    blind: Blind | None = None  # What hides it; None where nothing can be hidden.

    def has_value(self, event: Event) -> bool:
        """Whether the value that ``event`` gives may be shown."""
        return self.has_values and event.event not in self.hidden


@click.command()
@click.argument("words", metavar="[DIR] [ID]", nargs=-1)
@click.option("--by", default="", metavar="NAME", help="Only decisions of this annotator.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="The last so many decisions.")
@format_option("text", "jsonl")
@click.option("--no-values", is_flag=True, help="Show no value of the data.")
@click.option("--show-values", is_flag=True, help="Show also what others answered to what you are still asked.")
def command(words: tuple[str, ...], by: str, limit: int, form: str, no_values: bool, show_values: bool) -> int:
    """Tell the last decisions: when, who, what, on which record, and why. With ID, the whole history of that record.

    Of a record: where its line is, each decision in the order in which it counts, with what it changed, and the state
    that they leave. Times are for people; the order comes from what each decision was made on. Lines of the journal
    that are damaged are reported and not read. With jsonl every line is an event of the journal; of a record, a last
    line of op "state" has its present state. What others answered to a question that you (CURATE_ANNOTATOR, else your
    user name) are still asked is not told, and stderr says so.

    Example: curate log my-data r012
    """
    from curate.base.events import redo_names
    from curate.project.journal import moment_of, read_journal
    from curate.project.project import open_project

    if no_values and show_values:
        raise click.UsageError("--no-values shows none, --show-values all of them.")
    root, name = _called(words)
    project = open_project(root)
    events, damages = read_journal(root)
    for text in map(str, damages):
        console.talk(f"warning: {console.one_line(text)}")
    values: Values = "none" if no_values else "all" if show_values else "seen"
    if name:
        return _tell_record(project.data, name, events, by, form, values)
    chosen = [event for event in events if not by or event.by == by]
    # The order of people's clocks is all there is between records.
    last = sorted(chosen, key=lambda event: (moment_of(event), event.session, event.seq))[-limit:]
    visibility = _visibility(project.data, last, events, values)
    redos = redo_names(events)
    for event in last:
        line = _line(event, visibility, redos)
        console.data(_event(event, visibility) if form == "jsonl" else console.one_line(line, console.width()))
    if not events:
        console.talk(f"{console.one_line(str(root))}: nothing has been decided yet")
    elif len(last) < len(chosen):
        console.talk(f"not shown: {counted(len(chosen) - len(last), 'earlier decision')}; see --limit")
    return Exit.OK


def _visibility(data: ProjectData, about: Sequence[Event], journal: Sequence[Event], values: Values) -> ValueVisibility:
    """Return what may be shown of the events ``about``; ``journal`` has all that count.

    The lines of the records are not read: of a million of them one only wants to know what was decided last.
    """
    from curate.base.events import Label, Prefer, Resolve

    answers = [(event, event.decision.question) for event in about if isinstance(event.decision, Label | Resolve)]
    preferences = [event for event in about if isinstance(event.decision, Prefer)]
    if values != "seen" or not (answers or preferences):
        return ValueVisibility(values != "none")
    from curate.project.fold import answered
    from curate.project.history import by_record

    blind = blind_of(data)
    decided = by_record(journal)
    states = {name: answered(name, decided[name]) for name in {event.id for event, _ in answers}}
    # Only its line tells whether an answer about certain texts still stands, or asks again.
    if unsure := [name for name, state in states.items() if state.lapsed]:
        full = data.state_getter(unsure)
        states |= {name: state for name in unsure if (state := full(name)) is not None}
    hidden = {
        event.event
        for event, question in answers
        if event.by != blind.by and blind.still_asks(states[event.id], question)
    }
    # Whoever compares the same answers later has not seen what others prefer; `curate compare --report` tells it.
    hidden |= {event.event for event in preferences if event.by != blind.by}
    if hidden:
        console.talk(
            f"hidden: {counted(len(hidden), 'answer')} of others to what you are still asked; see --show-values"
        )
    return ValueVisibility(hidden=hidden, blind=blind)


def _called(words: Sequence[str]) -> tuple[Path, str]:
    """Return the workspace and the record's id: one word alone is the workspace if there is one of that name."""
    from curate.schema.settings import FILE_NAME

    if len(words) > 2:
        raise click.UsageError("name a workspace and the id of a record.")
    if len(words) == 2:
        return Path(words[0]), words[1]
    if words and (Path(words[0]) / FILE_NAME).is_file():
        return Path(words[0]), ""
    return Path(), words[0] if words else ""


def _tell_record(
    data: ProjectData,
    name: str,
    events: Sequence[Event],
    by: str,
    form: str,
    values: Values,
) -> int:
    own = [event for event in events if event.id == name]
    record, state, names = _lookup(data, name)
    steps = list(_steps(record, own, data))
    if record is None and not own:
        from difflib import get_close_matches

        near = get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "`curate list` shows the ids."
        where = console.one_line(str(data.root))
        raise CurateError("E916 unknown-record", f"there is no record {console.one_line(name, 60)!r} in {where}", hint)
    # What others answered is hidden before any line is made, so that no form of output can tell it.
    visibility = _visibility(data, [step.event for step in steps], events, values)
    if state and visibility.blind:
        state = visibility.blind.redacted(state, data.shape)
    chosen = [step for step in steps if not by or step.event.by == by]
    if form == "jsonl":
        for step in chosen:
            console.data(_event(step.event, visibility))
        console.data(_json(_state_of(name, state, show_values=visibility.has_values)))
        return Exit.OK
    print_lines(_story(name, record, chosen, state, visibility))
    return Exit.OK


def _lookup(data: ProjectData, name: str) -> tuple[Record | None, RecordState | None, list[str]]:
    """Return the record as its line has it, before any decision, as decisions have left it, and all records' names."""
    return data.line(name), data.state(name), data.names()


def _steps(record: Record | None, events: Sequence[Event], data: ProjectData) -> Iterator[LoggedDecision]:
    from curate.project.fold import RecordState, steps

    state = RecordState(record) if record else None
    applied = set()
    for step, after in steps(record, events, data.shape):
        yield LoggedDecision(step.event, state, after, step.is_concurrent, step.is_held)
        state = after
        applied.add(step.event.event)
    # What is decided on a record that is gone applies to nothing, and is listed all the same.
    yield from (LoggedDecision(event, None, None, is_apart=False) for event in events if event.event not in applied)


def _story(
    name: str,
    record: Record | None,
    steps: Sequence[LoggedDecision],
    state: RecordState | None,
    visibility: ValueVisibility,
) -> Iterator[str]:
    import textwrap

    from curate.base.events import redo_names
    from curate.project.diff import field_changes, field_lines

    width, redos = console.width(), redo_names(step.event for step in steps)
    location = f"{console.visible(record.source.file)}:{record.source.line}" if record else "in no record file"
    yield f"{console.one_line(name, 60)}: {location}"
    for step in steps:
        sentence = _line(step.event, visibility, redos, is_of_record=True)
        yield from textwrap.wrap(sentence, width, initial_indent="  ", subsequent_indent="    ")
        if step.is_held:
            yield "    (held back: about another text than the record has now)"
        if step.is_apart:
            yield "    (made on another state of the record than the one before)"
        if step.before is None or step.after is None or step.event.op != "edit":
            continue
        changes = list(field_changes(dict(step.before.record.data), dict(step.after.record.data)))
        if not changes:
            yield "    (not applied: it changes nothing, or the schema refuses the line that it makes)"
        for change in changes:
            for line in field_lines(change, width - 2, show_values=visibility.has_values):
                yield f"  {line}"
    if not steps:
        yield "  no decision"
    yield from textwrap.wrap(
        f"now: {_present(state, show_values=visibility.has_values)}", width, subsequent_indent="  "
    )


def _present(state: RecordState | None, *, show_values: bool) -> str:
    if state is None:
        return "not in the data; the decisions are kept and apply to nothing"
    record = state.record
    parts = ["in" if state.dropped is None else f"dropped ({console.one_line(state.dropped, 60)})"]
    parts += ["restored by hand"] if state.is_wanted else []
    parts += [f"category {console.one_line(record.category, 40)}"] if record.category else []
    parts += [f"split {record.split}"] if record.split else []
    parts += [f"approved by {console.one_line(listed(sorted(state.approvals)), 60)}"] if state.approvals else []
    if record.labels:
        values = _json(dict(record.labels)) if show_values else ", ".join(record.labels)
        parts.append(f"labels {console.one_line(values, 120)}")
    return ", ".join(parts)


def _event(event: Event, visibility: ValueVisibility) -> str:
    left_out = () if visibility.has_value(event) else ("changes", "value", "record")
    line = event.line()
    return _json(line | {"decision": {key: value for key, value in line["decision"].items() if key not in left_out}})


def _line(event: Event, visibility: ValueVisibility, redos: Container[str], *, is_of_record: bool = False) -> str:
    """Return a decision on one line: when, who, what, on which record, and why or to which value."""
    record = "" if is_of_record else f" {console.one_line(event.id, 24)}"
    what = _summary(event, show_values=visibility.has_value(event))
    op = "redo" if event.event in redos else event.op
    when = event.at.replace("T", " ").removesuffix("Z")
    return f"{when} {console.one_line(event.by, 12)} {op}{record}" + (f": {what}" if what else "")


def _summary(event: Event, *, show_values: bool) -> str:
    from curate.base.events import summary_of

    value = event.decision.fields.get("value")
    answer = "taken back" if value is None else _json(value) if show_values else "…"
    # A reason can quote the data as well, but without it the log says nothing.
    return console.one_line(summary_of(event.decision, console.one_line(answer, 20)), 2000)


def _state_of(name: str, state: RecordState | None, *, show_values: bool) -> dict[str, Json]:
    if state is None:
        return {"op": "state", "id": name, "is_there": False}
    record = state.record
    document: dict[str, Json] = {
        "op": "state",
        "id": name,
        "is_there": True,
        "file": record.source.file,
        "line": record.source.line,
        "category": record.category,
        "split": record.split,
        "dropped": state.dropped,
    }
    return document | ({"labels": dict(record.labels), "data": dict(record.data)} if show_values else {})


def _json(value: Json) -> str:
    import json

    # ASCII only: what steers a terminal must not reach one.
    return json.dumps(value)
