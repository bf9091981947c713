"""`curate import` on a workspace: what is written, what is put aside, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from curate.base.record import CurateError, Exit
from curate.cli.import_ import command
from curate.formats.import_plan import Reading
from curate.formats.intake import take_in
from curate.schema import load_shape

CSV = b"question,answer\na,b\nragged\nc,\xff\nd,e\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    root = tmp_path / "w"
    root.mkdir()
    (root / "curate.toml").write_text('schema = "instruction"\n')
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_good_rows_are_written_and_bad_ones_put_aside(workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    source.write_bytes(CSV)
    intake = take_in(source, workspace, load_shape("instruction"))
    assert (intake.num_records, len(intake.rejected)) == (2, 2)
    assert (
        workspace / "data/faq.jsonl"
    ).read_bytes() == b'{"instruction":"a","output":"b"}\n{"instruction":"d","output":"e"}\n'
    entries = [json.loads(line) for line in (workspace / "quarantine/faq.csv.jsonl").read_text().splitlines()]
    assert entries == [
        {
            "file": str(source),
            "line": 3,
            "code": "S101",
            "reason": "the row has 1 cells, the first has 2",
            "raw": "ragged",
        },
        {
            "file": str(source),
            "line": 4,
            "code": "S103",
            "reason": "byte 0xFF at position 3 of the row is not UTF-8 (column 'answer')",
            "raw": "Yyz/",
            "encoding": "base64",
        },
    ]


def test_an_import_that_was_ended_before_its_note_writes_it_the_next_time(workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"instruction": "Who?", "output": "Me."}\n')
    take_in(source, workspace, load_shape("instruction"))
    before = tree(workspace / "imports")
    for note in (workspace / "imports").iterdir():
        note.unlink()
    assert take_in(source, workspace, load_shape("instruction")).is_unchanged
    assert tree(workspace / "imports") == before


def test_a_second_import_changes_nothing(workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    source.write_bytes(CSV)
    take_in(source, workspace, load_shape("instruction"))
    before = tree(workspace)
    intake = take_in(source, workspace, load_shape("instruction"))
    assert intake.is_unchanged
    assert (intake.num_records, len(intake.rejected)) == (2, 2)
    assert tree(workspace) == before


@pytest.mark.parametrize(
    "other", [b"question,answer\na,b\n", b"question,answer\na,b\nd,e\nf,g\n", b"question,answer\nx,y\nd,e\n"]
)
def test_other_content_is_never_overwritten(workspace: Path, tmp_path: Path, other: bytes) -> None:
    source = tmp_path / "faq.csv"
    source.write_bytes(CSV)
    take_in(source, workspace, load_shape("instruction"))
    before = tree(workspace)
    source.write_bytes(other)
    with pytest.raises(CurateError) as caught:
        take_in(source, workspace, load_shape("instruction"))
    assert caught.value.code == "E919 would-overwrite"
    assert tree(workspace) == before


def test_a_dry_run_writes_nothing(workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    source.write_bytes(CSV)
    intake = take_in(source, workspace, load_shape("instruction"), is_dry_run=True)
    assert (intake.num_records, len(intake.rejected)) == (2, 2)
    assert set(tree(workspace)) == {"curate.toml"}


def test_a_file_of_the_workspace_is_not_imported_into_itself(workspace: Path) -> None:
    (workspace / "data").mkdir()
    path = workspace / "data" / "a.jsonl"
    path.write_text('{"instruction": "a", "output": "b"}\n')
    with pytest.raises(CurateError, match="already is a file"):
        take_in(path, workspace, load_shape("instruction"))


def test_a_file_without_a_good_row_leaves_no_file_of_records(workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "raw.jsonl"
    source.write_text('{"text": "Rivers run."}\n')
    intake = take_in(source, workspace, load_shape("instruction"))
    assert intake.num_records == 0
    assert set(tree(workspace)) == {"curate.toml", "quarantine/raw.jsonl.jsonl"}


def test_a_link_out_of_the_workspace_is_refused(workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    source.write_bytes(CSV)
    (tmp_path / "outside").mkdir()
    (workspace / "data").symlink_to(tmp_path / "outside")
    with pytest.raises(CurateError) as caught:
        take_in(source, workspace, load_shape("instruction"))
    assert caught.value.code == "E914 outside-workspace"
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_split_of_a_folder_is_kept(workspace: Path, tmp_path: Path) -> None:
    import polars

    (tmp_path / "hub" / "data").mkdir(parents=True)
    for name in ("train", "test"):
        path = tmp_path / "hub" / "data" / f"{name}-00000-of-00001.parquet"
        polars.DataFrame({"prompt": [name], "completion": ["x"]}).write_parquet(path)
    take_in(tmp_path / "hub", workspace, load_shape("instruction"))
    lines = [json.loads(line) for line in (workspace / "data/hub.jsonl").read_text().splitlines()]
    assert sorted((line["instruction"], line["split"]) for line in lines) == [("test", "test"), ("train", "train")]


def test_the_command_tells_and_exits_1_on_bad_rows(workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    source.write_bytes(CSV)
    result = CliRunner().invoke(command, [str(source), "--into", str(workspace)], standalone_mode=False)
    assert result.return_value == Exit.FINDINGS
    assert "data/faq.jsonl: 2 records, written" in result.stdout
    assert "question  prompt" in result.stderr
    assert "another column is meant: --map FIELD=COLUMN says so" in result.stderr
    assert "2 rows in" in result.stderr
    again = CliRunner().invoke(command, [str(source), "--into", str(workspace)], standalone_mode=False)
    assert "already there, unchanged" in again.stdout


def test_the_command_takes_a_map_and_a_category(workspace: Path, tmp_path: Path) -> None:
    source = tmp_path / "faq.jsonl"
    source.write_text('{"ask": "a", "say": ["b"]}\n')
    arguments = [str(source), "--into", str(workspace), "--map", "instruction=ask,output=/say/0", "--category", "faq"]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.return_value == Exit.OK
    line = json.loads((workspace / "data/faq.jsonl").read_text())
    assert line == {"instruction": "a", "output": "b", "category": "faq", "meta": {"extra": {"say": ["b"]}}}


def test_the_command_needs_a_workspace(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["a.csv", "--into", str(tmp_path)], standalone_mode=False)
    assert isinstance(result.exception, CurateError)
    assert result.exception.code == "E901 no-workspace"


def test_a_workspace_among_the_files_is_what_the_help_names(workspace: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["a.csv", str(workspace), "--into", str(tmp_path)], standalone_mode=False)
    assert isinstance(result.exception, CurateError)
    assert result.exception.hint == f"Say which workspace: --into {workspace}"


def test_two_files_of_one_name_keep_their_bad_rows_apart(workspace: Path, tmp_path: Path) -> None:
    for folder, raw in (("one", b"\xff\n"), ("two", b"\xfe\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.jsonl").write_bytes(raw)
        for _ in range(2):
            take_in(tmp_path / folder / "rows.jsonl", workspace, load_shape("instruction"), Reading(format="alpaca"))
    held = sorted((workspace / "quarantine").iterdir())
    assert [path.name for path in held] == ["rows.jsonl-2.jsonl", "rows.jsonl.jsonl"]
    assert [json.loads(path.read_bytes())["file"] for path in held] == [
        str(tmp_path / folder / "rows.jsonl") for folder in ("two", "one")
    ]
    held[0].write_text("not ours any more", encoding="utf-8")
    take_in(tmp_path / "two/rows.jsonl", workspace, load_shape("instruction"), Reading(format="alpaca"))
    assert held[0].read_text(encoding="utf-8") == "not ours any more"
