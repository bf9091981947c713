"""Records and decisions folded without a workspace, as `curate.project.data` does it with one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from curate.base.events import Event
from curate.base.record import Record
from curate.project.fold import Decisions, RecordState, Told
from curate.schema import Shape


@dataclass
class Folded(Told):
    """The states by id, and what is to be said of decisions."""

    states: dict[str, RecordState] = field(default_factory=dict)


def fold(records: Iterable[Record], events: Iterable[Event], shape: Shape) -> Folded:
    """Apply ``events``, in whatever order they come, to ``records``, whose ids all differ."""
    decisions = Decisions(events, shape)
    states = [decisions.state(record) for record in records]
    states += decisions.added()
    told = decisions.told()
    return Folded(
        told.findings, told.orphans, told.conflicts, told.lapsed, told.idle, {one.record.id: one for one in states}
    )
