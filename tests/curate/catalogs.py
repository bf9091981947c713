"""Records of every kind to put into catalogues, and what a catalogue must say of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import polars as pl

from curate.base.record import Finding
from curate.project.catalog import Catalog
from curate.project.catalog.columns import HEAD, head, values_of
from curate.project.data import ProjectData
from curate.project.filters import parse_filter

QUESTIONS = (
    "", "refund", "-refund", '"Refund"', "/item [0-9]$/", "category:billing", "-has:category", "tokens:>9", "id:r*",
    "label.quality:good", "status:dropped", "status:ok", "split:test", "file:*b.jsonl", "line:2..4", "source:faq",
    'category:billing|returns tokens:<30 -"two"',
)  # fmt: skip


def line(number: int, **more: Any) -> dict[str, Any]:
    words = "two words" if number % 2 else "Refund"
    return {"id": f"r{number:03}", "instruction": f"{words} of item {number}", "output": f"answer {number}", **more}


LINES = [
    line(0, category="billing", labels={"quality": "good"}, split="test"),
    line(1, category="returns", meta={"source": "faq"}),
    line(2, category="billing", labels={"quality": None, "tags": ["a", "b"]}),
    {"instruction": "x" * (HEAD + 1), "output": "é" * 99},
    {"instruction": "x" * (HEAD + 1), "output": "é" * 99},
    line(2, category="Again"),
]


def age(root: Path) -> None:
    """Make the record files old enough to be kept at once."""
    for path in (root / "data").iterdir():
        os.utime(path, ns=(10**18, 10**18))


def check(catalog: Catalog, workspace: ProjectData) -> None:
    """Hold a catalogue against the workspace, which reads the files by other means."""
    states = workspace.states()
    assert len(catalog) == len(states)
    every = catalog.select(parse_filter(""))
    for row, state in zip(catalog.rows(every), states, strict=True):
        values = values_of(state.record, state.answers)
        assert (row.id, row.status) == (state.record.id, "ok" if state.dropped is None else "dropped")
        assert (row.prompt, row.completion) == (head(values.prompt), head(values.completion))
        for name in ("file", "line", "category", "split", "source", "kind", "tokens"):
            assert getattr(row, name) == getattr(values, name)
        assert list(row.labels) == list(values.labels)
    for text in QUESTIONS:
        where = parse_filter(text)
        rows = catalog.select(where)
        assert rows.dtype == pl.UInt32
        through = [state for state, is_in in zip(states, where.lets_through(states), strict=True) if is_in]
        assert [catalog.name(row) for row in rows] == [state.record.id for state in through]


def finding(severity: str, file: str = "", line: int = 0, record: str = "") -> Finding:
    return Finding("Q204", "too-long", severity, "m", file, line, record=record)  # type: ignore[arg-type]
