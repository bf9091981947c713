"""From one schema to the next: which records break, what a rename or a default does, written as decisions.

A line must fit the schema before decisions on it count. So records go over where the new schema takes their lines as
they stand in the files, and as decided; one that asks for more is for after `curate apply-edits`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from curate.base.events import Decision, Edit
from curate.base.record import Json, Record, canonical
from curate.jsonl import parts_of
from curate.project.data import ProjectData
from curate.project.diff import VersionDiff, VersionRecord, compare
from curate.project.project import open_project
from curate.schema import Shape
from curate.schema.settings import write_values
from curate.schema.view import put

_INDEX = re.compile(r"/\d+(?=/|$)")
_OTHER_ID = "it would be known by another id"
_LINE_REFUSED = "its line in the file, before decisions"


@dataclass(frozen=True, slots=True)
class Changes:
    """What is asked for: where values move, and what stands where nothing does; both by JSON pointer."""

    renames: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Json] = field(default_factory=dict)

    def of(self, line: Mapping[str, Json]) -> dict[str, Json]:
        """Return ``line`` with these changes; a value does not move where another one stands."""
        changed = deepcopy(dict(line))
        for old, new in self.renames.items():
            *above, last = parts_of(old)
            parent = _object_at(changed, above)
            if parent is not None and last in parent and not _is_there(changed, new):
                value = parent.pop(last)
                put(changed, parts_of(new), value)
        for pointer, value in self.defaults.items():
            if not _is_there(changed, pointer):
                put(changed, parts_of(pointer), deepcopy(value))
        return changed


@dataclass(slots=True)
class Migration:
    """What the records of a workspace are under the new schema."""

    num_records: int = 0
    num_broken: int = 0
    """Records that break as they are."""
    rules: dict[str, list[str]] = field(default_factory=dict)
    """By rule of the new schema, the ids of the records that break it."""
    left: dict[str, list[str]] = field(default_factory=dict)
    """The same after the changes."""
    num_left: int = 0
    num_unread: int = 0
    """Lines that are no records under the old schema either."""
    edits: list[Edit] = field(default_factory=list)
    difference: VersionDiff = field(default_factory=VersionDiff)


def plan_migration(data: ProjectData, new: Shape, changes: Changes) -> Migration:
    """Return what becomes of the records of ``data``, dropped ones included, under the shape ``new``.

    Raises:
        CurateError: as `ProjectData.read`; E905 when ``new`` has no ``x-record`` view.
    """
    plan = Migration()
    sides: tuple[list[VersionRecord], list[VersionRecord]] = ([], [])
    for raw, record in _records(data, plan):
        plan.num_records += 1
        before = dict(record.data)
        faults = _faults(before, new)
        plan.num_broken += bool(faults)
        after = changes.of(before)
        is_changed = canonical(before) != canonical(after)
        left = list(_faults(after, new)) if is_changed else list(faults)
        if not left and raw is not None:
            left = _line_faults(raw, data.shape, new)
        for rules, broken in ((plan.rules, faults), (plan.left, left)):
            for rule in dict.fromkeys(broken):
                rules.setdefault(rule, []).append(record.id)
        plan.num_left += bool(left)
        if is_changed:
            for side, line in zip(sides, (before, after), strict=True):
                side.append(VersionRecord(record.id, line, record.category, record.split or ""))
            if not left:
                keys = [key for key in {**before, **after} if canonical(before.get(key)) != canonical(after.get(key))]
                plan.edits.append(Edit(record.id, {key: after.get(key) for key in keys}))
    plan.difference = compare(*sides)
    return plan


def write_migration(plan: Migration, data: ProjectData, new: Shape, name: str, by: str) -> None:
    """Save the edits as one act, and write ``name`` as the schema into curate.toml, whose comments stay.

    Raises:
        CurateError: E902 when curate.toml cannot be changed in place: nothing is written then; E906 when writing fails.
    """
    # What is refused is so before anything is written.
    write_values(data.root, "", {"schema": name}, is_trial=True)
    if plan.edits:
        with open_project(data.root, by, shape=new) as project:
            project.apply(list[Decision](plan.edits))
    write_values(data.root, "", {"schema": name})


def _records(data: ProjectData, plan: Migration) -> Iterator[tuple[Record | None, Record]]:
    """Yield each record as its line has it, None for one that a decision added, and as decided."""
    for item in data.read_lines():
        if isinstance(item, Record):
            state = data.state(item.id)
            yield item, state.record if state else item
        else:
            plan.num_unread += item.severity == "error"
    for state in data.decisions.added():
        yield None, state.record


def _faults(line: dict[str, Json], new: Shape) -> Sequence[str]:
    """Return the rules that a line breaks, the numbers of list items left out."""
    if new.is_valid(line):
        return ()
    return [f"{_INDEX.sub('/*', problem.pointer) or '/'}: {problem.message}" for problem in new.problems(line)]


def _line_faults(raw: Record, old: Shape, new: Shape) -> list[str]:
    """Return why a record whose decided line fits is none all the same: its own line counts first."""
    line = dict(raw.data)
    if not new.is_valid(line):
        return [f"{_LINE_REFUSED}: {fault}" for fault in _faults(line, new)]
    is_known = new.record(line, raw.source).id == old.record(line, raw.source).id
    return [] if is_known else [_OTHER_ID]


def _object_at(line: Json, parts: Sequence[str]) -> dict[str, Json] | None:
    for part in parts:
        line = line.get(part) if isinstance(line, dict) else None
    return line if isinstance(line, dict) else None


def _is_there(line: Mapping[str, Json], pointer: str) -> bool:
    """Whether something stands at ``pointer``, or where an object would have to be made for it."""
    here: Json = line
    for part in parts_of(pointer):
        if not isinstance(here, dict):
            return True
        if part not in here:
            return False
        here = here[part]
    return True
