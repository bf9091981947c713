"""Everything that is written is plain, and has a JSON Schema in `schemas/`.

Records and datasets are JSON Lines, reports are JSON, a tuned model is a folder that `transformers` loads. So here
everything is read by other people's libraries alone.
"""

from __future__ import annotations

import csv
import json
import math
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.promises import outside
from tests.promises.outside import Row

SCHEMAS = Path(__file__).resolve().parent.parent.parent / "schemas"
SPLITS = ("train", "validation", "test")

FILES = {
    "curate.toml": "workspace",
    "data/*.jsonl": "instruction",
    "imports/*.toml": "import",
    "imports/*.json": "imported",
    "held_out.json": "held_out",
    "journal/**/*.log": "journal",
    "baseline.json": "baseline",
    "dataset/v1/manifest.json": "dataset",
    "dataset/v1/dropped.jsonl": "dropped",
    "dataset/v1/t*.jsonl": "row",
    "dataset/v1/validation.jsonl": "row",
    "runs/r/recipe.toml": "recipe",
    "runs/r/metrics.jsonl": "metrics",
    "runs/r/predictions.jsonl": "predictions",
    "runs/r/feedback.jsonl": "feedback",
    "runs/r/report.json": "report",
    "runs/r/worklist.json": "worklist",
    "runs/r/export/merged/export.json": "export",
}
"""Which schema each file of a workspace follows."""

PRINTED = {
    "findings": ["curate", "validate", ".", "--format", "json"],
    "stats": ["curate", "stats", ".", "--format", "json"],
    "status": ["curate", "status", ".", "--team", "--format", "json"],
    "agreement": ["curate", "agreement", ".", "--format", "json"],
    "counts": ["curate", "list", ".", "--count-by", "category", "--format", "json"],
    "diff": ["curate", "diff", "data/records.jsonl", ".", "--format", "json"],
    "worklist": ["curate", "worklist", "runs/r", "--json"],
    "journal": ["curate", "log", ".", "--format", "jsonl", "--show-values"],
    "report": ["train", "compare", "runs/r", "runs/r", "--json"],
}
"""What a command prints for programs, by its schema."""

OF_OTHERS = ["runs/r/model/*", "runs/r/export/merged/*", "exports/**/*"]
"""Files whose form is that of the programs that they are for."""

BARE = ["quarantine/*.jsonl", "runs/r/run.json", "runs/r/process.json", "runs/r/checkpoint-*/*.json"]
"""JSON that only we read back, which has no schema."""

