"""The official suites: JSON Schema through the options that shapes use, JSON through the front door's parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from curate.jsonl import JsonFault, strict_loads
from curate.schema import build_validator

SCHEMA_SUITE = "conformance/json-schema-test-suite"
JSON_SUITE = "conformance/json-test-suite"
DIALECTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
}


@pytest.fixture(scope="module")
def remotes(shared: Path) -> dict[str, Any]:
    folder = shared / SCHEMA_SUITE / "remotes"
    return {
        f"http://localhost:1234/{path.relative_to(folder).as_posix()}": json.loads(path.read_text(encoding="utf-8"))
        for path in folder.rglob("*.json")
    }


def failures(
    files: list[Path], draft: str, remotes: dict[str, Any], *, is_format_checked: bool
) -> tuple[list[str], int]:
    """Return the cases that go wrong and the number of all cases."""
    wrong, total = [], 0
    for path in files:
        for group in json.loads(path.read_text(encoding="utf-8")):
            schema = group["schema"]
            if isinstance(schema, dict) and "$schema" not in schema:
                schema = {"$schema": DIALECTS[draft], **schema}
            for case in group["tests"]:
                total += 1
                where = f"{path.name}: {group['description']}: {case['description']}"
                try:
                    validator = build_validator(schema, remotes, is_format_checked=is_format_checked)
                except jsonschema_rs.ValidationError as error:
                    wrong.append(f"{where}: {error.message}")
                    continue
                if validator.is_valid(case["data"]) != case["valid"]:
                    wrong.append(where)
    return wrong, total


@pytest.mark.parametrize(("draft", "least"), [("draft2020-12", 1299), ("draft7", 927)])
def test_required_cases_all_pass(draft: str, least: int, shared: Path, remotes: dict[str, Any]) -> None:
    files = sorted((shared / SCHEMA_SUITE / "tests" / draft).glob("*.json"))
    wrong, total = failures(files, draft, remotes, is_format_checked=False)
    assert total >= least
    assert wrong == []


@pytest.mark.parametrize(("draft", "least"), [("draft2020-12", 926), ("draft7", 794)])
def test_optional_cases_nearly_all_pass(draft: str, least: int, shared: Path, remotes: dict[str, Any]) -> None:
    folder = shared / SCHEMA_SUITE / "tests" / draft / "optional"
    formats = sorted((folder / "format").rglob("*.json"))
    others = sorted(path for path in folder.rglob("*.json") if path not in formats)
    wrong, total = failures(others, draft, remotes, is_format_checked=False)
    more_wrong, more = failures(formats, draft, remotes, is_format_checked=True)
    assert total + more >= least
    assert len(wrong) + len(more_wrong) <= 0.01 * (total + more), wrong + more_wrong


# Texts that JSON allows and the front door refuses on purpose, because two programs can read them in two ways.
REFUSED_ON_PURPOSE = {
    "y_object_duplicated_key.json": "S105",
    "y_object_duplicated_key_and_value.json": "S105",
}


def verdict_on(path: Path) -> str:
    """Return "" for a text that is read, else the code."""
    try:
        strict_loads(path.read_bytes())
    except JsonFault as fault:
        is_placed = 1 <= fault.column <= path.stat().st_size + 1
        return fault.code if is_placed else f"{fault.code} outside the text"
    return ""


def test_json_parsing_suite(shared: Path) -> None:
    files = sorted((shared / JSON_SUITE / "test_parsing").glob("*.json"))
    assert len(files) == 318
    verdicts = {path.name: verdict_on(path) for path in files}
    must_pass = {name: code for name, code in verdicts.items() if name.startswith("y_")}
    assert {name: code for name, code in must_pass.items() if code} == REFUSED_ON_PURPOSE
    must_fail = {name: code for name, code in verdicts.items() if name.startswith("n_")}
    assert [name for name, code in must_fail.items() if not code] == []


def test_what_is_left_open_is_read_exactly_or_refused(shared: Path) -> None:
    """Of the texts that parsers may treat either way, those let in must say the same to a second parser."""
    paths = [
        *(shared / JSON_SUITE / "test_parsing").glob("i_*.json"),
        *(shared / JSON_SUITE / "test_transform").glob("*.json"),
    ]
    let_in = [path for path in paths if not verdict_on(path)]
    assert let_in
    for path in let_in:
        assert strict_loads(path.read_bytes()) == json.loads(path.read_bytes())
