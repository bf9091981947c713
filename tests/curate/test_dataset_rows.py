"""Rows of a dataset: each as the record's own keys say, written while records go by, and read back from the files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from curate.base.record import SPLITS, UNCATEGORISED, CurateError, Exit, Record, Source
from curate.checks.runner.column_cache import cache_in
from curate.checks.runner.table import read_table
from curate.formats.dataset import Dropped, read_manifest, read_pins, row_of, write_dataset
from curate.formats.row_file import RowFile, RowSpool
from curate.project.publish import export_dataset
from curate.project.records import Records
from curate.schema import load_shape
from curate.schema.shape import said_digest
from curate.similarity.leaks.reading import read_any
from tests.curate.watched import Watch

CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": {"order": [7, None, "é\n"]}}}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}
ABOUT: dict[str, Any] = {
    "created": "2026-01-01T00:00:00Z", "tool": {"name": "pairsmith", "version": "1"}, "git": None,
    "schema": {"name": "chat", "sha256": "0" * 64}, "settings_sha256": "0" * 64, "seed": 1, "ratios": [1.0, 0.0, 0.0],
    "objective_hint": "chat", "categories": {}, "findings": {},
}  # fmt: skip


def simple_row(record: Record, cluster: str, file: str, license_: str) -> dict[str, Any]:
    """Return the row of a record key by key, with no short cut."""
    messages = []
    for message in record.messages:
        keys = ["role", "content", "tool_calls", "tool_call_id", "name"]
        keys += ["train", "weight"] if message.get("role") == "assistant" else []
        row = {}
        for key in keys:
            if key in ("role", "content") or message.get(key) is not None:
                row[key] = message.get(key)
        messages.append(row)
    own = record.meta.get("license")
    return {
        "id": record.id,
        "kind": record.kind,
        "category": record.category if record.category else UNCATEGORISED,
        "cluster": cluster,
        "messages": messages if messages else None,
        "tools": list(record.tools) if record.tools else None,
        "text": record.text if not messages else None,
        "source": f"{file}:{record.source.line}",
        "license": own if isinstance(own, str) and own else license_ if license_ else None,
        "weight": record.weight if record.weight != 1 else None,
    }


def assert_rows_are_simple(records: list[Record]) -> None:
    for record, license_ in product(records, ("", "CC0-1.0")):
        row = row_of(record, "unit", record.source.file, license_)
        # The bytes, because the order of keys is a part of what is written.
        assert orjson.dumps(row) == orjson.dumps(simple_row(record, "unit", record.source.file, license_))


@pytest.mark.ci
def test_rows_of_real_data_are_what_their_records_say(shared: Path) -> None:
    num_records, kinds = 0, set()
    for path in sorted((shared / "data").rglob("*.*")):
        try:
            records = read_any(path).records
        except CurateError:
            continue
        assert_rows_are_simple(records)
        num_records += len(records)
        kinds |= {record.kind for record in records}
    assert num_records > 20_000
    assert len(kinds) == 3


def test_ids_of_any_kind_are_read_back(tmp_path: Path) -> None:
    names = ["a", 'q"', "\\", "é", "\u2028", "", "\x7f", '","kind":"x', "a\nb"]
    rows: list[tuple[Any, dict[str, Any]]] = [("train", {"id": name, "text": '"id"' * 9}) for name in names]
    rows += [("test", {"text": "behind", "id": "last"})]
    made = write_dataset(tmp_path / "dataset", iter(rows), (), lambda: ABOUT)
    assert read_pins(made.path) == {**dict.fromkeys(names, "train"), "last": "test"}


def hostile_lines() -> Iterator[dict[str, Any]]:
    turns: list[list[dict[str, Any]]] = [
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        [{"content": "q", "role": "user"}, {"content": "a", "role": "assistant"}],
        [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [CALL]}],
        [{"role": "user"}, {"role": "assistant", "content": None, "tool_calls": []}],
        [{"role": "user", "content": "q", "train": False, "weight": 2}, {"role": "assistant", "content": "a"}],
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "train": False}],
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0.5, "train": None}],
        [{"role": "user", "content": [{"type": "text", "text": "part"}]}, {"role": "assistant", "content": "a"}],
        [{"role": "system", "content": ""}, {"role": "tool", "content": "r", "tool_call_id": "c1", "name": "find"}],
        [{"role": "user", "name": "Ann", "content": "q", "unknown": [1]}, {"role": "assistant", "content": "a\u2028"}],
    ]
    more: list[dict[str, Any]] = [
        {}, {"tools": [TOOL]}, {"tools": []}, {"category": "a|b"}, {"weight": 2.5}, {"weight": 1}, {"weight": 0},
        {"meta": {"license": "MIT", "source": "desk"}}, {"meta": {"license": ""}}, {"meta": {"license": 5}},
    ]  # fmt: skip
    for number, (messages, extra) in enumerate(product(turns, more)):
        yield {"id": f"m{number}", "messages": messages, **extra}
    for number, extra in enumerate(more):
        yield {"id": f"t{number}", "text": "" if number % 2 else "Rivers\nrun.", **extra}
        yield {"instruction": f"Do {number}.", "input": "", "output": "Done.", **extra}
        yield {"id": number, "system": "Be brief.", "instruction": "Go.", "input": "There.", "output": "", **extra}


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Records of every kind, by a schema that allows whatever a view can hold."""
    pointers = {name: f"/{name}" for name in ("id", "messages", "tools", "text", "system", "category", "meta")}
    view = pointers | {"weight": "/weight", "prompt": ["/instruction", "/input"], "completion": "/output"}
    (tmp_path / "any.schema.json").write_text(json.dumps({"type": "object", "x-record": view}), encoding="utf-8")
    shape = load_shape("./any.schema.json", tmp_path)
    lines = list(hostile_lines())
    assert all(map(shape.is_valid, lines))
    return [shape.record(line, Source("data/a.jsonl", number)) for number, line in enumerate(lines, start=1)]


