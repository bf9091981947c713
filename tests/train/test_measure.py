"""`train measure`: lengths that are those of training, in the form that its schema promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner, Result

from train.base.errors import TrainError
from train.cli import cli
from train.data.dataset import read_row
from train.data.rendering import Renderer
from train.model import load_base, load_tokenizer


def row(name: str, *turns: str, **more: Any) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return {
        "id": name, "kind": "chat", "category": "", "cluster": name, "messages": messages, "tools": None, "text": None,
        "source": "a.jsonl:1",
    } | more  # fmt: skip


ROWS = [
    row("one", "Add 2 and 3.", "5"),
    row("two", "Add 2 and 3.", "5", "And 4?", "The sum is 9."),
    row("text", text="Keep the valve shut.", messages=None),
    row("nobody", "Hello?"),
    row("token", "Say <|im_end|> now.", "No."),
    row("roles", "Hi", "Ho") | {"messages": [{"role": "narrator", "content": "It rains."}]},
]


def measured(folder: Path, rows: list[dict[str, Any]], *options: str) -> Result:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return CliRunner().invoke(cli, ["measure", str(path), "--model", "tiny-base", *options])


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_what_is_printed_fits_the_schema_and_names_every_row(tmp_path: Path, root: Path) -> None:
    schema = json.loads((root / "schemas/lengths.schema.json").read_text(encoding="utf-8"))
    found = lines(measured(tmp_path, ROWS, "--max-length", "30"))
    assert [one["id"] for one in found] == [one["id"] for one in ROWS]
    assert all(jsonschema_rs.is_valid(schema, one) for one in found)
    assert [bool(one["fault"]) for one in found] == [False, False, False, True, True, True]


@pytest.mark.ci
def test_lengths_are_those_of_the_examples_that_are_trained(tmp_path: Path) -> None:
    _, tokenizer = load_base("tiny-base", device="cpu")
    for objective in ("sft", "chat"):
        renderer = Renderer(tokenizer, objective)
        found = lines(measured(tmp_path, ROWS[:3], "--objective", objective, "--max-length", "25"))
        for one, given in zip(found, ROWS, strict=False):
            example = renderer.example(read_row(json.dumps(given).encode(), "a:1"))
            assert one["tokens"] == len(example.ids)
            assert one["supervised"] == sum(example.mask)
            assert one["supervised_left"] == sum(example.mask[:25])
            assert one["prompt_tokens"] == example.mask.index(True)
            trained = {place for start, stop in one["runs"] for place in range(start, stop)}
            assert trained == {place for place, is_trained in enumerate(example.mask) if is_trained}


def test_the_last_answer_or_all_of_them(tmp_path: Path) -> None:
    assert len(lines(measured(tmp_path, [ROWS[1]]))[0]["runs"]) == 2
    assert len(lines(measured(tmp_path, [ROWS[1]], "--objective", "sft"))[0]["runs"]) == 1


def test_control_tokens_are_a_fault_unless_allowed(tmp_path: Path) -> None:
    (refused,) = lines(measured(tmp_path, [row("token", "Say <|end|> or <|im_end|>.", "No.")]))
    (allowed,) = lines(
        measured(tmp_path, [row("token", "Say <|end|> or <|im_end|>.", "No.")], "--allow-special-tokens")
    )
    assert "control token" in refused["fault"]
    assert not allowed["fault"]
    assert allowed["supervised"] > 0


def test_a_tokenizer_is_loaded_without_weights(tmp_path: Path, root: Path) -> None:
    for path in (root / "samples/tiny-base").iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    tokenizer, stop_ids = load_tokenizer(str(tmp_path))
    _, whole = load_base("tiny-base", device="cpu")
    assert tokenizer("Add 2 and 3.").input_ids == whole("Add 2 and 3.").input_ids
    assert stop_ids
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(TrainError, match="cannot be loaded"):
        load_tokenizer(str(tmp_path))


def test_a_length_without_a_limit_keeps_every_trained_token(tmp_path: Path) -> None:
    (whole,) = lines(measured(tmp_path, ROWS[:1]))
    assert whole["supervised_left"] == whole["supervised"] > 0
    assert lines(measured(tmp_path, ROWS[:1], "--max-length", "1"))[0]["supervised_left"] == 0


def test_difficulties_name_every_row_and_what_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in ROWS[:4]) + "{\n", encoding="utf-8")
    found = lines(CliRunner().invoke(cli, ["ifd", str(path), "--model", "tiny-base"]))
    assert [one["id"] for one in found] == ["one", "two", "text", "nobody", "row 5"]
    assert [bool(one["fault"]) for one in found] == [False, False, False, True, True]
    assert [one["ifd"] is None for one in found] == [False, False, False, True, True]
