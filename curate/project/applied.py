"""Decisions put into the record files: edited lines, added records, and lines that were dropped.

The journal stays as it is. A decision that is in its line changes nothing when it is applied again, so that another
clone, or a process that was killed in between, comes to the same records.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from curate.base.console import one_line, spelled
from curate.base.events import APPLIED_BY, Rewritten
from curate.base.file_guard import inside, read_file
from curate.base.record import CurateError, Exit, Finding, Json, Record, Source, canonical, text_digest, unnumbered
from curate.base.storage import write_atomic
from curate.base.tables import counted, listed
from curate.checks.runner.changes import unmerged_findings
from curate.jsonl import Entry
from curate.jsonl.rewrite import Ending, Replacement, Rewrite
from curate.jsonl.walker import edited_line, new_line
from curate.project.data import ProjectData, is_added_file_read
from curate.project.fold import HELD_BACK, RecordState
from curate.project.project import open_project
from curate.schema import Shape
from curate.schema.settings import ADDED
from curate.schema.view import at, put


@dataclass(slots=True)
class AppliedEdits:
    """What is put into the record files."""

    lines: dict[str, dict[int, tuple[Mapping[str, Json], dict[str, Json] | None]]] = field(default_factory=dict)
    """By file and line, what the line says and what it is to say; None where the record was dropped."""
    added: dict[str, bytes] = field(default_factory=dict)
    """By id, the lines of new records."""
    rewrites: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By id, the digests of the text that the record's line has and of the one that it gets."""
    left: list[str] = field(default_factory=list)
    """Records whose decisions stay in the journal: they are held back, the line cannot hold the record's id, or without
    the line a record like it would get that id."""


def plan_edits(data: ProjectData) -> AppliedEdits:
    """Return what `write_edits` would put into the record files.

    Raises:
        CurateError: E982 where decisions contradict one another, git has a merge to finish, or added records would not
            be read where they would be written; and as reading does.
    """
    if unmerged := unmerged_findings(data.files(), data.root):
        raise _refusal("git has a merge to finish", [found.file for found in unmerged], "Finish it first.")
    if conflicts := [found.record for found in data.findings() if found.code == "L403"]:
        raise _refusal("decisions contradict one another (L403)", conflicts, "Settle them with `curate review`.")
    if num := data.num_unread():
        raise _refusal(
            f"{counted(num, 'line')} of record files cannot be read", [], "See `curate validate`, and fix them."
        )
    plan, lines = AppliedEdits(), {}
    # By the id in their lines, the names of records that only their order tells apart.
    repeated: dict[str, list[str]] = defaultdict(list)
    for item in data.read_lines():
        if not isinstance(item, Record):
            continue
        if item.id in data.decisions.names:
            lines[item.id] = item
        if unnumbered(item.id) != item.id and (own := _id_in(item.data, data.shape)[0]) != item.id:
            repeated[own].append(item.id)
    decided = list(data.decided())
    dropped = {state.record.id for state in decided if _is_dropped(state)}
    for own, numbered in repeated.items():
        # Without a line before it, a record that stays would get the name of another one, and what was decided on that.
        before = [own, *numbered]
        while before and before[-1] in dropped:
            before.pop()
        plan.left += dropped.intersection(before)
    for state in decided:
        if state.record.id not in plan.left:
            _plan_record(plan, state, lines.get(state.record.id), data.shape)
    if plan.added and not is_added_file_read(data):
        message = f"`data` in curate.toml does not name {ADDED}, where added records go"
        raise CurateError("E982 cannot-apply", message, f'Add "{ADDED}" to `data` in curate.toml.')
    return plan


def _plan_record(plan: AppliedEdits, state: RecordState, line: Record | None, shape: Shape) -> None:
    name, decided = state.record.id, dict(state.record.data)
    is_dropped = _is_dropped(state)
    if line is None:
        placed = None if is_dropped else placed_line(decided, name, None, shape)
        if placed is not None:
            plan.added[name] = new_line(placed)
            _note_rewrite(plan, state, placed)
        return
    if is_dropped:
        plan.lines.setdefault(line.source.file, {})[line.source.line] = line.data, None
        plan.rewrites[name] = state.base, text_digest({})
        return
    if canonical(decided) == canonical(dict(line.data)):
        plan.left += [name] if state.held else []
        return
    placed = placed_line(decided, name, line, shape)
    if placed is None or state.held:
        plan.left.append(name)
        return
    plan.lines.setdefault(line.source.file, {})[line.source.line] = line.data, placed
    _note_rewrite(plan, state, placed)


def _is_dropped(state: RecordState) -> bool:
    return state.exclusion is not None and state.exclusion.code != HELD_BACK


