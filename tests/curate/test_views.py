"""Views under a name in curate.toml, their order and columns, and how often each value of a field is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.curate.called import call
from tests.curate.deciding import decide

pytest.importorskip("polars")

from curate.base.events import Label
from curate.project.data import ProjectData

LINES: list[dict[str, Any]] = [
    {"id": "r0", "instruction": "One?", "output": "A " * 50, "category": "billing",
     "meta": {"lang": "en", "tags": ["x"]}},
    {"id": "r1", "instruction": "Two?", "output": "B.", "category": "billing",
     "meta": {"lang": "de", "tags": ["x", "y"]}},
    {"id": "r2", "instruction": "Three?", "output": "C " * 90, "category": "returns", "meta": {"lang": "en", "n": 3}},
    {"id": "r3", "instruction": "Four?", "output": "D " * 20, "category": "returns", "split": "test"},
]  # fmt: skip
SETTINGS = """# Ours, and it stays.
[split]
seed = 1   # drawn by hand

[label]
overlap = 1.0
questions = [{ name = "topic" }]
"""
Make = Callable[..., ProjectData]
SCHEMA = Path(__file__).parents[2] / "schemas/counts.schema.json"


def ids(*words: Any) -> list[str]:
    return [json.loads(line)["id"] for line in call("list", *words, "--format", "jsonl").stdout.splitlines()]


def test_a_view_is_saved_beside_all_that_stands_in_the_settings_and_used_again(make_workspace: Make) -> None:
    root = make_workspace(LINES, SETTINGS).root
    saved = call(
        "list", root, "--where", "tokens:>5", "--sort=-tokens", "--columns", "id,tokens", "--save", "long ones"
    )
    assert (saved.exit_code, saved.stdout) == (0, "")
    assert saved.stderr == "view long ones saved in curate.toml\n"
    text = (root / "curate.toml").read_text(encoding="utf-8")
    assert text.startswith(SETTINGS)
    assert text[len(SETTINGS) :].split("\n") == [
        "",
        '[views."long ones"]',
        'where = "tokens:>5"',
        'sort = "-tokens"',
        'columns = ["id", "tokens"]',
        "",
    ]
    shown = call("list", root, "--view", "long ones")
    assert shown.stdout == "r2\t47\nr0\t26\nr3\t12\n"
    assert call("list", root, "--view", "long ones", "--limit", 1, "--format", "jsonl").stdout == (
        '{"id": "r2", "tokens": 47}\n'
    )
    # What is given beside it narrows it, or takes the place of its order and columns.
    assert ids(root, "--view", "long ones", "--where", "category:billing", "--columns", "id") == ["r0"]
    assert ids(root, "--view", "long ones", "--sort", "id", "--columns", "id") == ["r0", "r2", "r3"]
    again = call("list", root, "--where", "id:r1", "--save", "long ones")
    assert "replaced" in again.stderr
    assert ids(root, "--view", "long ones") == ["r1"]
    assert (root / "curate.toml").read_text(encoding="utf-8").startswith(SETTINGS)
    assert call("config", "validate", root).exit_code == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("views = {}\n", 'views = {mine = {where = "id:r1"}}\n'),
        (
            'views = { a = { sort = "id" } }\n[split]\n',
            'views = { a = { sort = "id" }, mine = {where = "id:r1"}}\n[split]\n',
        ),
        ('views.a.sort = "id"\n', 'views.a.sort = "id"\n\n[views.mine]\nwhere = "id:r1"\n'),
        (
            '[views.mine]\n# Why.\nsort = "id" # c\nwhere = "x" # d\n\n# On keys.\n[keys]\n',
            '[views.mine]\n# Why.\nwhere = "id:r1" # d\n\n# On keys.\n[keys]\n',
        ),
        (
            "# a\r\n[split]\r\nseed = 1\r\n",
            '# a\r\n[split]\r\nseed = 1\r\n\r\n[views.mine]\r\nwhere = "id:r1"\r\n',
        ),
        # A file with both line ends is left as it is.
        ("# a\r\n[split]\nseed = 1\n", '# a\r\n[split]\nseed = 1\n\n[views.mine]\nwhere = "id:r1"\n'),
    ],
)
def test_however_views_are_written_one_more_is_added_in_place(make_workspace: Make, before: str, after: str) -> None:
    root = make_workspace(LINES).root
    (root / "curate.toml").write_bytes(before.encode())
    assert call("list", root, "--where", "id:r1", "--save", "mine").exit_code == 0
    assert (root / "curate.toml").read_bytes().decode() == after
    assert ids(root, "--view", "mine") == ["r1"]


def test_records_come_in_any_order_and_equal_ones_in_that_of_the_files(make_workspace: Make) -> None:
    root = make_workspace(LINES, SETTINGS).root
    assert ids(root, "--sort", "tokens") == ["r1", "r3", "r0", "r2"]
    assert ids(root, "--sort=-file") == ["r3", "r2", "r1", "r0"]
    assert ids(root, "--sort=-category") == ["r2", "r3", "r0", "r1"]
    assert ids(root, "--sort", "prompt", "--category", "billing") == ["r0", "r1"]
    columns = "id,category,split,tokens,source,kind,place,prompt,completion"
    shown = call("list", root, "--columns", columns, "--where", "id:r3").stdout
    assert shown.split("\t")[:8] == [
        "r3",
        "returns",
        "test",
        "12",
        "data/a.jsonl",
        "instruction",
        "data/a.jsonl:4",
        "Four?",
    ]


@pytest.mark.parametrize(
    ("field", "values", "without"),
    [
        ("category", {"billing": 2, "returns": 2}, 0),
        ("split", {"test": 1}, 3),
        ("file", {"data/a.jsonl": 4}, 0),
        ("/meta/lang", {"en": 2, "de": 1}, 1),
        ("/meta/tags", {"x": 2, "y": 1}, 2),
        ("/meta/n", {"3": 1}, 3),
        ("/nowhere/0", {}, 4),
        ("label.topic", {"pay": 1, "send": 1}, 2),
        ("label.ana.topic", {"pay": 1, "send": 1}, 2),
        ("label.bo.topic", {}, 4),
    ],
)
def test_values_of_any_field_are_counted(
    make_workspace: Make, field: str, values: dict[str, int], without: int
) -> None:
    data = make_workspace(LINES, SETTINGS)
    decide(data, [Label("r0", "topic", "pay"), Label("r2", "topic", "send")], by="ana")
    said = call("list", data.root, "--count-by", field, "--format", "json", "--show-values")
    document = json.loads(said.stdout)
    jsonschema_rs.validator_for(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(document)
    assert document == {
        "version": 1, "field": field, "records": 4, "without": without,
        "values": [{"value": value, "count": number} for value, number in values.items()],
    }  # fmt: skip


def test_counts_as_a_table(make_workspace: Make) -> None:
    line = LINES[1] | {"id": "r9", "category": 'a,"b"\x1b[1m'}
    root = make_workspace([*LINES, line], SETTINGS).root
    said = call("list", root, "--count-by", "/meta/lang", "--where", "category:billing|returns")
    assert [row.split() for row in said.stdout.splitlines()] == [
        ["/meta/lang", "records", "share"], ["en", "2", "50.0%"], ["de", "1", "25.0%"], ["(none)", "1", "25.0%"],
    ]  # fmt: skip
    assert "2 values in 4 records" in said.stderr
    table = call("list", root, "--count-by", "category").stdout
    assert "\x1b" not in table
    assert [row.split()[:2] for row in table.splitlines()[1:3]] == [["billing", "2"], ["returns", "2"]]
    assert 'a,"b"' in table


def test_counts_tell_no_answer_before_ones_own(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_workspace(LINES, SETTINGS)
    decide(data, [Label("r0", "topic", "pay")], by="ana")
    for by, number in (("bo", 0), ("ana", 1)):
        monkeypatch.setenv("CURATE_ANNOTATOR", by)
        for field in ("label.topic", "label.ana.topic"):
            said = call("list", data.root, "--count-by", field)
            assert said.stdout.count("pay") == number


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--view", "none"), "there is no view 'none'"),
        (("--save", " "), "a view needs a name"),
        (("--save", "x", "--where", "idd:1"), "E971"),
        (("--save", "x", "--category", "billing"), "--save takes --where, --sort and --columns alone"),
        (("--sort", "size"), "there are file, id, category"),
        (("--columns", "id,size"), "no column 'size'"),
        (("--count-by", "size"), "there is no field 'size' to count by"),
        (("--count-by", "split", "--limit", "1"), "--count-by goes with filters alone"),
        (("--format", "json"), "--format json is for --count-by"),
    ],
)
def test_what_is_not_there_is_refused(make_workspace: Make, words: tuple[str, ...], message: str) -> None:
    root = make_workspace(LINES, SETTINGS).root
    said = call("list", root, *words)
    assert said.exit_code == 2
    assert message in said.stderr
    assert (root / "curate.toml").read_text(encoding="utf-8") == SETTINGS


@pytest.mark.parametrize("view", ['sort = "size"', 'columns = ["size"]', 'filter = "id:1"'])
def test_a_view_that_is_none_is_named_with_its_line(make_workspace: Make, tmp_path: Path, view: str) -> None:
    root = make_workspace(LINES).root
    (root / "curate.toml").write_text(f"[views.mine]\n{view}\n", encoding="utf-8")
    said = call("list", root)
    assert said.exit_code == 2
    assert "curate.toml:2: views.mine." in said.stderr
