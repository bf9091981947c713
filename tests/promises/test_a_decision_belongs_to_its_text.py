"""A decision holds for the record and the text it was made about. On another text it is held back, and that is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import curate as python
from tests.promises.outside import Row, curate, make_workspace, read_export, read_rows, rows_on, succeed, write_rows

ROWS = rows_on("alpha", 12)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "w", ROWS)


def records(workspace: Path, *words: str) -> dict[str, Row]:
    """Return what `curate list` shows of each record that ``words`` let through."""
    printed = succeed(curate("list", workspace, "--status", "all", "--format", "jsonl", *words))
    return {row["id"]: row | {"line": 0} for row in map(json.loads, printed.splitlines())}


def mend(workspace: Path, name: str) -> None:
    """Edit a record here, as the form does."""
    with python.open(workspace, "ana") as project:
        project.apply([python.Edit(name, {"output": "Mended by a person."})])


def rewrite(workspace: Path, name: str, **fields: str) -> None:
    """Change a line of the record file by hand, as an editor would."""
    path = workspace / "data" / "records.jsonl"
    write_rows(path, [row | fields if row["id"] == name else row for row in read_rows(path)])


def exported(workspace: Path) -> set[str]:
    succeed(curate("export", workspace))
    version = max((path.name for path in (workspace / "dataset").glob("v*")), key=lambda name: int(name[1:]))
    return {row["id"] for rows in read_export(workspace, version).values() for row in rows}


def test_a_drop_of_another_text_is_held_back_until_somebody_decides(workspace: Path) -> None:
    succeed(curate("drop", workspace, "--where", "id:alpha-001", "--reason", "wrong"))
    rewrite(workspace, "alpha-001", instruction="What is this other question about?", output="Another answer.")
    done = curate("validate", workspace)
    assert "L407" in done.stdout
    assert "alpha-001" in done.stdout
    assert "alpha-001" not in exported(workspace)
    succeed(curate("drop", "--undo", "alpha-001", workspace))
    assert "alpha-001" in exported(workspace)


def test_an_edit_of_another_text_does_not_stand_below_it(workspace: Path) -> None:
    mend(workspace, "alpha-002")
    rewrite(workspace, "alpha-002", instruction="What is this other question about?", output="Another answer.")
    assert "alpha-002" not in exported(workspace)
    rewrite(workspace, "alpha-002", **{key: ROWS[2][key] for key in ("instruction", "output")})
    exported(workspace)
    texts = json.dumps([read_export(workspace, path.name) for path in (workspace / "dataset").glob("v*")])
    assert "Mended by a person." in texts


def test_what_is_about_the_text_may_change_in_the_file(workspace: Path) -> None:
    succeed(curate("drop", workspace, "--where", "id:alpha-003", "--reason", "wrong"))
    rewrite(workspace, "alpha-003", category="beta")
    assert "L407" not in curate("validate", workspace).stdout
    assert "alpha-003" not in exported(workspace)


def test_an_edit_made_here_carries_earlier_decisions(workspace: Path) -> None:
    succeed(curate("drop", workspace, "--where", "id:alpha-004", "--reason", "wrong"))
    mend(workspace, "alpha-004")
    assert "L407" not in curate("validate", workspace).stdout
    assert "alpha-004" not in exported(workspace)


def test_an_update_keeps_the_decisions_on_the_rows_that_it_changes(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "faq.jsonl", ROWS)
    succeed(curate("init", tmp_path / "w", source))
    workspace = tmp_path / "w"
    succeed(curate("drop", workspace, "--where", "id:alpha-006", "--reason", "wrong"))
    write_rows(source, [row | {"output": row["output"] + " Corrected."} for row in ROWS])
    succeed(curate("import", source, "--into", workspace, "--update"))
    assert "L407" not in curate("validate", workspace).stdout
    assert "alpha-006" not in exported(workspace)


def test_applied_edits_stand_in_the_files_and_change_no_record(workspace: Path) -> None:
    mend(workspace, "alpha-007")
    succeed(curate("drop", workspace, "--where", "id:alpha-008", "--reason", "wrong"))
    curate("label", workspace, "--where", "id:alpha-007", "--set", "category=beta")
    before = records(workspace, "--where", "status:ok")
    printed = succeed(curate("apply-edits", workspace))
    assert "1 line replaced, 1 line removed" in printed
    lines = {row["id"]: row for row in read_rows(workspace / "data" / "records.jsonl")}
    assert lines["alpha-007"]["output"] == "Mended by a person."
    assert "alpha-008" not in lines
    assert records(workspace, "--where", "status:ok") == before
    done = curate("validate", workspace)
    assert "L407" not in done.stdout
    assert "no longer in the data" not in done.stderr
    assert "no damage" in succeed(curate("doctor", workspace))
    assert "nothing to apply" in succeed(curate("apply-edits", workspace))


@pytest.mark.parametrize("name", ["", "twin"])
def test_a_drop_put_into_the_files_meets_no_record_like_it(tmp_path: Path, name: str) -> None:
    twin = {"instruction": "How hot is tea served here?", "output": "Hot."} | ({"id": name} if name else {})
    workspace = make_workspace(tmp_path / "w", [twin | {"category": "alpha"}, twin | {"category": "beta"}, ROWS[0]])
    first, second, _ = records(workspace)
    succeed(curate("drop", first, workspace, "--reason", "wrong category"))
    assert first in succeed(curate("apply-edits", workspace))
    assert [row["category"] for row in records(workspace, "--where", "status:dropped").values()] == ["alpha"]
    succeed(curate("drop", second, workspace, "--reason", "wrong too"))
    succeed(curate("apply-edits", workspace))
    assert [row["id"] for row in read_rows(workspace / "data" / "records.jsonl")] == [ROWS[0]["id"]]


def test_a_drop_of_a_text_without_an_id_is_not_lost_in_silence(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if key != "id"} for row in ROWS]
    workspace = make_workspace(tmp_path / "w", rows)
    first = next(iter(records(workspace)))
    succeed(curate("drop", first, workspace, "--reason", "wrong"))
    write_rows(workspace / "data" / "records.jsonl", [{**rows[0], "output": "Changed by hand."}, *rows[1:]])
    for verb in ("validate", "export"):
        done = curate(verb, workspace)
        assert first in done.stdout + done.stderr
    assert "L407" in curate("validate", workspace).stdout


@pytest.mark.parametrize(("key", "is_in"), [("1", False), ("2", True)])
def test_a_review_says_whether_it_holds(workspace: Path, key: str, is_in: bool) -> None:
    succeed(curate("drop", workspace, "--where", "id:alpha-001", "--reason", "wrong"))
    rewrite(workspace, "alpha-001", instruction="What is this other question about?")
    done = curate("review", workspace, "--plain", input=f"{key}\nq\n")
    assert "L407" in done.stdout
    assert "L407" not in curate("validate", workspace).stdout
    assert ("alpha-001" in exported(workspace)) is is_in


def test_a_drop_against_an_edit_that_had_not_seen_it_is_a_conflict(workspace: Path, tmp_path: Path) -> None:
    mend(workspace, "alpha-009")
    other = shutil.copytree(workspace, tmp_path / "branch", ignore=shutil.ignore_patterns("journal"))
    succeed(curate("drop", other, "--where", "id:alpha-009", "--reason", "wrong", "--by", "bo"))
    shutil.copytree(other / "journal", workspace / "journal", dirs_exist_ok=True)
    done = curate("validate", workspace)
    assert done.returncode == 1
    assert "L403" in done.stdout
    assert "ana and bo" in done.stdout
    curate("review", workspace, "--plain", input="1\nq\n")
    assert "L403" not in curate("validate", workspace).stdout
    assert "alpha-009" not in exported(workspace)


def test_a_drop_that_leans_on_another_record_is_shown_again_when_that_changes(workspace: Path) -> None:
    copy = {**ROWS[0], "id": "copy"}
    write_rows(workspace / "data" / "zz.jsonl", [copy])
    succeed(curate("dedupe", workspace, "--apply", "keep-first"))
    assert "L408" not in curate("validate", workspace).stdout
    mend(workspace, "alpha-000")
    done = curate("validate", workspace)
    assert "L408" in done.stdout
    assert "copy" in done.stdout


def test_a_segment_of_another_workspace_is_refused_and_named(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "faq.jsonl", ROWS)
    for name in ("ours", "theirs"):
        succeed(curate("init", tmp_path / name, source))
    succeed(curate("drop", "alpha-000", tmp_path / "theirs", "--reason", "wrong", "--by", "bo"))
    shutil.copytree(tmp_path / "theirs" / "journal" / "bo", tmp_path / "ours" / "journal" / "bo")
    for words in (("validate",), ("export",), ("status",), ("label", "--plain")):
        done = curate(*words, tmp_path / "ours")
        assert done.returncode != 0, words
        assert "E980" in done.stderr
        assert "journal/bo/" in done.stderr
    (segment,) = (tmp_path / "ours" / "journal" / "bo").iterdir()
    assert segment.name in curate("doctor", tmp_path / "ours").stdout
    segment.unlink()
    succeed(curate("validate", tmp_path / "ours"))


def test_an_applied_edit_is_not_taken_back_in_words_alone(workspace: Path) -> None:
    mend(workspace, "alpha-007")
    succeed(curate("apply-edits", workspace))
    done = curate("undo", workspace, "--by", "ana")
    assert done.returncode == 2
    assert "E982" in done.stderr


def test_lines_that_cannot_be_read_keep_edits_from_the_files(workspace: Path) -> None:
    mend(workspace, "alpha-007")
    path = workspace / "data" / "records.jsonl"
    path.write_text(path.read_text() + '{"id": "broken"\n')
    before = path.read_bytes()
    done = curate("apply-edits", workspace)
    assert done.returncode == 1
    assert "E982" in done.stderr
    assert path.read_bytes() == before


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    source = write_rows(tmp_path / "faq.jsonl", ROWS)
    succeed(curate("init", tmp_path / "w", source))
    return tmp_path / "w"


def update(workspace: Path, rows: list[Row]) -> str:
    source = write_rows(workspace.parent / "faq.jsonl", rows)
    done = curate("import", source, "--into", workspace, "--update")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_what_was_dropped_and_taken_out_does_not_come_back_with_an_update(imported: Path) -> None:
    succeed(curate("drop", "alpha-007", imported, "--reason", "wrong"))
    succeed(curate("apply-edits", imported))
    update(imported, ROWS)
    assert not {name for name in exported(imported) if name.startswith("alpha-007")}


def test_decisions_do_not_slide_when_the_ids_of_a_source_move(imported: Path) -> None:
    succeed(curate("drop", "alpha-003", imported, "--reason", "wrong"))
    texts = [ROWS[-1], *ROWS[:-1]]
    said = update(imported, [{**row, "id": old["id"]} for row, old in zip(texts, ROWS, strict=True)])
    assert "L407" in said
    assert "alpha-003" in said
    done = curate("validate", imported)
    assert "L407" in done.stdout
    # What was dropped is alpha-004 by now, and that is said.
    assert "says what was dropped as alpha-003" in done.stdout
    assert "alpha-003" not in exported(imported)


def test_a_row_put_in_on_top_takes_no_decision_of_the_row_whose_number_it_has(tmp_path: Path) -> None:
    towns = ["Rome", "Oslo", "Lima"]
    said = [f"The town of number {n} is {name}, by the river." for n, name in enumerate(towns)]
    rows = [{"id": f"{n}", "instruction": "Which town is it?", "output": text} for n, text in enumerate(said)]
    succeed(curate("init", tmp_path / "w", write_rows(tmp_path / "faq.jsonl", rows)))
    succeed(curate("drop", "0", tmp_path / "w", "--reason", "wrong"))
    put_in = {**rows[0], "output": said[0].replace("Rome", "Bonn")}
    told = update(tmp_path / "w", [put_in, *({**row, "id": f"{n}"} for n, row in enumerate(rows, 1))])
    assert "something else altogether: 1 record (0)" in told
    assert "L407" in curate("validate", tmp_path / "w").stdout


def test_the_same_file_again_puts_no_decided_record_out(workspace: Path) -> None:
    mend(workspace, "alpha-002")
    with python.open(workspace, "ana") as project:
        project.apply([python.Label("alpha-004", "category", "gamma")])
    succeed(curate("drop", "alpha-005", workspace, "--reason", "wrong"))
    copy = write_rows(workspace.parent / "aa.jsonl", ROWS)
    succeed(curate("import", copy, "--into", workspace))
    done = curate("export", workspace)
    assert "says what was dropped as alpha-005" in done.stderr
    rows = [row for part in read_export(workspace).values() for row in part]
    assert {row["category"] for row in rows if row["id"].startswith("alpha-004")} == {"gamma"}


def test_an_edit_of_a_record_whose_line_was_taken_out_elsewhere_is_told(workspace: Path, tmp_path: Path) -> None:
    other = shutil.copytree(workspace, tmp_path / "branch")
    mend(other, "alpha-001")
    succeed(curate("drop", "alpha-001", workspace, "--reason", "wrong"))
    succeed(curate("apply-edits", workspace))
    shutil.copytree(other / "journal", workspace / "journal", dirs_exist_ok=True)
    done = curate("validate", workspace)
    assert "L407" in done.stdout
    assert "edit of output by ana" in done.stdout


def test_a_row_that_says_something_else_under_its_id_takes_no_decision_along(tmp_path: Path) -> None:
    asked = "Is the review below positive or negative? Answer with one word, please."
    reviews = ["The box was torn and late", "It is quiet at night", "The sound is terrible", "Great value"]
    rows = [{"id": f"v{n}", "instruction": asked, "input": text, "output": "bad"} for n, text in enumerate(reviews)]
    source = write_rows(tmp_path / "faq.jsonl", rows)
    succeed(curate("init", tmp_path / "w", source))
    with python.open(tmp_path / "w", "ana") as project:
        project.apply([python.Drop("v2", "off topic"), python.Edit("v1", {"output": "good"})])
    others = {"v2": "A pump leaked over our whole kitchen", "v1": "Nobody ever answered my mails"}
    said = update(tmp_path / "w", [{**row, "input": others.get(row["id"], row["input"])} for row in rows])
    assert "something else altogether: 2 records (v1, v2)" in said
    found = curate("validate", tmp_path / "w").stdout
    assert found.count("L407") == 2
    assert not {"v1", "v2"} & exported(tmp_path / "w")


def test_a_dropped_text_is_told_again_whatever_was_decided_on_its_copy(workspace: Path) -> None:
    succeed(curate("drop", "alpha-005", workspace, "--reason", "wrong"))
    write_rows(workspace / "data" / "zz.jsonl", [{**ROWS[5], "id": "copy", "input": ""}])
    with python.open(workspace, "ana") as project:
        project.apply([python.Assign("copy", "train")])
    assert "L409" in curate("validate", workspace).stdout
    succeed(curate("drop", "--undo", "copy", workspace))
    assert "L409" not in curate("validate", workspace).stdout
