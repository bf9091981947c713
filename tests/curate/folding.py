"""Workspaces to fold, and what they say, for tests of folding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from curate.journal import Decision, read_journal
from curate.workspace import Workspace, open_workspace
from curate.workspace.exclusion import Exclusion
from curate.workspace.fold import State
from curate.workspace.retired import retired_events

LINES = [
    b'{"id": "a", "instruction":"Add 2 and 3.",   "output":"5", "category":"sum"}\r\n',
    b'{"category":"name","id":"b","output":"Blue.","instruction":"Name a colour."}\n',
    b'{"instruction": "Say hello.", "output": "Hello."}\n',
    b'{"instruction": "Say hello.", "output": "Hello."}\n',
    b'{"instruction": "Say caf\\u00e9.", "output": "Caf\\u00e9.", "meta": {"n": 1.50, "big": 12345678901234567}}',
]
KEYS = ("output", "category")


def make(root: Path, lines: list[bytes] = LINES, more: str = "") -> Workspace:
    (root / "data").mkdir(parents=True)
    (root / "curate.toml").write_text("[split]\nseed = 1\n" + more, encoding="utf-8")
    (root / "data" / "a.jsonl").write_bytes(b"".join(lines))
    return open_workspace(root)


def states_of(workspace: Workspace) -> dict[str, State]:
    return {state.record.id: state for state in workspace.states()}


def everything(root: Path) -> list:
    """Return every decision that was ever made, retired ones too."""
    return list({event.event: event for event in [*read_journal(root)[0], *retired_events(root)]}.values())


def plain(state: State) -> State:
    """Return a state without what a fold is free to change: where its line is, and an id that a line did not say."""
    data = {key: value for key, value in state.record.data.items() if key != "id"}
    record = replace(state.record, source=replace(state.record.source, file="", line=0), data=data, has_own_id=True)
    exclusion = state.exclusion
    if len(state.heads) > 1:
        # Of two reasons for leaving a record out, given apart, either one will do; and so will either category where
        # one person has written it into the line and another has answered the question.
        exclusion = Exclusion("some reason") if state.exclusion else None
        record = replace(record, category="some category" if "category" in state.answers else record.category)
    return replace(state, record=record, exclusion=exclusion, heads=tuple(sorted(state.heads)))


def edit(name: str, **changes) -> Decision:
    return Decision("edit", name, fields={"changes": changes})