def test_rows_of_odd_records_are_what_they_say(records: list[Record]) -> None:
    assert_rows_are_simple(records)


@pytest.mark.parametrize("is_plain", [True, False], ids=["pairs", "odd"])
def test_many_rows_at_once_are_those_of_the_records(records: list[Record], tmp_path: Path, is_plain: bool) -> None:
    meta = [{}, {"meta": {"license": "MIT"}}, {"weight": 2.5, "category": "é"}, {"meta": None, "weight": None}]
    pairs = [
        {"id": number, "instruction": "Go.", "output": "a\u2028" * number, **meta[number % 4]} for number in range(9)
    ]
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(line) for line in (pairs if is_plain else [dict(record.data) for record in records])]
    path.write_text("\n".join(lines), encoding="utf-8")
    shape = load_shape("./any.schema.json", tmp_path)
    cache = cache_in(tmp_path / "cache", shape)
    for known in (None, cache, cache):
        table = read_table([path], shape, known, root=tmp_path)
        in_file = Records([], table, np.arange(len(lines)))
        changed = in_file.moved(in_file.ids[1:3], "test")
        for some in (in_file, changed, in_file.take([]), in_file.take([3, 5, 1]), Records(list(in_file))):
            assert some.said == [said_digest(record.messages, record.text) for record in some]
            figures = [
                (one.id, one.category, one.split, len(one.prompt), len(one.completion or one.text)) for one in some
            ]
            assert list(some.figures()) == figures


def test_rows_are_written_as_they_come_and_none_is_held(tmp_path: Path) -> None:
    watch = Watch()
    rows = ((SPLITS[number % 3], watch.row(id=f"r{number}", text="x" * 1_000)) for number in range(3_000))
    made = write_dataset(tmp_path / "dataset", rows, (), lambda: ABOUT)
    assert watch.most <= 3
    assert [len(part) for part in made.rows.values()] == [1_000] * 3
    for offset, part in enumerate(made.rows.values()):
        assert [row["id"] for row in part] == [f"r{number}" for number in range(offset, 3_000, 3)]


