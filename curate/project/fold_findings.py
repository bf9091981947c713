"""What is wrong with decisions, as findings about the records that they are on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.base.console import one_line
from curate.base.events import AnyEvent
from curate.base.record import Finding, Json, Record, Source
from curate.base.tables import listed
from curate.project.history import DecisionConflict, Facet


def unfit(event: AnyEvent, record: Record | None) -> Finding:
    """Return the finding about a decision that is not applied: the schema refuses the line that it makes."""
    source = record.source if record else Source(f"journal of {event.by}", event.seq)
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


def contradicted(conflict: DecisionConflict, record: Record | None) -> Finding:
    """Return the finding about decisions that contradict one another; ``record`` is as they leave it."""
    people = sorted({event.by for event, _ in conflict.sides})
    what = " ".join(conflict.facet[:2])
    return Finding(
        "L403",
        "edit-conflict",
        "error",
        f"{' and '.join(people)} decided on {what} without having seen one another's decision; both are kept",
        record.source.file if record else "",
        record.source.line if record else 0,
        record=conflict.record,
        pointer=f"/{conflict.facet[1]}" if conflict.facet[0] == "data" else "",
        fix="Settle it with `curate review`.",
    )


def disagreed(record: Record, question: str, values: Sequence[Json]) -> Finding:
    """Return the finding about a question to which annotators gave different answers."""
    return Finding(
        "L402",
        "annotators-disagree",
        "warning",
        f"annotators gave {len(values)} different answers to {question}",
        record.source.file,
        record.source.line,
        record=record.id,
        fix="Settle it with `curate review`.",
    )


def said_of(held: Mapping[Facet, AnyEvent]) -> str:
    """Return what was decided, and by whom, for people."""
    names = {"status": "drop", "data": "edit of"}
    parts = [f"{' '.join((names.get(kind, kind), *rest[:1]))} by {event.by}" for (kind, *rest), event in held.items()]
    return listed(parts)


def held_back(record: Record, held: Mapping[Facet, AnyEvent]) -> Finding:
    """Return the finding about decisions that were made about another text than the record's line has now."""
    is_out = not {facet[0] for facet in held} <= {"answer", "resolved"}
    fate = "the record is left out until somebody decides" if is_out else "it is asked for again"
    return Finding(
        "L407",
        "decision-held-back",
        "warning",
        f"decided about another text than the line has now: {said_of(held)}; {fate}",
        record.source.file,
        record.source.line,
        record=record.id,
        fix="Say with `curate review` whether it holds for this text, or put the old text back.",
    )


def without_record(name: str, held: Mapping[Facet, AnyEvent]) -> Finding:
    """Return the finding about decisions on a record that is in no file any more."""
    return Finding(
        "L407",
        "decision-held-back",
        "warning",
        f"decided on {one_line(name, 60)}, which is not in the data any more: {said_of(held)}; where its text was "
        "changed in the file, that is another record now, without these decisions",
        "",
        record=name,
        fix="Put the line back, or decide on the new one.",
    )
