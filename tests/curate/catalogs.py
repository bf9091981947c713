"""Records of every kind to put into catalogues, and what a catalogue must say of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from curate.base.record import Finding, estimated_tokens, source_of
from curate.project.catalog import Catalog
from curate.project.catalog.columns import DYNAMICS_COLUMNS, HEAD, STATUS, head, labelled, states_frame
from curate.project.data import ProjectData
from curate.project.filters import Filter, parse_filter
from curate.project.fold import RecordState
from curate.schema.settings import ReviewSettings

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


def lets_through(where: Filter, states: Sequence[RecordState]) -> list[bool]:
    """Return which of ``states`` a filter lets through where none has findings, and no run has trained on any."""
    records = [state.record for state in states]
    frame = states_frame(states, ReviewSettings()).with_columns(
        pl.Series("prompt", [record.prompt or record.text for record in records], pl.String),
        pl.Series("completion", [record.completion for record in records], pl.String),
        pl.Series("status", ["ok" if state.dropped is None else "dropped" for state in states], STATUS),
        *(pl.Series(name, [None] * len(states), pl.Float64) for name in DYNAMICS_COLUMNS),
    )
    return list(frame.select(every=where.expression())["every"])


def check(catalog: Catalog, workspace: ProjectData) -> None:
    """Hold a catalogue against the workspace, which reads the files by other means."""
    states = workspace.states()
    assert len(catalog) == len(states)
    every = catalog.select(parse_filter(""))
    for row, state in zip(catalog.rows(every), states, strict=True):
        record = state.record
        assert (row.id, row.status) == (record.id, "ok" if state.dropped is None else "dropped")
        assert (row.prompt, row.completion) == (head(record.prompt or record.text), head(record.completion))
        assert (row.file, row.line) == (record.source.file, record.source.line)
        assert (row.category, row.kind) == (record.category, record.kind)
        assert (row.split, row.source, row.tokens) == (record.split or "", source_of(record), estimated_tokens(record))
        assert list(row.labels) == list(labelled(record.labels, state.answers))
    for text in QUESTIONS:
        where = parse_filter(text)
        rows = catalog.select(where)
        assert rows.dtype == pl.UInt32
        through = [state for state, is_in in zip(states, lets_through(where, states), strict=True) if is_in]
        assert [catalog.name(row) for row in rows] == [state.record.id for state in through]


def finding(severity: str, file: str = "", line: int = 0, record: str = "") -> Finding:
    return Finding("Q204", "too-long", severity, "m", file, line, record=record)  # type: ignore[arg-type]
