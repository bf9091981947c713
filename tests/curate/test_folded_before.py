"""Workspaces folded by the version that had `Kept` open and mean what they meant then.

`folded_before.json` was made at commit d36e29a: small workspaces with their files, and what that version said of them.
"once" and "twice" were folded so many times, "late" then got the segments of people who had not seen the folds, "cut"
and "unmoved" were cut off in their second fold: the lines were written but not what was kept of them, or all but the
segments had moved.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.project.compact import fold_journal
from curate.project.data import load_data
from curate.project.fsck import check
from curate.project.project import open_project

SPECIMENS: dict[str, Any] = json.loads(Path(__file__).with_name("folded_before.json").read_text(encoding="utf-8"))


def unpack(root: Path, name: str) -> Path:
    for path, text in SPECIMENS[name]["files"].items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(text.encode())
    return root


def said_of(root: Path) -> dict[str, Any]:
    """Return what the version of then was asked, in the form that it was written down in."""
    workspace = load_data(root)
    states = {
        state.record.id: {
            "data": dict(state.record.data), "file": state.record.source.file, "line": state.record.source.line,
            "dropped": state.dropped, "is_wanted": state.is_wanted, "split": state.record.split,
            "category": state.record.category, "labels": dict(state.record.labels),
            "answers": {question: dict(some) for question, some in state.answers.items()},
            "resolved": dict(state.resolved), "heads": sorted(state.heads),
        }
        for state in workspace.states()
    }  # fmt: skip
    findings = sorted([one.code, one.record, one.pointer, one.message] for one in workspace.findings())
    acts = {}
    for by in ("ana", "bo", "cem"):
        with open_project(root, by) as project:
            project.load()
            acts[by] = [
                [[event.event for event in act] for act in project.standing(is_redo=is_redo)]
                for is_redo in (False, True)
            ]
    return {"states": states, "findings": findings, "remarks": workspace.remarks(), "acts": acts}


@pytest.mark.parametrize("name", SPECIMENS)
def test_it_opens_and_means_the_same(tmp_path: Path, name: str) -> None:
    assert said_of(unpack(tmp_path, name)) == SPECIMENS[name]["expected"]


@pytest.mark.parametrize("name", ["once", "twice", "cut", "unmoved"])
def test_it_means_the_same_once_more_folded(tmp_path: Path, name: str) -> None:
    root, wanted = unpack(tmp_path, name), SPECIMENS[name]["expected"]
    fold_journal(load_data(root))
    found = said_of(root)
    for key in ("states", "findings", "remarks"):
        assert found[key] == wanted[key]
    assert not check(root).damage
    assert fold_journal(load_data(root)).is_empty


def test_what_was_cut_off_is_no_damage(tmp_path: Path) -> None:
    for name in ("cut", "unmoved"):
        report = check(unpack(tmp_path / name, name))
        assert {fault.name for fault in report.faults} == {"unfinished-fold"}
