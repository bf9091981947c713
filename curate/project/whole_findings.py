"""What is wrong with decisions that no record shows by itself: it takes another record, or its split."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.console import one_line
from curate.base.events import Drop, Event
from curate.base.record import Finding, text_digest
from curate.project.data import ProjectData
from curate.project.history import STATUS


def machine_records(data: ProjectData) -> Iterator[Finding]:
    """Yield P507 for each record that is held out and in the words of a model: they would be held against their own."""
    pins = data.pins() if (names := data.decisions.with_proposals()) else {}
    for name in names:
        state = data.state(name)
        if state is None or state.dropped is not None or not data.is_as_proposed(state):
            continue
        if (split := pins.get(name) or state.record.split or "train") != "train":
            source = state.record.source
            message = f"a {split} record is in the words of {one_line(state.machine, 60)}"
            fix = "Edit its text, approve it with `curate approve`, or drop it."
            yield Finding("P507", "machine-test", "error", message, source.file, source.line, record=name, fix=fix)


def outdated_drops(data: ProjectData) -> Iterator[Finding]:
    """Yield L408 for each record that is left out because of another one that has changed since, or is out itself."""
    # The records are read for it only where there is such a drop.
    names = [name for name in data.decisions.names if any(map(_leans, data.decisions.of(name)))]
    if not names:
        return
    states = [state for state in map(data.state_getter(names), names) if state is not None]
    leaning = [(state.record, state.exclusion) for state in states if state.exclusion and state.exclusion.digest]
    state_of = data.state_getter([exclusion.of for _, exclusion in leaning])
    for record, exclusion in leaning:
        kept = state_of(exclusion.of)
        if kept is None or kept.dropped is not None:
            why = "is out itself"
        elif text_digest(kept.record.data) != exclusion.digest:
            why = "says something else now"
        else:
            continue
        message = f"left out because of {one_line(exclusion.of, 60)}, which {why}"
        fix = "Look again: `curate drop --undo` takes it in, `curate drop` leaves it out for good."
        source = record.source
        yield Finding("L408", "outdated-drop", "warning", message, source.file, source.line, record=record.id, fix=fix)


def _leans(event: Event) -> bool:
    return isinstance(event.decision, Drop) and bool(event.decision.digest)


def returned_texts(data: ProjectData) -> Iterator[Finding]:
    """Yield L409 for each record that nobody has restored and that says what somebody dropped under another id."""
    dropped: dict[str, str] = {}
    for name in data.decisions.names:
        status = data.decisions.facts(name).get(STATUS)
        if status and not status["of"]:
            drops = (event.decision for event in data.decisions.of(name) if isinstance(event.decision, Drop))
            dropped |= {drop.text: name for drop in drops if drop.text}
    wanted = data.wanted() if dropped else set[str]()
    for record in data.records() if dropped else ():
        of = dropped.get(text_digest(record.data))
        if of is not None and record.id not in wanted:
            message = f"says what was dropped as {one_line(of, 60)}"
            fix = "Drop it as well, or say with `curate drop --undo` that it stays."
            source = record.source
            yield Finding(
                "L409", "dropped-again", "warning", message, source.file, source.line, record=record.id, fix=fix
            )
