"""Workspaces to fold, and what they say, for tests of folding."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from curate.base.events import Decision, Edit
from curate.project.compact import fold_journal
from curate.project.data import ProjectData, load_data
from curate.project.fold import RecordState
from curate.project.journal import FOLDER, read_journal
from curate.project.project import open_project
from curate.project.snapshot import retired_events

LINES = [
    b'{"id": "a", "instruction":"Add 2 and 3.",   "output":"5", "category":"sum"}\r\n',
    b'{"category":"name","id":"b","output":"Blue.","instruction":"Name a colour."}\n',
    b'{"instruction": "Say hello.", "output": "Hello."}\n',
    b'{"instruction": "Say hello.", "output": "Hello."}\n',
    b'{"instruction": "Say caf\\u00e9.", "output": "Caf\\u00e9.", "meta": {"n": 1.50, "big": 12345678901234567}}',
]
KEYS = ("output", "category")


def make(root: Path, lines: list[bytes] = LINES, more: str = "") -> ProjectData:
    (root / "data").mkdir(parents=True)
    (root / "curate.toml").write_text("[split]\nseed = 1\n" + more, encoding="utf-8")
    (root / "data" / "a.jsonl").write_bytes(b"".join(lines))
    return load_data(root)


def states_of(workspace: ProjectData) -> dict[str, RecordState]:
    return {state.record.id: state for state in workspace.states()}


def everything(root: Path) -> list:
    """Return every decision that was ever made, retired ones too."""
    return list({event.event: event for event in [*read_journal(root)[0], *retired_events(root)]}.values())


def plain(state: RecordState) -> RecordState:
    """Return a state without what a fold is free to change: where its line is, and an id that a line did not say."""
    data = {key: value for key, value in state.record.data.items() if key != "id"}
    record = replace(state.record, source=replace(state.record.source, file="", line=0), data=data, has_own_id=True)
    return replace(state, record=record, heads=tuple(sorted(state.heads)))


def seen_by_people(workspace: ProjectData) -> dict[str, Any]:
    """Return what a fold must leave as it is: every record, what is wrong with decisions, and what can be taken back.

    An added record whose addition was taken back is no record; once it has a line it is one that is left out.
    """
    states = {state.record.id: plain(state) for state in workspace.states()}
    findings = sorted((one.code, one.record, one.pointer, one.message) for one in workspace.findings())
    acts = {}
    for by in ("ana", "bo"):
        with open_project(workspace.root, by) as project:
            project.load()
            acts[by] = [[[event.event for event in act] for act in project.standing(is_redo=redo)] for redo in (0, 1)]
    return {
        "states": {name: one for name, one in states.items() if one.dropped != "its addition was taken back"},
        "findings": findings,
        "acts": acts,
    }


def unfolded(root: Path, target: Path, lines: list[bytes] = LINES) -> ProjectData:
    """Make a workspace with the same decisions that nobody has ever folded."""
    made = make(target, lines)
    (target / "curate.toml").write_bytes((root / "curate.toml").read_bytes())
    for number, path in enumerate(sorted((root / FOLDER).rglob("*.log"))):
        copy = target / FOLDER / path.parent.name / f"{number:05}.log"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return load_data(made.root)


def fold_elsewhere(root: Path) -> None:
    """Have a colleague fold what has been pushed, and pull that: nobody here is asked."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "ws"
        shutil.copytree(root, there)
        fold_journal(load_data(there))
        for path in (root / FOLDER).rglob("*.log"):
            if not (there / path.relative_to(root)).exists():
                path.unlink()
        shutil.copytree(there, root, dirs_exist_ok=True)


def edit(name: str, **changes) -> Decision:
    return Edit(name, changes)