def _note_rewrite(plan: AppliedEdits, state: RecordState, line: Mapping[str, Json]) -> None:
    plan.rewrites[state.record.id] = state.base, text_digest(line)


def write_edits(data: ProjectData, plan: AppliedEdits) -> None:
    """Put what `plan_edits` has returned into the record files, each in one step.

    Raises:
        CurateError: E959 when somebody has changed a record file since, or it is a link; E906 when the system refuses.
    """
    # First the journal: where the files are not written any more, these lines say nothing of anybody.
    save_rewrites(data.root, plan.rewrites, APPLIED_BY)
    for path in data.files():
        if edits := plan.lines.get(spelled(str(path.relative_to(data.root)))):
            _rewrite(data.root, path, edits)
    if plan.added:
        path = inside(data.root, data.root / ADDED)
        before = read_file(path, data.root, most=path.stat().st_size) if path.exists() else b""
        joint = b"" if not before or before.endswith(b"\n") else b"\n"
        write_atomic(path, [before, joint, *(line + b"\n" for line in plan.added.values())])


def lines_of(data: ProjectData, names: Container[str]) -> dict[Path, dict[int, str]]:
    """Return where the records called ``names`` stand: by file and line, what each is called in the workspace."""
    files = {spelled(str(path.relative_to(data.root))): path.resolve() for path in data.matching_files()}
    lines: dict[Path, dict[int, str]] = defaultdict(dict)
    for item in data.read_lines() if files else ():
        if isinstance(item, Record) and item.id in names:
            lines[files[item.source.file]][item.source.line] = item.id
    return lines


def save_rewrites(root: Path, rewrites: Mapping[str, tuple[str, str]], by: str) -> None:
    """Note, by id, that what was decided about one text of a record holds for another one; both are digests.

    Raises:
        CurateError: E906 when it is not saved; and as `Project.apply`.
    """
    if rewrites:
        with open_project(root, by) as project:
            project.apply([Rewritten(name, was, now) for name, (was, now) in rewrites.items()])


def _rewrite(root: Path, path: Path, edits: Mapping[int, tuple[Mapping[str, Json], dict[str, Json] | None]]) -> None:
    waiting = dict(edits)

    def mend(item: Entry | Finding, raw: bytes, ending: Ending) -> Replacement | None:
        number = item.line.source.line if isinstance(item, Entry) else item.line
        if number not in waiting:
            return None
        before, line = waiting.pop(number)
        if not isinstance(item, Entry) or canonical(item.value) != canonical(dict(before)):
            raise _written_by_others(path)
        if line is None:
            return ending.mark, ()
        return ending.mark + edited_line(raw, line, is_ascii=rewrite.is_ascii) + ending.newline, ()

    rewrite = Rewrite(path, mend, root=root)
    rewrite.write()
    if waiting:
        raise _written_by_others(path)


def placed_line(line: dict[str, Json], name: str, base: Record | None, shape: Shape) -> dict[str, Json] | None:
    """Return ``line`` so that the record read from it is called ``name``, None where it cannot be.

    ``base`` is the record that the line stands for now, if any.
    """
    new = _id_in(line, shape)
    if base is not None:
        old = _id_in(base.data, shape)
        # A repeated id of its own was told apart by its place, and so was repeated content: both stay where they are.
        if old == new:
            return line
        if old[1]:
            return None
    if new[1]:
        return line if new[0] == name else None
    pointer = shape.view.paths.get("id") if shape.view else None
    if not pointer or not all(isinstance(at(line, pointer[:depth]), dict) for depth in range(1, len(pointer))):
        return None
    marked = {**({pointer[0]: name} if len(pointer) == 1 else {}), **deepcopy(line)}
    put(marked, pointer, name)
    return marked if shape.is_valid(marked) and _id_in(marked, shape) == (name, True) else None


def _id_in(line: Mapping[str, Json], shape: Shape) -> tuple[str, bool]:
    """Return the id of the record in ``line`` as it is read, and whether the line says it itself."""
    record = shape.record(line, Source("", 0))
    return record.id, record.has_own_id


def _written_by_others(path: Path) -> CurateError:
    message = f"{one_line(str(path))} was changed by somebody while decisions were being put into it"
    return CurateError("E959 not-rewritten", message, "Their change is untouched. Run the command again.")


def _refusal(why: str, names: Sequence[str], hint: str) -> CurateError:
    named = f": {listed(sorted(set(names)), spell=lambda name: one_line(name, 60))}" if names else ""
    return CurateError("E982 cannot-apply", f"{why}{named}", hint, exit_code=Exit.FINDINGS)
