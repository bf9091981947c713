"""What we export comes back: every format and kind of record, or the loss is named when it is exported.

Run as a program, this file prints the table: `python tests/curate/test_round_trips.py`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.base.record import Record, Source, trace_of
from curate.formats.dataset import row_of
from curate.formats.exporters import ExportResult, export_rows, exporters
from curate.formats.import_plan import plan_import
from curate.formats.importers._reading import split_of
from curate.formats.intake import Imported, convert
from curate.formats.spreadsheet import guarded, unguarded
from curate.schema import load_shape
from tests.curate.called import call
from tests.effort import draws

TOOLS = [
    {"type": "function", "function": {"name": "look_up", "description": "Find.", "parameters": {"type": "object"}}}
]
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Oslo"}'}}
BESIDE = {"labels": {"topic": "x"}, "meta": {"source": "book", "license": "CC0-1.0"}, "x-ignore": ["Q203"]}
ODD = [
    "- a list",
    "=1+1",
    "'=1+1",
    "''quoted",
    "+7",
    "uncategorised",
    " blanks ",
    'a "quoted", cell',
    "two\nlines",
    "日本語",
]

KINDS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "instruction": (
        "instruction",
        [
            {"id": "i1", "instruction": "Say.", "input": "- one\n- two", "output": "=sum", "category": "odd"} | BESIDE,
            {"id": "i2", "system": "Be brief.", "instruction": "Greet.", "output": "'Hello'"},
            *({"id": f"i3{n}", "instruction": f"Repeat {n}: {text}", "output": text} for n, text in enumerate(ODD)),
            {"instruction": "No id.", "output": "None."},
        ],
    ),
    "chat": (
        "chat",
        [
            {
                "id": "c1", "category": "weather", "tools": TOOLS, **BESIDE,
                "messages": [
                    {"role": "system", "content": "Help."}, {"role": "user", "content": "Weather in Oslo?"},
                    {"role": "assistant", "content": None, "tool_calls": [CALL]},
                    {"role": "tool", "tool_call_id": "c1", "content": '{"temp": 4}'},
                    {"role": "assistant", "content": "4 degrees."},
                ],
            },
            {
                "id": "c2",
                "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "-Hello."}],
            },
            {
                "id": "c3", "weight": 2,
                "messages": [
                    {"role": "user", "content": "a", "name": "Kim"},
                    {"role": "assistant", "content": "b", "train": False},
                    {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"},
                ],
            },
        ],
    ),
    "reasoning": (
        "chat",
        [
            {
                "id": "q1", **BESIDE,
                "messages": [
                    {"role": "user", "content": "2 + 3?"},
                    {"role": "assistant", "content": "5", "reasoning_content": "2 and 3\nare 5."},
                ],
            },
            {
                "id": "q2",
                "messages": [
                    {"role": "user", "content": "And twice?"},
                    {"role": "assistant", "content": "<think>\nso\n</think>\n\n10", "reasoning_content": "so"},
                    {"role": "user", "content": "Half?"}, {"role": "assistant", "content": "2.5"},
                ],
            },
            {
                "id": "q3", "tools": TOOLS,
                "messages": [
                    {"role": "user", "content": "Weather?"},
                    {"role": "assistant", "content": None, "reasoning_content": "Look.", "tool_calls": [CALL]},
                    {"role": "tool", "tool_call_id": "c1", "content": "4"},
                    {"role": "assistant", "content": "4.", "reasoning_content": "It says 4."},
                ],
            },
        ],
    ),
    "grounded": (
        "domain",
        [{"id": "g1", "context": "The sky is.", "question": "Colour?", "answer": "@blue", "category": "q", **BESIDE}],
    ),
    "raw text": (
        "domain",
        [{"id": "t1", "text": "Rivers run to the sea.", "category": "plain", **BESIDE}, {"text": "So it is."}],
    ),
}  # fmt: skip
LINE_FORMATS = ("parquet", "hf", "hub")


@dataclass(frozen=True)
class Exported:
    """Records that were exported, by what they say, what was written, and into which splits."""

    records: dict[str, Record]
    written: ExportResult
    filled: set[str]


def exported(form: str, schema: str, lines: list[dict[str, Any]], folder: Path) -> Exported:
    """Write records to all three splits in turn, as `curate export` does."""
    shape = load_shape(schema)
    records = [shape.record(line, Source("data/a.jsonl", number)) for number, line in enumerate(lines, start=1)]
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "test": []}
    by_content: dict[str, Record] = {}
    for number, record in enumerate(records):
        split = list(rows)[number % 3]
        rows[split].append({**row_of(record, record.id, "data/a.jsonl"), "line": dict(record.data)})
        by_content[said(record)] = record
    written = export_rows(form, rows, folder, {"name": "v1"})
    skipped = {one["id"] for one in written.skipped}
    filled = {split for split, part in rows.items() if any(row["id"] not in skipped for row in part)}
    return Exported({text: one for text, one in by_content.items() if one.id not in skipped}, written, filled)


def said(record: Record) -> str:
    """Return what a record says, however its line spells it: who says what, with the calls, the tools, and raw text."""
    messages = []
    for message in record.messages:
        calls = [
            [call["function"]["name"], _object(call["function"]["arguments"])]
            for call in message.get("tool_calls") or ()
        ]
        messages.append([message["role"].replace("developer", "system"), message.get("content") or "", calls])
    tools = [tool["function"] for tool in record.tools]
    return json.dumps([messages, tools, "" if messages else record.text], sort_keys=True, ensure_ascii=False)


def _object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def imported(out: Exported, schema: str, folder: Path) -> Iterator[Record]:
    """Read each file that was written into a workspace of the shape ``schema``, or of chats where it holds those."""
    is_folder = (folder / "dataset_dict.json").exists() or (folder / "data").is_dir()
    for path in [folder] if is_folder else out.written.paths:
        is_empty = not is_folder and (split_of(path.stem) not in out.filled or not path.stat().st_size)
        if is_empty:
            continue
        plan = plan_import(path, None)
        votes = (
            {plan.format.records(row.value, plan.mapping)[0].kind for row in plan.container.rows(path)}
            if plan.format
            else set()
        )
        shape = load_shape("chat" if "chat" in votes and schema == "instruction" else schema)
        for row in convert(plan, shape):
            assert isinstance(row, Imported), row
            yield shape.record(row.value, Source(path.name, row.line))


def losses(before: Record, after: Record) -> set[str]:
    """Return the keys of the line, beside what is said, that did not come back."""
    gone = set()
    for key in (*BESIDE, "id", "category", "weight"):
        value = before.data.get(key)
        again = (
            {k: v for k, v in after.data.get(key, {}).items() if k != "extra"} if key == "meta" else after.data.get(key)
        )
        if value and value != again:
            gone.add(key)
    traces = [[trace_of(message) for message in record.messages] for record in (before, after)]
    gone |= {"reasoning_content"} if traces[0] != traces[1] else set()
    return gone | ({"split"} if after.split is None else set())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", exporters())
def test_an_export_comes_back_or_names_its_losses(form: str, kind: str, tmp_path: Path) -> None:
    if form == "hf":
        pytest.importorskip("datasets", reason="needs the extra [hub]")
    schema, lines = KINDS[kind]
    out = exported(form, schema, lines, tmp_path / "out")
    after = {said(record): record for record in imported(out, schema, tmp_path / "out")}
    notes = "\n".join(out.written.notes)
    assert after.keys() == out.records.keys()
    for text, record in out.records.items():
        for key in losses(record, after[text]):
            assert f"{key} (" in notes, f"{key} of {record.id} is lost, and nothing says so"
    if form in LINE_FORMATS:
        assert not out.written.skipped
        for text, record in out.records.items():
            again = {key: value for key, value in after[text].data.items() if key != "split"}
            assert again == dict(record.data)
            assert after[text].split


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_comes_back(kind: str, tmp_path: Path, make_workspace: Any) -> None:
    schema, lines = KINDS[kind]
    root = make_workspace(lines, f'schema = "{schema}"\n[split]\nseed = 1\n').root
    assert call("export", root).exit_code == 0
    back = tmp_path / "back"
    said_at_import = call("init", back, "--schema", schema, root / "dataset/v1")
    assert said_at_import.exit_code == 0
    assert "labels, other meta, ignored checks" in said_at_import.stderr
    before = {r["id"]: r for r in map(json.loads, call("list", root, "--format", "jsonl").stdout.splitlines())}
    after = {r["id"]: r for r in map(json.loads, call("list", back, "--format", "jsonl").stdout.splitlines())}
    assert after.keys() == before.keys()
    shape = load_shape(schema)
    for name, record in before.items():
        ours, theirs = (shape.record(one["data"], Source("f", 1)) for one in (record, after[name]))
        assert said(ours) == said(theirs)
        assert ours.category == theirs.category
        assert ours.weight == theirs.weight
        assert theirs.split


def test_a_split_that_comes_from_a_name_is_told(tmp_path: Path) -> None:
    for form, name in (("parquet", "train.parquet"), ("csv", "train.csv")):
        exported(form, *KINDS["instruction"], tmp_path / form)
        said_at_import = call("init", tmp_path / f"of-{form}", tmp_path / form / name)
        assert said_at_import.exit_code == 0
        assert "split train, by the name of the file" in said_at_import.stderr
        assert "labels, other meta" not in said_at_import.stderr


def test_all_files_of_a_dataset_can_be_named(tmp_path: Path, make_workspace: Any) -> None:
    """A shell writes `v1/*.jsonl` out: a split may be empty, and dropped.jsonl holds no records."""
    lines = [{"id": f"r{n}", "instruction": f"Say {n} of {n * 7}.", "output": f"It is {n * 3}."} for n in range(4)]
    root = make_workspace([*lines, {**lines[0], "id": "again"}], "[split]\nseed = 1\nratios = [1.0, 0.0, 0.0]\n").root
    assert call("export", root).exit_code == 0
    files = sorted((root / "dataset/v1").glob("*.jsonl"))
    assert any(not path.stat().st_size for path in files)
    said = call("init", tmp_path / "back", *files)
    assert said.exit_code == 0
    assert "rows as dataset" in said.stderr
    assert "dropped.jsonl: passed over, a list of what an export left out" in said.stderr
    assert "test.jsonl: passed over, empty" in said.stderr
    listed = call("list", tmp_path / "back", "--format", "jsonl").stdout.splitlines()
    assert {json.loads(line)["id"] for line in listed} == {"r0", "r1", "r2", "r3"}
    alone = call("init", tmp_path / "other", root / "dataset/v1/dropped.jsonl")
    assert alone.exit_code == 2
    assert "not of records" in alone.stderr


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.text("'=+-@\t 1", max_size=8))
def test_what_guards_a_cell_is_taken_away_again(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell


@given(
    st.lists(st.tuples(st.text("'=+-@\t\n\",; a1é", min_size=1, max_size=12), st.booleans()), min_size=1, max_size=5)
)
@settings(max_examples=draws(60), deadline=None)
def test_any_text_comes_back_from_csv(texts: list[tuple[str, bool]]) -> None:
    lines = [
        {"id": f"r{number}", "instruction": text, "output": f"{text}!", **({"input": f"{text}?"} if has_input else {})}
        for number, (text, has_input) in enumerate(texts)
        if text.strip()
    ]
    with tempfile.TemporaryDirectory() as name:
        out = exported("csv", "instruction", lines, Path(name))
        after = {said(record): record for record in imported(out, "instruction", Path(name))}
    assert after.keys() == out.records.keys()
    for text, record in out.records.items():
        assert after[text].data.get("input", "") == record.data.get("input", "")


def table() -> Iterator[str]:
    """Yield the table of formats and kinds: how many records come back, what is named as lost, how many stay out."""
    yield "| format | " + " | ".join(KINDS) + " |"
    yield "|---|" + "---|" * len(KINDS)
    for form in exporters():
        cells = []
        for schema, lines in KINDS.values():
            with tempfile.TemporaryDirectory() as name:
                out = exported(form, schema, lines, Path(name) / "out")
                after = {said(record): record for record in imported(out, schema, Path(name) / "out")}
            gone = sorted(
                {key for text in out.records.keys() & after.keys() for key in losses(out.records[text], after[text])}
            )
            num_out = len(out.written.skipped)
            told = f"{len(after)}" + (f", without {', '.join(gone)}" if gone else "")
            cells.append(told + (f"; {num_out} not written, and counted" if num_out else ""))
        yield f"| {form} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
