"""The newest dataset of a workspace: which record lies in which split, and what was left out."""

from __future__ import annotations

from pathlib import Path

from tests.promises.outside import curate, read_export, read_rows, succeed


def newest(workspace: Path) -> Path:
    return max((workspace / "dataset").glob("v*"), key=lambda folder: int(folder.name[1:]))


def export(workspace: Path) -> dict[str, str]:
    """Export, and return the split of each record that the newest dataset holds."""
    succeed(curate("export", workspace))
    rows = read_export(workspace, newest(workspace).name)
    return {row["id"]: split for split, part in rows.items() for row in part}


def left_out(workspace: Path) -> dict[str, str]:
    """Return the code for which each record was left out of the newest dataset."""
    return {row["id"]: row["code"] for row in read_rows(newest(workspace) / "dropped.jsonl")}