EXPORTS: dict[str, tuple[str, Callable[[Row], tuple[str, str]]]] = {
    "csv": ("{}.csv", lambda row: (row["instruction"], row["output"])),
    "hf": ("{}", lambda row: tuple(one["content"] for one in row["messages"])),
    "parquet": ("{}.parquet", lambda row: tuple(one["content"] for one in row["messages"])),
    "sharegpt": ("{}.jsonl", lambda row: tuple(one["value"] for one in row["conversations"])),
    "llama-factory": ("{}.json", lambda row: tuple(one["value"] for one in row["conversations"])),
    "trl": ("{}.jsonl", lambda row: (row["prompt"][0]["content"], row["completion"][0]["content"])),
}
"""Formats of other programs: the file of a split, and the question and the answer in a row."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after a whole round: everything that it holds was written by the commands."""
    folder = tmp_path_factory.mktemp("plain")
    rows = outside.rows_on("a", 30) + outside.rows_on("b", 30)
    mail = {
        "id": "mail",
        "instruction": "Whom do I ask about lamps?",
        "output": "Ask jo.may@lamps.org.",
        "category": "a",
    }
    outside.write_rows(folder / "records.jsonl", [*rows, rows[0] | {"id": "twice"}, mail])
    with (folder / "records.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "broken"\n')
    root = folder / "ws"
    assert outside.curate("init", root, folder / "records.jsonl").returncode == 1, "one line lies in quarantine"
    outside.set_seed(root)

    def do(program: str, *words: object, typed: str = "") -> None:
        run = outside.curate if program == "curate" else outside.train
        outside.succeed(run(*words, cwd=root, input=typed))

    do("curate", "validate", ".", "--baseline", "baseline.json", "--update-baseline")
    for name in ("ana", "bo"):
        do("curate", "label", ".", "--plain", "--all", "--by", name, typed="1\n2\n1\nu\nq\n")
    do("curate", "drop", "a-007", ".", "--reason", "dull", "--by", "ana")
    do("curate", "edit", "--where", "id:a-003", "--set", "category=b", ".", "--by", "ana")
    do("curate", "export", ".")
    for name in EXPORTS:
        do("curate", "export", ".", "--to", name)
    quick = ["method=full", "max_steps=2", "global_batch_size=4", "eval.max_new_tokens=4", "eval.resamples=100"]
    changes = [word for one in [*quick, 'eval.splits=["validation", "test"]'] for word in ("--set", one)]
    do("train", "run", "dataset/v1", "--base", outside.TINY_BASE, "--out", "runs/r", *changes)
    do("train", "export", "runs/r", "--to", "merged")
    do("curate", "worklist", "runs/r")
    return root


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def parse(text: str) -> Any:
    """Read strict JSON, in which there is no NaN."""
    return json.loads(text, parse_constant=refuse)


def values_in(path: Path) -> list[Any]:
    """Return what a file says: a table, one value, or one in each line."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        return [tomllib.loads(text)]
    if path.suffix == ".json":
        return [parse(text)]
    assert not text or text.endswith("\n")
    # A line of a journal begins with its checksum.
    return [parse(line.split(" ", 1)[1] if path.suffix == ".log" else line) for line in text.splitlines()]


def validator_of(schema: str) -> Draft202012Validator:
    return Draft202012Validator(parse((SCHEMAS / f"{schema}.schema.json").read_text(encoding="utf-8")))


def check(schema: str, values: list[Any]) -> None:
    """Hold values against a schema, and the schema against values that nobody writes."""
    validator = validator_of(schema)
    assert values
    for value in values:
        assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)] == []
    assert not all(map(validator.is_valid, [{}, values[0] | {"no such key": 1}])), (
        "a schema that takes all says nothing"
    )


@pytest.mark.parametrize("pattern", FILES)
def test_every_file_follows_its_schema(workspace: Path, pattern: str) -> None:
    paths = sorted(workspace.glob(pattern))
    check(FILES[pattern], [value for path in paths for value in values_in(path)])


@pytest.mark.parametrize("schema", PRINTED)
def test_what_is_printed_for_programs_follows_its_schema(workspace: Path, schema: str) -> None:
    program, *words = PRINTED[schema]
    done = (outside.curate if program == "curate" else outside.train)(*words, cwd=workspace)
    assert done.returncode in (0, 1), done.stderr
    check(schema, [parse(text) for text in (done.stdout.splitlines() if schema == "journal" else [done.stdout])])


def test_no_file_is_written_that_is_neither_described_nor_named_here(workspace: Path) -> None:
    known = {path for pattern in [*FILES, *OF_OTHERS, *BARE] for path in workspace.glob(pattern)}
    written = {path for path in workspace.rglob("*") if path.suffix in (".json", ".jsonl", ".toml", ".log")}
    assert len(written) > 40
    assert sorted(str(path.relative_to(workspace)) for path in written - known) == []


def test_every_file_is_text_or_safetensors_or_a_table_for_others(workspace: Path) -> None:
    from safetensors import safe_open

    kinds = set()
    for path in (path for path in workspace.rglob("*") if path.is_file()):
        kinds.add(path.suffix)
        if path.suffix == ".safetensors":
            with safe_open(path, "numpy") as weights:
                assert list(weights.keys())
        elif path.suffix not in (".arrow", ".parquet"):
            assert "\0" not in path.read_text(encoding="utf-8"), path
    assert kinds >= {".json", ".jsonl", ".toml", ".log", ".md", ".html", ".jinja", ".safetensors", ".arrow", ".parquet"}


@pytest.mark.parametrize("schema", sorted(path.name.split(".")[0] for path in SCHEMAS.glob("*.schema.json")))
def test_every_schema_is_one_and_needs_no_other_file(schema: str) -> None:
    def references(value: Any) -> Iterator[str]:
        for key, inner in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            if key == "$ref" and isinstance(inner, str):
                yield inner
            yield from references(inner)

    schema_ = validator_of(schema).schema
    Draft202012Validator.check_schema(schema_)
    assert schema_["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert all(reference.startswith("#/") for reference in references(schema_))


def rows_of(path: Path) -> list[Row]:
    """Read an exported split with the library that its users have."""
    if path.suffix == ".parquet":
        import polars

        return polars.read_parquet(path).rows(named=True)
    if path.is_dir():
        from datasets import load_from_disk

        return list(load_from_disk(str(path)))
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return parse(path.read_text(encoding="utf-8")) if path.suffix == ".json" else values_in(path)


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_for_others_has_every_question_and_answer_of_the_dataset(workspace: Path, name: str) -> None:
    file_name, pair = EXPORTS[name]
    for split, rows in outside.read_export(workspace).items():
        wanted = [tuple(message["content"] for message in row["messages"]) for row in rows]
        assert wanted
        assert [pair(row) for row in rows_of(workspace / f"exports/{name}-v1" / file_name.format(split))] == wanted


def test_tools_and_calls_are_exported_for_others_with_the_words_around_them(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"where": "hall"}'}}
    messages = [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "in the hall"}, {"role": "assistant", "content": "In the hall."},
    ]  # fmt: skip
    row = {"id": "asked", "category": "a", "split": "train", "messages": messages, "tools": [tool]}
    chat = outside.make_workspace(tmp_path / "ws", [row], 'schema = "chat"\n[split]\nseed = 1\n')
    outside.succeed(outside.curate("export", chat, "--to", "trl"))
    (line,) = outside.read_rows(chat / "exports/trl-v1/train.jsonl")
    assert line["tools"] == [tool]
    said = line["messages"] if "messages" in line else line["prompt"] + line["completion"]
    assert [(one["role"], one.get("content") or "") for one in said] == [
        (one["role"], one["content"] or "") for one in messages
    ]
    (called,) = said[2]["tool_calls"]
    assert called["function"]["name"] == "look"
    assert called["function"]["arguments"] == {"where": "hall"}


@pytest.mark.parametrize("model", ["base", "runs/r/model", "runs/r/export/merged"])
def test_transformers_loads_a_model_folder_and_answers_as_the_run_recorded(workspace: Path, model: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = outside.TINY_BASE if model == "base" else workspace / model
    who = "base" if model == "base" else "tuned"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    recorded = {row["id"]: row for row in outside.read_rows(workspace / "runs/r/predictions.jsonl")}
    asked = outside.read_export(workspace)["test"]
    assert len(asked) > 3
    for row in asked:
        question, answer = row["messages"]
        ids = tokenizer.apply_chat_template(
            [question], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        written = loaded.generate(**ids, max_new_tokens=4, do_sample=False)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(written, skip_special_tokens=True).strip() == recorded[row["id"]][who]["text"].strip()
        whole = tokenizer.apply_chat_template([question, answer], return_tensors="pt", return_dict=True)
        logits = loaded(**whole).logits
        assert torch.isfinite(logits).all()
        start = ids["input_ids"].shape[1]
        end = start + recorded[row["id"]][who]["num_tokens"]
        losses = torch.nn.functional.cross_entropy(
            logits[0, start - 1 : end - 1], whole["input_ids"][0, start:end], reduction="sum"
        )
        assert math.isclose(losses.item(), recorded[row["id"]][who]["nll"], rel_tol=1e-4)
