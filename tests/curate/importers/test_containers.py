"""How bytes become rows: what is good comes through, what is bad is put aside with its place and its bytes."""

from __future__ import annotations

import base64
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from curate.base.record import CurateError, Exit
from curate.formats.importers import Rejected, SourceRow, container_of, containers


def read(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[Rejected]]:
    head = path.read_bytes()[:4096] if path.is_file() else b""
    held = next(one for one in containers() if one.fits(path, head))
    rows = list(held.rows(path))
    return [(one.line, one.value) for one in rows if isinstance(one, SourceRow)], [
        one for one in rows if isinstance(one, Rejected)
    ]


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_csv_with_every_fault_keeps_the_good_rows(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.csv",
        b"\xef\xbb\xbfquestion,answer\r\n"
        b'"two\r\nlines","he said ""yes"""\r\n'
        b"\r\n"
        b"only one cell\r\n"
        b"caf\xe9,coffee\r\n"
        b"nul,\x00\r\n"
        b'"bad" quote,x\r\n'
        b"last,one",
    )
    good, bad = read(path)
    assert good == [
        (2, {"question": "two\r\nlines", "answer": 'he said "yes"'}),
        (9, {"question": "last", "answer": "one"}),
    ]
    assert [(one.line, one.code) for one in bad] == [(5, "S101"), (6, "S103"), (7, "S101"), (8, "S101")]
    assert bad[1].entry("a.csv")["encoding"] == "base64"
    assert base64.b64decode(bad[1].entry("a.csv")["raw"]) == b"caf\xe9,coffee"
    assert bad[2].entry("a.csv")["raw"] == "nul,\x00"
    assert "1 cells, the first has 2" in bad[0].reason
    assert "NUL" in bad[2].reason


def test_a_quote_that_never_closes_is_one_rejected_row(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path, "a.csv", b'question,answer\na,b\n"c,d\ne,f\n'))
    assert good == [(2, {"question": "a", "answer": "b"})]
    assert [(one.line, one.raw) for one in bad] == [(3, b'"c,d\ne,f')]


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("b.csv", ";"), ("c.csv", "\t"), ("d.tsv", "\t")])
def test_separators(tmp_path: Path, name: str, mark: str) -> None:
    good, bad = read(write(tmp_path, name, f"question{mark}answer\nwhat{mark}this\n".encode()))
    assert good == [(2, {"question": "what", "answer": "this"})]
    assert not bad


def test_tsv_without_header_and_with_bare_quotes(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path, "a.tsv", b'"Go," he said. How far?\t18\n"Stop\t3\n'))
    assert good == [
        (1, {"column_1": '"Go," he said. How far?', "column_2": "18"}),
        (2, {"column_1": '"Stop', "column_2": "3"}),
    ]
    assert not bad


def test_the_limit_of_a_cell_is_put_back(tmp_path: Path) -> None:
    import csv

    before = csv.field_size_limit()
    good, _ = read(write(tmp_path, "a.csv", b"question,answer\n" + b"x" * 200_000 + b",y\n"))
    assert len(good[0][1]["question"]) == 200_000
    assert csv.field_size_limit() == before


def test_json_array_costs_a_bad_element_only(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.json",
        b'\xef\xbb\xbf[\n {"a": "br]ack,et \\" \\\\"},\n {"a": 1, "a": 2},\n {"n": NaN}, 7,\n'
        b' {"a": {"b": [1, {"c": "}"}]}}\n]\n',
    )
    good, bad = read(path)
    assert good == [(2, {"a": 'br]ack,et " \\'}), (5, {"a": {"b": [1, {"c": "}"}]}})]
    assert [(one.line, one.code) for one in bad] == [(3, "S105"), (4, "S106"), (4, "S112")]
    assert bad[0].raw == b'{"a": 1, "a": 2}'


@pytest.mark.parametrize("cut", [b'[{"a": 1}, {"a": 2', b'[{"a": 1}, {"a": "x'])
def test_json_array_cut_off(tmp_path: Path, cut: bytes) -> None:
    good, bad = read(write(tmp_path, "a.json", cut))
    assert good == [(1, {"a": 1})]
    assert [one.code for one in bad] == ["S111"]
    assert cut.endswith(bad[0].raw)


