"""Decisions on all records that a filter lets through: one act each, one undo, and nobody's answer is overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.curate.called import call
from tests.curate.deciding import decide

pytest.importorskip("polars")

from curate.base.events import Label, Resolve
from curate.checks.runner.examine import BLOCKS_FROM
from curate.project.data import ProjectData, load_data

LINES: list[dict[str, Any]] = [
    {"id": f"r{number}", "instruction": f"Question {number}?", "output": "Yes.", "category": category}
    for number, category in enumerate(("billing", "billing", "returns", "returns", "other"))
]
QUESTION = '[label]\nquestions = [{ name = "quality", values = ["good", "poor"] }]\n'
Make = Callable[..., ProjectData]


def listed(root: Path, *words: str) -> dict[str, dict[str, Any]]:
    said = call("list", root, "--format", "jsonl", "--show-values", *words)
    return {record["id"]: record for record in map(json.loads, said.stdout.splitlines())}


def categories(root: Path) -> list[str]:
    return [record["category"] for record in listed(root).values()]


def journal(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((root / "journal").rglob("*")) if path.is_file())


def test_two_categories_become_one_in_one_act(make_workspace: Make) -> None:
    root = make_workspace(LINES).root
    words = ("edit", root, "--where", "category:billing|returns", "--set", "category=orders", "--by", "ana")
    would = call(*words, "--dry-run")
    assert would.stdout.splitlines() == [
        *(line for number in range(4) for line in (
            f"r{number}", f"- category: {LINES[number]['category']}", "+ category: orders"
        )),
        "would be edited: 4 records (r0, r1, r2, r3)",
    ]  # fmt: skip
    assert "nothing was written" in would.stderr
    assert not journal(root)
    assert call(*words).stdout == "edited: 4 records (r0, r1, r2, r3)\n"
    assert categories(root) == ["orders"] * 4 + ["other"]
    again = call(*words)
    assert (again.stdout, "no record matches the filter" in again.stderr) == ("", True)
    assert call("undo", root, "--by", "ana").exit_code == 0
    assert categories(root) == [line["category"] for line in LINES]


def test_a_dry_run_shows_five_and_counts_all(make_workspace: Make) -> None:
    lines = [LINES[0] | {"id": f"r{number}"} for number in range(12)]
    would = call("edit", make_workspace(lines).root, "--where", "id:*", "--set", "category=x", "--dry-run")
    assert would.stdout.count("+ category: x") == 5
    assert would.stdout.endswith("would be edited: 12 records (r0, r1, r2, r3, r4 and 7 more)\n")


def test_it_says_where_files_of_settings_name_the_old_category(make_workspace: Make) -> None:
    settings = (
        'recipe = "recipe.toml"\n[split]\nseed = 1\n[checks]\nallow_refusals = ["billing"]\n'
        '[categories.billing]\nscorer = "exact"\n[categories.other]\n'
        '[[label.questions]]\nname = "category"\nvalues = ["other", "billing"]\n'
    )
    root = make_workspace(LINES, settings).root
    (root / "recipe.toml").write_text("[mixing]\ncaps = { billing = 5 }\n", encoding="utf-8")
    said = call("edit", root, "--where", "category:billing", "--set", "category=payments")
    assert [line for line in said.stderr.splitlines() if "curate.toml" in line or "recipe" in line] == [
        "curate.toml:5: checks.allow_refusals.0 names a category that records have left",
        "curate.toml:6: categories.billing names a category that records have left",
        "curate.toml:11: label.questions.0.values.1 names a category that records have left",
        "recipe.toml:2: mixing.caps.billing names a category that records have left",
        "curate.toml knows no category payments; write it under [categories], or L404 reports its records",
    ]
    known = call("edit", root, "--where", "category:payments", "--set", "category=other")
    assert "curate.toml" not in known.stderr


def test_a_record_without_a_category_gets_one_and_no_empty_setting_is_named(make_workspace: Make) -> None:
    lines = [{key: value for key, value in line.items() if key != "category"} for line in LINES]
    root = make_workspace(lines, 'recipe = "recipe.toml"\n[checks]\nbaseline = ""\n').root
    # What cannot be read is for who trains; the records are changed all the same.
    (root / "recipe.toml").write_text("[mixing", encoding="utf-8")
    said = call("edit", root, "--where", 'category:""', "--set", "category=new")
    assert (said.exit_code, said.stdout) == (0, "edited: 5 records (r0, r1, r2, r3, r4)\n")
    assert "recipe" not in said.stderr
    assert "curate.toml" not in said.stderr
    assert categories(root) == ["new"] * 5


def test_a_category_within_an_object_leaves_what_is_beside_it(tmp_path: Path) -> None:
    schema = {
        "type": "object", "required": ["q", "a"],
        "x-record": {"prompt": "/q", "completion": "/a", "category": "/meta/topic", "id": "/id"},
        "properties": {"id": {"type": "string"}, "q": {"type": "string"}, "a": {"type": "string"},
                       "meta": {"type": "object"}},
    }  # fmt: skip
    line = {"id": "r1", "q": "Where?", "a": "There.", "meta": {"topic": "old", "more": {"kept": [1]}}}
    root = tmp_path / "own"
    (root / "data").mkdir(parents=True)
    (root / "own.schema.json").write_text(json.dumps(schema), encoding="utf-8")
    (root / "curate.toml").write_text('schema = "own.schema.json"\n', encoding="utf-8")
    (root / "data/a.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert call("edit", root, "--where", "category:old", "--set", "category=new").stdout == "edited: 1 record (r1)\n"
    assert listed(root)["r1"]["data"] == line | {"meta": {"topic": "new", "more": {"kept": [1]}}}


def test_answers_are_given_to_all_and_nobody_elses_is_overwritten(make_workspace: Make) -> None:
    data = make_workspace(LINES, QUESTION)
    decide(data, [Label("r0", "quality", "poor")], by="bo")
    decide(data, [Label("r1", "quality", "poor"), Label("r2", "quality", "good")], by="ana")
    decide(data, [Resolve("r3", "quality", "poor")], by="bo")
    root = data.root
    before = journal(root)
    words = ("label", root, "--where", "id:*", "--set", "quality=good", "--by", "ana")
    would = call(*words, "--dry-run")
    assert would.stdout.splitlines() == [
        "r1", "- quality: poor", "+ quality: good", "r4", "+ quality: good", "would be answered: 2 records (r1, r4)",
    ]  # fmt: skip
    assert journal(root) == before
    said = call(*words)
    assert said.stdout == "answered: 2 records (r1, r4)\n"
    assert "left alone, others have answered or it is settled: 2 records (r0, r3)" in said.stderr
    assert "left alone, so already: 1 record (r2)" in said.stderr
    labels = {name: record["labels"].get("quality") for name, record in listed(root).items()}
    assert labels == {"r0": "poor", "r1": "good", "r2": "good", "r3": "poor", "r4": "good"}
    call("undo", root, "--by", "ana")
    labels = {name: record["labels"].get("quality") for name, record in listed(root).items()}
    assert labels == {"r0": "poor", "r1": "poor", "r2": "good", "r3": "poor", "r4": None}
    # No value takes one's own answers back, and only those.
    back = call("label", root, "--where", "id:*", "--set", "quality=", "--by", "ana")
    assert back.stdout == "answered: 2 records (r1, r2)\n"
    labels = {name: record["labels"].get("quality") for name, record in listed(root).items()}
    assert labels == {"r0": "poor", "r1": None, "r2": None, "r3": "poor", "r4": None}


def test_several_questions_are_one_act(make_workspace: Make) -> None:
    settings = '[label]\nquestions = [{ name = "quality", values = ["good", "poor"] }, { name = "tone" }]\n'
    root = make_workspace(LINES, settings).root
    said = call("label", root, "--where", "category:billing", "--set", "quality=good", "--set", "tone=warm=er")
    assert said.stdout == "answered: 2 records (r0, r1)\n"
    assert listed(root)["r0"]["labels"] == {"quality": "good", "tone": "warm=er"}
    call("undo", root)
    assert listed(root)["r0"]["labels"] == {}


def test_what_is_hidden_is_neither_matched_nor_changed(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_workspace(LINES, "[split]\nseed = 1\n[label]\noverlap = 1.0\n")
    decide(data, [Label("r0", "category", "returns")], by="bo")
    root = data.root
    # The filter sees what ana may see, whoever the user is.
    monkeypatch.setenv("CURATE_ANNOTATOR", "bo")
    said = call("edit", root, "--where", "category:billing", "--set", "category=payments", "--by", "ana")
    assert said.stdout == "edited: 1 record (r1)\n"
    assert "left alone, others have answered and you are still asked: 1 record (r0)" in said.stderr
    assert categories(root) == ["returns", "payments", "returns", "returns", "other"]
    # Once she has answered, she sees it, and may rename what came of it.
    decide(data, [Label("r0", "category", "returns")], by="ana")
    assert call("edit", root, "--where", "category:returns", "--set", "category=back", "--by", "ana").exit_code == 0
    assert categories(root) == ["back", "payments", "back", "back", "other"]


def test_what_a_filter_lets_through_is_dropped_and_restored(make_workspace: Make) -> None:
    root = make_workspace(LINES).root
    would = call("drop", "--where", "category:billing", root, "--reason", "x", "--dry-run")
    assert would.stdout == "would be dropped: 2 records (r0, r1)\n"
    assert call("drop", "--where", "category:billing", root, "--reason", "x").exit_code == 0
    assert {*listed(root)} == {"r2", "r3", "r4"}
    # A filter without a status is about records that are in.
    none = call("drop", "--where", "category:billing", root, "--reason", "x")
    assert (none.stdout, "no record matches the filter" in none.stderr) == ("", True)
    back = call("drop", "--undo", "--where", "status:dropped", root)
    assert back.stdout == "restored: 2 records (r0, r1)\n"
    call("undo", root, "--steps", "2")
    assert len(listed(root)) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("label", "--where", "id:*"), "--where and --set go together"),
        (("label", "--set", "quality=good"), "--where and --set go together"),
        (("label", "--dry-run"), "--dry-run is for --where and --set"),
        (("label", "--where", " ", "--set", "quality=good"), "it lets every record through; id:* says so"),
        (
            ("label", "--where", "id:*", "--set", "quality=fine"),
            "'fine' is no answer to quality; there are: good, poor",
        ),
        (("label", "--where", "id:*", "--set", "quality"), "'quality' is not NAME=VALUE"),
        (
            ("label", "--where", "id:*", "--set", "quality=good", "--set", "quality=poor"),
            "'quality=poor' is there twice",
        ),
        (("label", "--where", "id:*", "--set", "tone=good"), "there is no question 'tone'"),
        (("label", "--where", "idd:1", "--set", "quality=good"), "E971"),
        (("edit", "--where", "id:*"), "--where and --set go together"),
        (("edit", "--where", "id:*", "--set", "output=x"), "only category= can be set for many"),
        (("edit", "--where", "id:*", "--set", "category="), "a category needs a name"),
        (("edit", "--new", "--where", "id:*", "--set", "category=x"), "--set changes records that are there"),
        (("drop", "r1", "--where", "id:*", "--reason", "x"), "with --where name the workspace alone"),
    ],
)
def test_what_is_not_clear_is_refused_and_nothing_is_written(make_workspace: Make, words: Any, message: str) -> None:
    root = make_workspace(LINES, QUESTION).root
    said = call(*words, root)
    assert said.exit_code == 2
    assert message in said.stderr
    assert not journal(root)


@pytest.mark.ci
def test_of_a_large_file_lines_are_read_at_once(make_workspace: Make) -> None:
    """Files of 8 MB and more are read by columns, and their states by other code."""
    text = "word " * 400
    lines = [
        {"id": f"r{n}", "instruction": f"{n} {text}", "output": "Yes.", "category": ("a", "b")[n % 2]}
        for n in range(BLOCKS_FROM // len(text) + 100)
    ]
    root = make_workspace(lines).root
    assert (root / "data/a.jsonl").stat().st_size > BLOCKS_FROM
    said = call("label", root, "--where", "category:a", "--set", "category=c", "--by", "ana")
    assert said.stdout.startswith(f"answered: {(len(lines) + 1) // 2:,} records (r0, r2, ")
    assert set(categories(root)) == {"b", "c"}
    assert call("undo", root, "--by", "ana").exit_code == 0
    states = load_data(root).states()
    assert [state.record.category for state in states] == [line["category"] for line in lines]
