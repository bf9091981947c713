"""What a command says where it cannot go on: the next command to type, and one that exists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.base.events import Add
from tests.curate.called import call


def test_a_file_in_place_of_a_folder_is_told_what_reads_it(in_own_folder):
    Path("my data.jsonl").write_text('{"instruction": "q", "output": "a"}\n')
    said = call("my data.jsonl")
    assert said.exit_code == 2
    assert "curate validate 'my data.jsonl'" in said.stderr
    assert "E990" in said.stderr, "with a terminal it is opened"


def test_a_folder_that_is_missing_is_told_how_to_make_it(in_own_folder):
    said = call("missing-folder")
    assert said.exit_code == 2
    assert "no file 'missing-folder'" in said.stderr
    assert "`curate init missing-folder`" in said.stderr
    assert "There is no file 'missing.jsonl'." in call("missing.jsonl").stderr


def test_a_slip_in_a_verb_names_the_verb(in_own_folder):
    assert "Did you mean 'validate'" in call("validat").stderr


@pytest.mark.parametrize(("name", "table"), [("x.csv", "a CSV table"), ("x.TSV", "a TSV table")])
def test_validating_a_table_says_that_it_is_one(in_own_folder, name, table):
    Path(name).write_text("instruction,output\nq1,a1\nq2,a2\n")
    said = call("validate", name)
    assert said.exit_code == 1
    assert f"error[S124 not-json-lines]: {table} of 3 lines, not JSON Lines; none of them" in said.stdout
    assert "curate init DIR FILE" in said.stdout
    assert said.stdout.count("error[") == 1
    assert "--schema names another" not in said.stderr


@pytest.mark.ci
def test_a_table_is_one_finding_however_many_read_it(in_own_folder):
    Path("x.csv").write_text("instruction,output\n" + "q,a\n" * 200_000)
    said = call("validate", "x.csv", "--jobs", "2")
    assert said.stdout.count("error[") == 1


def test_lines_under_the_name_of_a_table_are_read_as_lines(in_own_folder):
    Path("x.csv").write_text(json.dumps({"instruction": "Name a colour.", "output": "Blue."}) + "\n")
    assert call("validate", "x.csv", "--ignore", "B8,P5,L4").exit_code == 0


def test_an_export_without_a_record_exits_with_1(make_workspace):
    empty = make_workspace([]).root
    said = call("export", empty)
    assert said.exit_code == 1
    assert "E917 nothing-to-export" in said.stderr


CALLS = [{"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Oslo"}'}}]


def chat_lines(category: str, count: int, *, has_calls: bool) -> list[dict[str, Any]]:
    """Return chats of one category, with a call of a tool each, or without."""
    calls = {"tool_calls": CALLS} if has_calls else {}
    return [
        {
            "id": f"{category}{number}",
            "messages": [
                {"role": "user", "content": f"Weather number{number} of {category} in town{number * 7}?"},
                {"role": "assistant", "content": f"say{number * 3} {category}", **calls},
            ],
            "category": category,
        }
        for number in range(count)
    ]  # fmt: skip


CHATS = 'schema = "chat"\n[split]\nseed = 1\n'


def test_a_category_that_a_format_cannot_hold_is_named(make_workspace):
    lines = chat_lines("calls", 30, has_calls=True) + chat_lines("plain", 30, has_calls=False)
    said = call("export", make_workspace(lines, CHATS).root, "--to", "alpaca")
    assert said.exit_code == 0
    assert "category calls is missing from alpaca: all of its 30 records are skipped" in said.stderr
    assert "category plain" not in said.stderr


def test_a_format_that_can_hold_no_record_exits_with_1(make_workspace):
    said = call("export", make_workspace(chat_lines("calls", 30, has_calls=True), CHATS).root, "--to", "alpaca")
    assert said.exit_code == 1
    assert "no record can be written as alpaca" in said.stderr


def test_a_bound_that_is_too_large_is_told_as_that(in_own_folder):
    schema = {
        "type": "object",
        "properties": {"instruction": {"type": "string"}, "output": {"type": "string"}, "n": {"maximum": 2**63}},
        "x-record": {"prompt": "/instruction", "completion": "/output"},
    }
    Path("s.json").write_text(json.dumps(schema))
    Path("a.jsonl").write_text('{"instruction": "q", "output": "a", "n": 3}\n')
    said = call("validate", "a.jsonl", "--schema", "s.json")
    assert said.exit_code == 2
    assert "schema-number" in said.stderr
    assert "leave the bound out" in said.stderr


@pytest.mark.parametrize("words", [["--dry-run"], ["--", "--dry-run"]])
def test_a_dry_run_of_training_writes_nothing(make_workspace, trainer, words):
    root = make_workspace().root
    before = sorted(root.rglob("*"))
    assert call("train", root, *words).exit_code == 0
    assert sorted(root.rglob("*")) == before


def test_a_rival_format_can_be_chosen_at_once(in_own_folder):
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
    Path("a.jsonl").write_text(json.dumps(row) + "\n")
    said = call("init", "ws", "a.jsonl", "--format", "openai")
    assert said.exit_code == 0
    assert "rows as openai" in said.stderr


def test_a_format_of_another_name_is_told_which_there_are(in_own_folder):
    Path("a.jsonl").write_text('{"instruction": "q", "output": "a"}\n')
    said = call("init", "ws", "a.jsonl", "--format", "alpacca")
    assert said.exit_code == 2
    assert "did you mean 'alpaca'" in said.stderr
    assert not Path("ws").exists()


def test_the_first_record_of_a_workspace_brings_no_finding(make_workspace, hold):
    workspace = make_workspace([])
    (workspace.root / "data/a.jsonl").unlink()
    line = {"id": "r1", "instruction": "Name a colour.", "output": "Blue."}
    hold(workspace).apply([Add("r1", line)])
    said = call("validate", workspace.root, "--ignore", "B8,P5,L4")
    assert (said.exit_code, said.stdout) == (0, "")
    assert "1 record, 0 errors, 0 warnings" in said.stderr


def test_an_option_that_never_was_is_no_row(in_own_folder):
    assert "No such option '--presett'" in call("dedupe", "--presett", "short").stderr