def test_json_array_inside_an_object(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path, "a.json", b'{\n"version": "1",\n"data": [{"a": 1},\n{"a": 2}]\n}'))
    assert good == [(3, {"a": 1}), (4, {"a": 2})]
    assert not bad


def test_words_after_the_array_are_not_lost(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path, "a.json", b'[{"a": 1}]\n{"b": 2'))
    assert good == [(1, {"a": 1})]
    assert [one.raw for one in bad] == [b'{"b": 2']


def test_json_object_without_an_array_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="neither an array") as caught:
        read(write(tmp_path, "a.json", b'{\n "a": {"b": 1},\n "c": 2\n}'))
    assert caught.value.code == "E908 cannot-import"


def test_an_object_of_objects_costs_a_bad_member_only(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a.json",
        b'{\n "p}1": {"a": "}\\""},\n "p2": {"id": "own", "a": 1},\n "p3": {"a": 1, "a": 2},\n'
        b' "p4": {"a": {"b": {}}}\n} x',
    )
    good, bad = read(path)
    assert good == [
        (2, {"id": "p}1", "a": '}"'}),
        (3, {"key": "p2", "id": "own", "a": 1}),
        (5, {"id": "p4", "a": {"b": {}}}),
    ]
    assert [(one.line, one.code) for one in bad] == [(4, "S105"), (6, "S101")]
    assert bad[0].raw == b'"p3": {"a": 1, "a": 2}'
    assert "(byte 16 of the element)" in bad[0].reason


def test_keys_that_only_count_are_no_ids(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path, "a.json", b'{"1": {"a": 1}, "2": {"a": 2}}'))
    assert good == [(1, {"a": 1}), (1, {"a": 2})]
    assert not bad


def test_an_object_of_objects_lies_in_another(tmp_path: Path) -> None:
    path = write(
        tmp_path, "a.json", b'{\n"about": {"n": 2}, "v": 1,\n"train": {"x": {"a": 1}},\n"test": {"y": {"a": 2}}\n}'
    )
    rows = [row for row in container_of(path).rows(path) if isinstance(row, SourceRow)]
    assert [(row.value, row.split) for row in rows] == [
        ({"id": "x", "a": 1}, "train"),
        ({"id": "y", "a": 2}, "test"),
    ]
    assert container_of(path).notices(path) == [
        "one record for each member of the object; left out, since it holds none: about, v"
    ]


@pytest.mark.parametrize("cut", [b'{\n"x": {"a": 1}, "y": {"a": 2', b'{\n"x": {"a": 1}, "y'])
def test_an_object_of_objects_cut_off(tmp_path: Path, cut: bytes) -> None:
    good, bad = read(write(tmp_path, "a.json", cut))
    assert good == [(2, {"id": "x", "a": 1})]
    assert [one.code for one in bad] == ["S111"]
    assert cut.endswith(bad[0].raw)


def test_one_row_that_begins_with_an_object_is_a_row(tmp_path: Path) -> None:
    row = {"input": {"messages": []}, "preferred_output": []}
    assert read(write(tmp_path, "a.json", json.dumps(row).encode())) == ([(1, row)], [])
    two = json.dumps({"x": {"a": 1}, "y": {"a": 1}}).encode()
    assert len(read(write(tmp_path, "a.json", two + b"\n" + two))[0]) == 2
    assert [row["id"] for _, row in read(write(tmp_path, "a.json", two))[0]] == ["x", "y"]
    long = b'{"x": {"a": "%s"},\n "y": {"a": 1}}' % (b"a" * 5000)
    assert [row["id"] for _, row in read(write(tmp_path, "a.json", long))[0]] == ["x", "y"]


def test_json_lines_under_the_name_json(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path, "a.json", b'{"a": 1}\n{"a": 2}\n'))
    assert good == [(1, {"a": 1}), (2, {"a": 2})]
    assert not bad


