"""How much records and answers count while training: from the line through the view to the row and the formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from curate.base.record import SPLITS, Record, Source
from curate.formats.dataset import row_of
from curate.formats.exporters import export_rows
from curate.formats.importers import importers
from curate.project.publish import export_dataset
from curate.schema import load_shape

HERE = Source("data/a.jsonl", 1)


def _turn(role: str, content: str, **marks: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **marks}


def _chat(*answers: dict[str, Any], **extra: Any) -> dict[str, Any]:
    messages = [part for n, marks in enumerate(answers)
                for part in (_turn("user", f"ask {n}"), _turn("assistant", f"say {n}", **marks))]  # fmt: skip
    return {"messages": messages, **extra}


def _record(line: dict[str, Any], shape: str = "chat") -> Record:
    assert load_shape(shape).is_valid(line), load_shape(shape).problems(line)
    return load_shape(shape).record(line, HERE)


def _row(line: dict[str, Any], shape: str = "chat") -> dict[str, Any]:
    return row_of(_record(line, shape), "k", HERE.file)


def test_weights_and_flags_reach_the_rows_of_a_dataset(make_workspace: Any, root: Path) -> None:
    def said(n: int) -> list[dict[str, Any]]:
        words = [f"tell item{n} from thing{n * 7} today", f"stuff{n * 3} is it", f"no{n * 5} it", f"part{n * 11} then"]
        roles, marks = ("user", "assistant") * 2, ({}, {"train": False}, {}, {"weight": 2})
        return [_turn(role, word, **mark) for role, word, mark in zip(roles, words, marks, strict=True)]

    lines = [{"id": f"w{n}", "messages": said(n), "weight": 0.5} for n in range(30)]
    made, _ = export_dataset(make_workspace(lines, 'schema = "chat"\n[split]\nseed = 1\n'))
    check = jsonschema_rs.validator_for(json.loads((root / "schemas/row.schema.json").read_text(encoding="utf-8")))
    rows = [json.loads(line) for name in SPLITS for line in (made.path / f"{name}.jsonl").read_text().splitlines()]
    assert len(rows) == 30
    for row in rows:
        assert check.is_valid(row)
        assert row["weight"] == 0.5
        assert [message.get("train") for message in row["messages"]] == [None, False, None, None]
        assert [message.get("weight") for message in row["messages"]] == [None, None, None, 2]


def test_without_one_the_weight_is_null_and_no_mark_is_made() -> None:
    assert _row(_chat({}))["weight"] is None
    assert _row(_chat({}, weight=1))["weight"] is None
    assert _row(_chat({}))["messages"] == [_turn("user", "ask 0"), _turn("assistant", "say 0")]
    assert _row({"instruction": "a", "output": "b", "weight": 0}, "instruction")["weight"] == 0
    assert _row({"text": "a", "weight": 3}, "domain")["weight"] == 3


@pytest.mark.parametrize(
    "line",
    [
        _chat({}, weight=-0.5),
        _chat({}, weight="1"),
        _chat({}, weight=1001),
        _chat({"train": 1}),
        _chat({"weight": True}),
        {"messages": [_turn("user", "a", train=True), _turn("assistant", "b")]},
        {"messages": [_turn("user", "a", weight=1), _turn("assistant", "b")]},
    ],
)
def test_what_is_no_weight_is_a_finding(line: dict[str, Any]) -> None:
    assert not load_shape("chat").is_valid(line)


def test_a_weight_goes_with_a_record_into_another_shape_and_back() -> None:
    record = _record({"instruction": "a", "output": "b", "weight": 0}, "instruction")
    line = load_shape("chat").line(record)
    assert line["weight"] == 0
    assert load_shape("chat").record(line, HERE).weight == 0
    assert "weight" not in load_shape("chat").line(_record({"instruction": "a", "output": "b"}, "instruction"))


def test_a_parcels_weight_is_none_of_ours(tmp_path: Path) -> None:
    text = {"type": "string"}
    schema: dict[str, Any] = {
        "type": "object", "properties": {"instruction": text, "output": text, "weight": {"type": "number"}},
    }  # fmt: skip
    (tmp_path / "own.json").write_text(json.dumps(schema), encoding="utf-8")
    line = {"instruction": "a", "output": "b", "weight": 12000}
    assert load_shape("own.json", tmp_path).record(line, HERE).weight == 1
    schema["x-record"] = {"prompt": "/instruction", "completion": "/output", "weight": "/weight"}
    (tmp_path / "told.json").write_text(json.dumps(schema), encoding="utf-8")
    told = load_shape("told.json", tmp_path)
    assert not told.is_valid(line), "where a view says that it is ours, it is held to our bounds"
    assert told.record(line | {"weight": 2.5}, HERE).weight == 2.5


def _written(format_: str, row: dict[str, Any], folder: Path) -> tuple[list[Any], list[str]]:
    written = export_rows(format_, {"train": [row]}, folder / format_, {"name": "v1"})
    path = folder / format_ / "train.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return lines, [one["reason"] for one in written.skipped]


def test_openai_says_zero_and_one_and_nothing_between(tmp_path: Path) -> None:
    lines, skipped = _written("openai", _row(_chat({"train": False}, {"weight": 1})), tmp_path)
    assert skipped == []
    assert [message.get("weight") for message in lines[0]["messages"]] == [None, 0, None, None]
    assert not any("train" in message for message in lines[0]["messages"])
    assert "other than 0 and 1" in _written("openai", _row(_chat({"weight": 0.5})), tmp_path)[1][0]


@pytest.mark.parametrize("format_", ["trl", "trl-conversational", "sharegpt", "alpaca", "llama-factory", "csv"])
def test_formats_that_cannot_say_a_weight_leave_the_row_out_and_say_so(format_: str, tmp_path: Path) -> None:
    assert _written(format_, _row(_chat({})), tmp_path / "a")[1] == []
    assert _written(format_, _row(_chat({"train": True, "weight": 1})), tmp_path / "b")[1] == [], "the default is none"
    assert "which the format cannot express" in _written(format_, _row(_chat({"train": False})), tmp_path / "c")[1][0]
    assert "the record has a weight" in _written(format_, _row(_chat({}, weight=2)), tmp_path / "d")[1][0]
    if format_ in ("trl", "llama-factory"):
        raw = _row({"text": "a b c", "weight": 2}, "domain")
        assert "the record has a weight" in _written(format_, raw, tmp_path / "e")[1][0]


def test_columns_keep_weights_without_the_workspaces_line(tmp_path: Path) -> None:
    import polars

    row = _row(_chat({"train": False}, {"weight": 2}, weight=0.5))
    export_rows("parquet", {"train": [row, _row(_chat({}))]}, tmp_path, {"name": "v1"})
    frame = polars.read_parquet(tmp_path / "train.parquet")
    assert frame["weight"].to_list() == [0.5, None]
    marks = [(one["train"], one["weight"]) for one in frame["messages"][0]]
    assert marks == [(None, None), (False, None), (None, None), (None, 2.0)]


def test_an_openai_answer_of_weight_zero_stays_untrained() -> None:
    read = importers()["openai"].read
    draft = read(
        {"messages": [_turn("user", "a"), _turn("assistant", "b", weight=0), _turn("assistant", "c", weight=1)]}
    )
    assert [message.get("weight") for message in draft.line["messages"]] == [None, 0, None]
    assert load_shape("chat").is_valid(draft.line)
