"""Hostile data through the exporters: the public bad inputs that concern export."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from curate.base.console import markdown_cell
from curate.formats.exporters import export_rows, exporters
from curate.formats.spreadsheet import guarded

_FORMULA = re.compile('^[ "]*[=+\\-@\t\r＝＋－＠]')
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def rows_of(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    return [
        {
            "id": line["id"],
            "kind": "instruction",
            "category": line["category"],
            "cluster": line["id"],
            "messages": [
                {"role": "user", "content": line["instruction"]},
                {"role": "assistant", "content": line["output"]},
            ],
            "tools": None,
            "text": None,
            "source": f"{path.name}:{number}",
            "line": line,
        }
        for number, line in enumerate(lines, start=1)
    ]


def test_no_csv_cell_begins_as_a_formula(shared: Path, tmp_path: Path) -> None:
    rows = [
        *rows_of(shared / "badinputs/export/csv_formula.jsonl"),
        *rows_of(shared / "badinputs/export/category_as_filename.jsonl"),
    ]
    written = export_rows("csv", {"train": rows}, tmp_path, {})
    with (tmp_path / "train.csv").open(newline="", encoding="utf-8") as handle:
        cells = list(csv.DictReader(handle))
    assert len(cells) == len(rows)
    for one in cells:
        for cell in one.values():
            assert not _FORMULA.match(cell) or _NUMBER.fullmatch(cell), cell
    assert [one["output"] for one in cells[:3]] == ["'=1+1", "'=cmd|' /C calc'!A0", "+1"]
    assert "apostrophe" in written.notes[0]
    assert "apostrophe" in (tmp_path / "NOTE.txt").read_text()


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+1+1",
        "-a",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        '"=1',
        ' " =1',
        "＝1",
        "＋a",
        "－a",
        "＠a",
        "+1 -1",
    ],
)
def test_a_formula_gets_an_apostrophe(cell: str) -> None:
    assert guarded(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["", "a=b", "1", "-1", "+1.5", "-2,5", "1e-5", "-3e+7", "'quoted'", "Ann + Bob"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert guarded(cell) == cell


@pytest.mark.parametrize("name", ["model_card.jsonl", "html_report.jsonl", "category_as_filename.jsonl"])
def test_the_dataset_card_says_only_what_we_wrote(shared: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("datasets")
    yaml = pytest.importorskip("yaml")
    rows = rows_of(shared / "badinputs/export" / name)
    hostile = "v1\n---\nlicense: mit\n---\n# <script>"
    export_rows("hf", {"train": rows, "test": rows[:1]}, tmp_path, {"name": hostile})
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "pretty_name": "v1 --- license: mit --- # <script>",
        "task_categories": ["text-generation"],
        "size_categories": ["n<1K"],
        "tags": ["pairsmith", "instruction-tuning"],
    }
    for mark in ("<script", "<img", "<svg", "<a ", "](", "![", "\n---\n"):
        assert mark not in body
    table = [line for line in body.splitlines() if line.startswith("|")]
    categories = {row["category"] for row in rows}
    assert len(table) == len(categories) + 3
    assert all(line.count("|") == 4 for line in table)
    assert sum(int(line.split("|")[2]) for line in table[2:-1]) == len(rows)


def test_a_table_cell_is_shown_as_it_is() -> None:
    import html

    text = "a|b *c* `d` [e](f) <g> https://h.example _i_ ~j~ & #k"
    cell = markdown_cell(text)
    assert not set("|*`[]()<>_~") & set(cell)
    assert html.unescape(cell) == text
    assert markdown_cell("a\n\n| b") == "a &#124; b"
    assert markdown_cell("") == "(none)".replace("(", "&#40;").replace(")", "&#41;")


@pytest.mark.parametrize("name", sorted(exporters()))
def test_a_category_never_becomes_a_path(shared: Path, tmp_path: Path, name: str) -> None:
    if name == "hf":
        pytest.importorskip("datasets")
    rows = rows_of(shared / "badinputs/export/category_as_filename.jsonl")
    folder = tmp_path / "inside" / "out"
    written = export_rows(name, {"train": rows}, folder, {"name": "../../v1"})
    made = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert made
    assert all(path.is_relative_to(folder) for path in made)
    assert written.num_rows + len(written.skipped) == len(rows)
    for path in made:
        assert not any(row["category"].strip("./") in path.name for row in rows if len(row["category"].strip("./")) > 2)


@pytest.mark.parametrize(("name", "field"), [("null_then_string", "note"), ("leading_null_in_list", "tags")])
def test_late_types_and_leading_nulls_survive(shared: Path, tmp_path: Path, name: str, field: str) -> None:
    import polars

    datasets = pytest.importorskip("datasets")
    rows = rows_of(shared / "badinputs/jsonl" / f"{name}.jsonl")
    wanted = [row["line"][field] for row in rows]
    assert any(value is not None for value in wanted)
    export_rows("parquet", {"train": rows}, tmp_path / "p", {})
    frame = polars.read_parquet(tmp_path / "p" / "train.parquet")
    assert [json.loads(line)[field] for line in frame["line"]] == wanted
    export_rows("hf", {"train": rows}, tmp_path / "h", {})
    loaded = datasets.load_from_disk(str(tmp_path / "h"))["train"]
    assert [json.loads(line)[field] for line in loaded["line"]] == wanted
    assert [one["messages"][1]["content"] for one in loaded] == [row["line"]["output"] for row in rows]


@pytest.mark.parametrize("name", ["parquet", "hf"])
def test_a_column_that_is_null_for_a_thousand_rows_keeps_its_type(tmp_path: Path, name: str) -> None:
    if name == "hf":
        pytest.importorskip("datasets")
    import polars

    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "f", "arguments": {"a": [None, 1]}}}],
    }
    rows = [
        {
            "id": str(n),
            "kind": "chat",
            "category": "",
            "cluster": str(n),
            "tools": None,
            "text": None,
            "source": "x:1",
            "messages": [
                {"role": "user", "content": "q"},
                call if n == 1500 else {"role": "assistant", "content": "a"},
            ],
        }
        for n in range(1501)
    ]
    export_rows(name, {"train": rows}, tmp_path, {})
    if name == "parquet":
        last = polars.read_parquet(tmp_path / "train.parquet").row(1500, named=True)
    else:
        import datasets

        last = datasets.load_from_disk(str(tmp_path))["train"][1500]
    assert last["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a": [null, 1]}'
    assert last["messages"][1]["content"] is None