def test_json_lines_keep_the_bytes_of_bad_lines(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path, "a.jsonl", b'{"a": 1}\nnot json\n{"a": "\xff"}\n{"a": 2}'))
    assert good == [(1, {"a": 1}), (4, {"a": 2})]
    assert [(one.line, one.code, one.raw) for one in bad] == [(2, "S101", b"not json"), (3, "S103", b'{"a": "\xff"}')]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", b"PK\x03\x04rest"),
        ("a.tar", b"\0" * 257 + b"ustar"),
        ("a.csv", b"BZh9"),
        ("a.json", b"\xfd7zXZ\x00"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n"),
    ],
)
def test_archives_and_pointers_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    from curate.formats.import_plan import plan_import

    with pytest.raises(CurateError) as caught:
        plan_import(write(tmp_path, name, data), None)
    assert caught.value.code == "E908 cannot-import"
    assert "unpack" in f"{caught.value.message}{caught.value.hint}".lower() or "lfs pull" in caught.value.hint


def test_a_pipe_and_a_missing_file_do_not_hang(tmp_path: Path) -> None:
    import os

    from curate.formats.import_plan import plan_import

    os.mkfifo(tmp_path / "p.csv")
    for name in ("p.csv", "none.csv"):
        with pytest.raises(CurateError, match=name):
            plan_import(tmp_path / name, None)


def test_parquet(tmp_path: Path) -> None:
    import polars

    path = tmp_path / "a.parquet"
    frame = polars.DataFrame(
        {
            "prompt": ["p", "q", "r"],
            "day": [date(2026, 1, 2), None, None],
            "tags": [["a", None], [], None],
            "score": [0.5, float("nan"), 1.0],
            "blob": [None, None, b"\x00"],
        }
    )
    frame.write_parquet(path)
    good, bad = read(path)
    assert good == [(1, {"prompt": "p", "day": "2026-01-02", "tags": ["a", None], "score": 0.5, "blob": None})]
    assert [(one.line, one.code) for one in bad] == [(2, "S106"), (3, "S102")]
    assert "'blob'" in bad[1].reason


def test_nulls_of_a_struct_are_keys_that_are_not_there(tmp_path: Path) -> None:
    import polars

    rows = [
        {"messages": [{"role": "user", "content": "a", "name": None}, {"role": "user", "content": "b", "name": "n"}]}
    ]
    polars.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    good, _ = read(tmp_path / "a.parquet")
    assert good[0][1]["messages"] == [{"role": "user", "content": "a"}, {"role": "user", "content": "b", "name": "n"}]


def test_parquet_that_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(CurateError) as caught:
        read(write(tmp_path, "a.parquet", b"PAR1 and no more"))
    assert caught.value.code == "E908 cannot-import"


def test_saved_dataset_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    parts = {
        "train": datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features),
        "dev": datasets.Dataset.from_dict({"text": ["c"], "label": [1]}, features=features),
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    held = next(one for one in containers() if one.fits(tmp_path / "d", b""))
    rows = [one for one in held.rows(tmp_path / "d") if isinstance(one, SourceRow)]
    assert [(one.value, one.split) for one in rows] == [
        ({"text": "a", "label": "yes"}, "train"),
        ({"text": "b", "label": "no"}, "train"),
        ({"text": "c", "label": "yes"}, "validation"),
    ]
    parts["train"].save_to_disk(str(tmp_path / "one"))
    assert [value for _, value in read(tmp_path / "one")[0]] == [
        {"text": "a", "label": "yes"},
        {"text": "b", "label": "no"},
    ]


def test_saved_dataset_folder_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CurateError) as caught:
        read(tmp_path)
    assert caught.value.exit_code == Exit.MISSING
    assert "pip install 'pairsmith[hub]'" in caught.value.hint


def test_hub_folder_of_parquet_files(tmp_path: Path) -> None:
    import polars

    (tmp_path / "data").mkdir()
    for name, text in (("train-00000-of-00001", "a"), ("validation-00000-of-00001", "b"), ("other", "c")):
        polars.DataFrame({"text": [text]}).write_parquet(tmp_path / "data" / f"{name}.parquet")
    held = next(one for one in containers() if one.fits(tmp_path, b""))
    rows = [one for one in held.rows(tmp_path) if isinstance(one, SourceRow)]
    assert {(one.value["text"], one.split) for one in rows} == {("a", "train"), ("b", "validation"), ("c", "")}
    assert len({one.line for one in rows}) == 3


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CurateError, match="the folder holds no file that can be imported"):
        container_of(tmp_path)