def test_what_is_counted_is_asked_for_after_the_rows(tmp_path: Path) -> None:
    num_rows = 0

    def rows() -> Iterator[tuple[Any, dict[str, Any]]]:
        nonlocal num_rows
        for num_rows in range(1, 6):
            yield "train", {"id": str(num_rows)}

    dropped = (Dropped(str(n), "D301" if n % 2 else "decision", 'é "\u2028', "", n / 3, "a.jsonl", n) for n in range(5))
    made = write_dataset(tmp_path / "dataset", rows(), dropped, lambda: ABOUT | {"findings": {"X": num_rows}})
    manifest = read_manifest(made.path)
    assert manifest.findings == {"X": 5}
    assert manifest.drops == {"D301": 2, "decision": 3}
    assert manifest.files["dropped.jsonl"].records == 5
    lines = (made.path / "dropped.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["score"] for line in lines] == [n / 3 for n in range(5)]
    assert list(json.loads(lines[0])) == ["id", "code", "reason", "kept", "score", "file", "line"]


@pytest.mark.parametrize("split", SPLITS)
def test_a_full_disk_names_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    real = os.write

    def fill(handle: int, data: Any) -> int:
        if f'"of {split}"'.encode() in bytes(data):
            raise OSError(28, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(os, "write", fill)
    rows = ((name, {"id": str(n), "text": f"of {name}", "more": "x" * 100}) for n in range(20_000) for name in SPLITS)
    with pytest.raises(CurateError) as caught:
        write_dataset(tmp_path / "dataset", rows, (), lambda: ABOUT)
    assert (caught.value.number, caught.value.exit_code) == ("E906", Exit.MISSING)
    assert f"{split}.jsonl: No space left" in caught.value.message
    assert list((tmp_path / "dataset").iterdir()) == []


def test_rows_that_fail_leave_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[Any, dict[str, Any]]]:
        yield "train", {"id": "a"}
        raise CurateError("E974 files-changed", "a file has changed")

    with pytest.raises(CurateError, match="a file has changed"):
        write_dataset(tmp_path / "dataset", rows(), (), lambda: ABOUT)
    assert list((tmp_path / "dataset").iterdir()) == []


ROWS = [{"id": str(n), "text": "é\u2028" * n} for n in range(50)] + [{"id": "long", "text": "x" * 3_000_000}, {}]


@pytest.fixture(params=["file", "spool"])
def row_file(request: pytest.FixtureRequest, tmp_path: Path) -> RowFile:
    if request.param == "spool":
        spool = RowSpool(tmp_path / "new folder")
        for row in ROWS:
            spool.append(row)
        assert list((tmp_path / "new folder").iterdir()) == []
        return spool
    (tmp_path / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in ROWS))
    return RowFile((tmp_path / "rows.jsonl").open("rb"), len(ROWS))


def test_rows_in_a_file_are_gone_through_as_often_as_asked(row_file: RowFile) -> None:
    assert list(row_file) == list(row_file) == ROWS
    assert len(row_file) == len(ROWS)
    assert ROWS[7] in row_file


def test_two_can_read_the_same_rows_at_once(row_file: RowFile) -> None:
    assert list(zip(row_file, row_file, strict=True)) == list(zip(ROWS, ROWS, strict=True))


def test_rows_can_be_added_between_readings(tmp_path: Path) -> None:
    spool = RowSpool(tmp_path)
    assert not spool
    assert list(spool) == []
    for number in range(3):
        spool.append({"id": number})
        assert (len(spool), list(spool)[-1]) == (number + 1, {"id": number})


def test_the_rows_of_a_dataset_that_is_gone(make_workspace: Any) -> None:
    made, _ = export_dataset(make_workspace())
    rows = made.rows
    assert sum(len(list(part)) for part in rows.values()) == 60
    (made.path / "test.jsonl").unlink()
    with pytest.raises(CurateError) as caught:
        _ = made.rows
    assert caught.value.number == "E911"


@pytest.mark.parametrize("content", [b"not json\n", b"[]\n", b'{"no": "id"}\n', b'{"id": "a"}\nx'])
def test_pins_are_read_only_from_rows(tmp_path: Path, content: bytes) -> None:
    made = write_dataset(tmp_path / "dataset", iter([("train", {"id": "a"})]), (), lambda: ABOUT)
    assert read_pins(made.path) == {"a": "train"}
    (made.path / "train.jsonl").write_bytes(content)
    # Even where somebody has made the manifest agree.
    about = json.loads((made.path / "manifest.json").read_bytes())
    about["files"]["train.jsonl"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (made.path / "manifest.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(CurateError) as caught:
        read_pins(made.path)
    assert caught.value.code == "E911 dataset-changed"
