"""Nothing is guessed where a wrong guess would spoil the data: a file that comes again is read as the first time.

"What people decided stays": a row is about the record that its key names, or the update is refused.
"""

from __future__ import annotations

import gzip
import re
import zipfile
from pathlib import Path

import pytest

import curate
from tests.promises import outside
from tests.promises.outside import Row


def answers(workspace: Path) -> dict[str, str]:
    with curate.open(workspace) as project:
        return {record.id: record.completion for record in project.records()}


def questions(count: int) -> list[Row]:
    """Return rows with two columns that could be the answer; the one that is told first is the worse one."""
    return [
        {
            "id": f"q{n}",
            "prompt": f"What is thing{n * 7}?",
            "completion": f"bad {n}",
            "gold": f"good {n}",
            "kind": f"k{n}",
        }
        for n in range(count)
    ]


WAYS = {
    "columns": (["--map", "instruction=prompt,output=gold"], lambda record: record.completion.startswith("good")),
    "category": (["--map", "instruction=prompt,output=gold,category=kind"], lambda record: record.category[0] == "k"),
    "rows": (["--only", "kind=k1", "--map", "instruction=prompt,output=gold"], lambda record: record.id == "q1"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_an_update_reads_a_file_as_it_was_read_first(way: str, tmp_path: Path) -> None:
    said, is_right = WAYS[way]
    source = outside.write_rows(tmp_path / "rows.jsonl", questions(4))
    workspace = tmp_path / "desk"
    outside.succeed(outside.curate("init", workspace, source, *said))
    outside.write_rows(source, questions(6))
    done = outside.curate("import", source, "--into", workspace, "--update")
    outside.succeed(done)
    with curate.open(workspace) as project:
        records = list(project.records())
    assert len(records) == (1 if way == "rows" else 6)
    assert all(map(is_right, records))
    outside.succeed(outside.curate("import", source, "--into", workspace, "--update"))
    assert answers(workspace) == {record.id: record.completion for record in records}


def test_what_was_said_of_an_imported_file_is_remembered_with_its_encoding_and_category(tmp_path: Path) -> None:
    workspace = outside.make_workspace(tmp_path / "desk", outside.rows_on("cats", 2))
    source = tmp_path / "more.csv"
    header, rows = "frage,antwort\n", [f"Was ist Größe {n}?,Es ist Maß {n}.\n" for n in range(5)]
    source.write_text(header + "".join(rows[:3]), encoding="cp1252")
    said = ["--encoding", "cp1252", "--map", "instruction=frage,output=antwort", "--category", "maße"]
    outside.succeed(outside.curate("import", source, "--into", workspace, *said))
    source.write_text(header + "".join(rows), encoding="cp1252")
    outside.succeed(outside.curate("import", source, "--into", workspace, "--update"))
    with curate.open(workspace) as project:
        found = sorted((record.prompt, record.completion, record.category) for record in project.records())
    came = [row for row in found if row[2] != "cats"]
    assert came == [(f"Was ist Größe {n}?", f"Es ist Maß {n}.", "maße") for n in range(5)]


def test_rows_in_two_encodings_are_not_advised_to_be_read_in_one(tmp_path: Path) -> None:
    source = tmp_path / "two.csv"
    source.write_bytes("frage,question,answer\n1,Größe?,Maß.\n".encode("cp1252") + "2,Köln?,Über München.\n".encode())
    done = outside.curate("init", tmp_path / "desk", source)
    assert done.returncode == 1
    assert "Correct the rows that are not UTF-8; where none is, add" in done.stderr


def test_another_reading_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    source, workspace = outside.write_rows(tmp_path / "rows.jsonl", questions(3)), tmp_path / "desk"
    outside.succeed(outside.curate("init", workspace, source, "--map", "instruction=prompt,output=completion"))
    said = ["--map", "instruction=prompt,output=gold"]
    outside.succeed(outside.curate("import", source, "--into", workspace, "--update", *said))
    assert answers(workspace) == {f"q{n}": f"good {n}" for n in range(3)}
    outside.write_rows(source, questions(4))
    outside.succeed(outside.curate("import", source, "--into", workspace, "--update"))
    assert answers(workspace) == {f"q{n}": f"good {n}" for n in range(4)}


@pytest.mark.parametrize("suffix", [".csv", ".utf-16.csv", ".csv.gz"])
@pytest.mark.parametrize("now", ["frage,gold\na,b\n", "frage;antwort\na;b\n", "1,2\n3,4\n"])
def test_a_file_that_does_not_fit_its_reading_is_refused(now: str, suffix: str, tmp_path: Path) -> None:
    workspace, source = (
        outside.make_workspace(tmp_path / "desk", outside.rows_on("cats", 2)),
        tmp_path / f"more{suffix}",
    )

    def write(text: str) -> None:
        raw = text.encode("utf-16" if "utf-16" in suffix else "utf-8")
        source.write_bytes(gzip.compress(raw) if suffix.endswith(".gz") else raw)

    write("frage,antwort\nWas?,Das.\n")
    said = ["--map", "instruction=frage,output=antwort"]
    outside.succeed(outside.curate("import", source, "--into", workspace, *said))
    before = answers(workspace)
    write(now)
    for more in ([], ["--update"]):
        done = outside.curate("import", source, "--into", workspace, *more)
        assert (done.returncode, "E908" in done.stderr, "--map" in done.stderr) == (2, True, True)
    assert answers(workspace) == before


@pytest.mark.parametrize("side", ["in the file", "in the workspace"])
def test_a_key_that_does_not_tell_records_apart_is_refused_and_nothing_is_written(side: str, tmp_path: Path) -> None:
    rows = [{"id": f"u{n}", "instruction": f"Question {n} about tea?", "output": f"A{n}.", "category": f"c{n}"}
            for n in range(4)]  # fmt: skip
    if side == "in the workspace":
        rows[2]["category"] = rows[1]["category"]
    source, workspace = outside.write_rows(tmp_path / "t.jsonl", rows), tmp_path / "desk"
    outside.succeed(outside.curate("init", workspace, source))
    with curate.open(workspace, by="ana") as project:
        project.apply([curate.Label(row["id"], "q", "good") for row in rows])
    before = {path: path.read_bytes() for path in workspace.rglob("*") if path.is_file()}
    rows[2]["category"] = "c1" if side == "in the file" else "c2"
    outside.write_rows(source, rows[1:])
    done = outside.curate("import", source, "--into", workspace, "--update", "--key", "/category")
    assert done.returncode == 2
    assert "E908" in done.stderr
    assert {path: path.read_bytes() for path in workspace.rglob("*") if path.is_file()} == before


def test_a_packed_file_is_read_as_the_file_that_is_in_it(tmp_path: Path) -> None:
    rows = [{"question": row["instruction"], "answer": row["output"]} for row in outside.rows_on("cats", 6)]
    plain = outside.write_rows(tmp_path / "test.jsonl", rows)
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with zipfile.ZipFile(tmp_path / "test.zip", "w") as archive:
        archive.write(plain, "test.jsonl")
    found = []
    for name in ("test.jsonl", "test.jsonl.gz", "test.zip"):
        outside.succeed(outside.curate("init", tmp_path / f"of {name}", tmp_path / name))
        found.append((tmp_path / f"of {name}" / "data/test.jsonl").read_bytes())
    assert found[0].count(b"\n") == 6
    assert found == [found[0]] * 3


def test_splits_that_the_names_of_an_archive_decide_are_said(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for split in ("train", "test"):
            archive.write(outside.write_rows(tmp_path / "part.jsonl", outside.rows_on(split, 4)), f"{split}.jsonl")
    done = outside.curate("init", tmp_path / "desk", tmp_path / "set.zip")
    outside.succeed(done)
    assert {(row["category"], row["split"]) for row in outside.read_rows(tmp_path / "desk/data/set.jsonl")} == {
        ("train", "train"), ("test", "test"),
    }  # fmt: skip
    assert re.search(r"split test\b.*test\.jsonl", done.stdout + done.stderr)
