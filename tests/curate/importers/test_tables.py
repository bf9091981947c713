"""Tables: what is a header, what a broken row costs, and why a file cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import polars
import pytest
from click.testing import CliRunner, Result

from curate.base.record import CurateError, Exit
from curate.cli.init import command
from curate.formats.importers import SourceRow, containers

pyarrow = pytest.importorskip("pyarrow", reason="Parquet files of other writers are made with it")
pyarrow_parquet = pytest.importorskip("pyarrow.parquet")


def init(path: Path, *options: str) -> Result:
    return CliRunner().invoke(command, [str(path.parent / "w"), str(path), *options], standalone_mode=False)


def pairs(path: Path) -> list[tuple[str, str]]:
    text = (path.parent / f"w/data/{path.stem}.jsonl").read_text(encoding="utf-8")
    return [(line["instruction"], line["output"]) for line in map(json.loads, text.splitlines())]


def refusal(result: Result) -> str:
    assert isinstance(result.exception, CurateError), result.output
    assert result.exception.code == "E908 cannot-import"
    return f"{result.exception.message} {result.exception.hint}"


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("header", "indexed", "told"),
    [
        (",instruction,output", True, "an index of pandas"),
        ("Unnamed: 0,instruction,output", True, "an index of pandas"),
        (",0,1", True, "numbers for names"),
        ("0,1", False, "numbers for names"),
        ("instruction, output", False, ""),
        ("instruction,output,", False, "is empty: left out"),
        ("instruction,output,7", False, ""),
    ],
)
def test_a_header_is_no_record(tmp_path: Path, header: str, indexed: bool, told: str) -> None:
    rest = "," if header.count(",") == 2 and not indexed else ""
    body = "".join((f"{n}," if indexed else "") + f"ask {n},say {n}{rest}\n" for n in range(3))
    path = table(tmp_path, f"{header}\n{body}")
    done = init(path)
    assert done.return_value == Exit.OK, done.exception
    assert pairs(path) == [(f"ask {n}", f"say {n}") for n in range(3)]
    assert told in done.stderr


def test_a_nameless_column_that_is_no_index_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, ",instruction,output\n5,ask,say\n9,ask more,say more\n")
    done = init(path)
    assert pairs(path) == [("ask", "say"), ("ask more", "say more")]
    assert "column 1 has no name: it is called column_1" in done.stderr
    assert "column_1 (2)" in done.stderr


def test_an_index_with_a_broken_row_is_still_one(tmp_path: Path) -> None:
    path = table(tmp_path, ",instruction,output\n0,a,b\n1,ragged\n2,c,d\n")
    assert "an index of pandas" in init(path).stderr
    assert pairs(path) == [("a", "b"), ("c", "d")]


def test_a_repeated_name_is_refused(tmp_path: Path) -> None:
    assert "2 columns are called 'output'" in refusal(init(table(tmp_path, "instruction,output,output\na,b,c\n")))


def test_a_first_row_that_is_a_record_is_told(tmp_path: Path) -> None:
    path = table(tmp_path, 'How far is it? "Far",18\n"How long, then?",3\n'.replace('"Far"', "Far"))
    done = init(path)
    assert pairs(path)[0] == ("How far is it? Far", "18")
    assert "the first line is read as a record" in done.stderr


@pytest.mark.parametrize("text", ["7,How far is it?,18\n8,How long?,3\n", "0,How far is it?\n1,How long?\n"])
def test_columns_without_names_are_guessed_only_where_there_are_two(tmp_path: Path, text: str) -> None:
    assert "column_1, column_2" in refusal(init(table(tmp_path, text)))


def test_a_bad_row_over_several_lines_counts_as_one(tmp_path: Path) -> None:
    text = 'question,answer\na,b\n"He said "hi" and\nthen left",x\nc,d\n"5" pipe",e\nf,g\n'
    path = table(tmp_path, text)
    done = init(path)
    assert pairs(path) == [("a", "b"), ("c", "d"), ("f", "g")]
    assert "2 rows in" in done.stderr
    held = [json.loads(line) for line in (tmp_path / "w/quarantine/table.csv.jsonl").read_text().splitlines()]
    assert [(one["line"], one["raw"].count("\n")) for one in held] == [(3, 1), (6, 0)]
    assert "not doubled" in held[0]["reason"]


def test_a_quote_that_is_never_closed_says_how_much_is_in_the_row(tmp_path: Path) -> None:
    done = init(table(tmp_path, 'question,answer\na,b\n"c,d\n' + "e,f\n" * 50))
    assert "1 row in" in done.stderr
    assert "the 51 lines from here to the end of the file are in it" in done.stderr


def test_a_file_of_lines_gives_the_first_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("not json\n{\n", encoding="utf-8")
    said = refusal(init(path))
    assert "line 1: " in said
    assert f"curate validate {path}" in said


def test_a_table_that_unpacks_to_far_too_much_is_refused(tmp_path: Path) -> None:
    text = "x" * (1 << 20)
    for is_typed in (True, False):
        shared = pyarrow.DictionaryArray.from_arrays(
            pyarrow.array([0] * 40_000, pyarrow.int32()), pyarrow.array([text])
        )
        columns = pyarrow.table({"prompt": shared, "completion": pyarrow.array(["b"] * 40_000)})
        path = tmp_path / "bomb.parquet"
        pyarrow_parquet.write_table(columns, path, compression="zstd", store_schema=is_typed)
        assert path.stat().st_size < 5_000
        assert "unpack to more than 67,108,864" in refusal(init(path))
        assert not (tmp_path / "w").exists()


@pytest.mark.ci
def test_a_long_text_in_all_rows_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = 3_000
    texts = {"system": ["be brief " * 1_000] * rows, "prompt": [f"ask {n}" for n in range(rows)]}
    texts["response"] = [f"say {n}" for n in range(rows)]
    polars.DataFrame(texts).write_parquet(path, row_group_size=700)
    assert init(path).return_value == Exit.OK
    assert pairs(path) == [(f"ask {n}", f"say {n}") for n in range(rows)]


def test_the_rows_of_many_groups_come_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    polars.DataFrame({"n": range(50_000)}).write_parquet(path, row_group_size=20_000)
    held = next(one for one in containers() if one.fits(path, b"PAR1"))
    assert [row.value["n"] for row in held.rows(path) if isinstance(row, SourceRow)] == list(range(50_000))


def test_a_column_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    raw = pyarrow.array([b"ok", b"caf\xe9"], pyarrow.binary())
    text = pyarrow.StringArray.from_buffers(len(raw), raw.buffers()[1], raw.buffers()[2])
    path = tmp_path / "a.parquet"
    pyarrow_parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "completion": text}), path)
    said = refusal(init(path))
    assert "rows 1 to 2, column 'completion'" in said
    assert "UTF-8" in said


@pytest.mark.parametrize("cut", [20, 400, -9])
def test_a_table_that_is_cut_off_says_so(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.parquet"
    polars.DataFrame({"prompt": ["a"] * 900, "completion": [str(n) for n in range(900)]}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:cut])
    assert "PAR1" in refusal(init(path))
