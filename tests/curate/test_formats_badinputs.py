"""The hostile inputs of ../shared/badinputs that are aimed at build servers, through the command and every format."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from curate.cli import cli
from curate.formats.reports import format_names

ROWS = {
    "type": "object",
    "required": ["instruction", "output"],
    "properties": {"output": {"type": "string"}, "category": {"type": "string"}},
    "x-record": {"id": "/id", "prompt": "/instruction", "completion": "/output", "category": "/category"},
}


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, Any]:
    lines = (shared / "badinputs" / "MANIFEST.jsonl").read_text(encoding="utf-8").splitlines()
    return {case["id"]: case for case in map(json.loads, lines) if case["stage"] == "ci"}


def curate(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["validate", *arguments], standalone_mode=False)
    assert done.exception is None, done.exception
    return int(done.return_value), done.stdout, done.stderr


def orders_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.lstrip().startswith("::") or "##[" in line or "##vso[" in line]


def is_escaped(order: str) -> bool:
    """Whether a line is one command with a severity, a title and nothing else that a runner would read."""
    kind, _, message = order.removeprefix("::").partition("::")
    name, _, properties = kind.partition(" ")
    keys = [pair.partition("=")[0] for pair in properties.split(",")]
    return (
        name in ("error", "warning", "notice")
        and set(keys) <= {"file", "line", "col", "title"}
        and "##[" not in message
    )


def test_every_case_of_the_kind_is_known(cases: dict[str, Any]) -> None:
    assert set(cases) == {"ci.workflow_commands.jsonl", "ci.path_in_annotation"}


@pytest.mark.parametrize("values", [[], ["--show-values"]])
@pytest.mark.parametrize("name", format_names())
def test_commands_in_records(name: str, values: list[str], cases: dict[str, Any], shared: Path, tmp_path: Path) -> None:
    case = cases["ci.workflow_commands.jsonl"]
    schema = tmp_path / "rows.schema.json"
    # Every category is wrong too, so that it lands in a message when values are shown.
    rows = ROWS["properties"] | {"category": {"enum": ["x"]}}  # type: ignore[operator]
    schema.write_text(json.dumps(ROWS | {"properties": rows}), encoding="utf-8")
    path = shared / "badinputs" / case["file"]
    code, out, err = curate(str(path), "--schema", str(schema), "--format", name, "--ignore", "P502", *values)
    assert code == 1
    orders = orders_in(out + err)
    if name == "github":
        assert len(orders) == 2 * case["errors"] + 1 == len(out.splitlines())
        assert all(is_escaped(order) for order in orders)
    else:
        assert orders == []
    if values and name in ("github", "text", "json"):
        assert "add-mask" in out


@pytest.mark.parametrize("name", format_names())
def test_commands_in_paths(name: str, cases: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ((_, given, text),) = cases["ci.path_in_annotation"]["setup"]
    for file in (given, "a,b=c::error::x.jsonl", "a\n::error::b.jsonl", "##[error]x.jsonl", "a ##[add-mask]true.jsonl"):
        (tmp_path / file).write_text(text, encoding="utf-8")
        code, out, err = curate("--format", name, "--", file)
        assert code == 1
        orders = orders_in(out + err)
        if name == "github":
            assert all(is_escaped(order) for order in orders)
            assert len(orders) == len(out.splitlines()) > 1
            assert "%0A::error" not in out
        else:
            assert orders == []


@pytest.mark.ci
def test_a_file_name_of_bytes_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    with open(raw, "wb") as file:  # noqa: PTH123  a path cannot be made of bytes
        file.write(b'{"id": 1}\n')
    for name in format_names():
        code, out, _ = curate("--format", name, "--", os.fsdecode(b"caf\xe9.jsonl"))
        assert code == 1
        out.encode()
