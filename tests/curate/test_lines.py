"""A line that is no record, mended where it stands: nothing else in its file changes, and no decision changes hands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.base.events import Drop
from curate.base.record import CurateError
from curate.project.data import load_data
from curate.project.drafts import Drafts
from curate.project.project import Project, open_project
from curate.sessions.lines import open_line

GOOD = '{"id":"a", "instruction": "Ask.",  "output": "Tell caf\\u00e9."}'
REFUSED = '{"id": "b",  "instruction": "Ask again.", "output": 7, "meta":{"n": 1.0}}'
BROKEN = '{"id": "c", "instruction": "Ask more.", "output" "Tell."}'


def shop_on(root: Path, text: bytes) -> Project:
    (root / "data").mkdir(parents=True)
    (root / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    (root / "data/a.jsonl").write_bytes(text)
    project = open_project(root, "ana")
    project.load()
    return project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    lines = ["\ufeff" + GOOD, REFUSED + "\r", BROKEN, "", "<<<<<<< ours"]
    with shop_on(tmp_path, "\n".join(lines).encode() + b"\n") as project:
        yield project


def read(project: Project) -> list[bytes]:
    return (project.root / "data/a.jsonl").read_bytes().split(b"\n")


def test_a_line_that_the_schema_refuses_is_mended_in_its_form(project: Project) -> None:
    before = read(project)
    edit = open_line(project, "data/a.jsonl", 2)
    assert "no undo takes back" in edit.notes[0]
    assert not edit.is_changed
    with pytest.raises(CurateError, match="/output must be a string"):
        edit.save()
    edit.form.replace_line({**edit.form.to_line(), "output": "Täll."})
    edit.keep()
    assert Drafts(project.root, "ana").names() == [], "it is no record that could be gone on with"
    assert open_line(project, "data/a.jsonl", 2).form.to_line()["output"] == "Täll."
    assert edit.save() == "data/a.jsonl:2 is the record b now"
    after = read(project)
    # Its line end, and all that is not the value, stay byte for byte.
    assert after[1] == REFUSED.replace("7,", '"Täll.",').encode() + b"\r"
    assert after[:1] + after[2:] == before[:1] + before[2:]
    assert not edit.is_changed
    assert not edit.draft_path.exists()
    assert not (project.root / "journal").exists()
    assert not project.is_current()
    project.reload()
    assert project.state("b").record.completion == "Täll."


def test_a_line_that_is_no_json_is_mended_in_an_editor(project: Project) -> None:
    edit = open_line(project, "data/a.jsonl", 3)
    assert edit.written() == BROKEN
    assert not edit.is_changed
    with pytest.raises(CurateError, match="cannot be read yet"):
        edit.save()
    assert edit.take(BROKEN.replace('"output" ', '"output": [') + "\n")
    edit.keep()
    again = open_line(project, "data/a.jsonl", 3)
    assert '"output": [' in again.written()
    assert again.take(BROKEN.replace('"output" ', '"output": ')) == []
    again.keep()
    assert open_line(project, "data/a.jsonl", 3).form.to_line()["output"] == "Tell."
    again.discard()
    assert again.written() == BROKEN
    again.take(BROKEN.replace('"output" ', '"output": '))
    assert again.save() == "data/a.jsonl:3 is the record c now"
    assert read(project)[2] == BROKEN.replace('"output" ', '"output": ').encode()


def test_bytes_that_are_no_text_go_to_the_editor_and_come_back(tmp_path: Path) -> None:
    raw = b'{"instruction": "caf\xe9", "output": "x"}'
    with shop_on(tmp_path, raw) as project:
        edit = open_line(project, "data/a.jsonl", 1)
        assert edit.written().encode("utf-8", "surrogateescape") == raw
        assert edit.take(edit.written())
        edit.keep()
        assert open_line(project, "data/a.jsonl", 1).written() == edit.written()
        edit.take(edit.written().replace("\udce9", "é"))
        edit.save()
        assert json.loads((project.root / "data/a.jsonl").read_bytes()) == {"instruction": "café", "output": "x"}


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (1, "E972 unfit-line", "curate validate --fix"),
        (4, "E972 unfit-line", "EDITOR +4 "),
        (5, "E972 unfit-line", "EDITOR +5 "),
        (99, "E904 no-such-file", ""),
        (0, "E904 no-such-file", ""),
    ],
)
def test_what_cannot_become_a_record_says_what_to_do(project: Project, number: int, code: str, told: str) -> None:
    with pytest.raises(CurateError) as caught:
        open_line(project, "data/a.jsonl", number)
    assert caught.value.code == code
    assert told in caught.value.hint


def test_only_record_files_have_lines(project: Project) -> None:
    for file in ("curate.toml", "../a.jsonl", ""):
        with pytest.raises(CurateError, match="no line of a record file"):
            open_line(project, file, 1)


def test_a_document_over_many_lines_has_no_line_to_mend(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/b.jsonl").write_text(GOOD + "\n", encoding="utf-8")
    (tmp_path / "curate.toml").write_text("[split]\nseed = 1\n", encoding="utf-8")
    with open_project(tmp_path, "ana") as project:
        project.load()
        (tmp_path / "data/a.jsonl").write_text("[\n" + GOOD + "\n]\n", encoding="utf-8")
        with pytest.raises(CurateError) as caught:
            open_line(project, "data/a.jsonl", 2)
        assert "curate import" in caught.value.hint


def test_a_line_that_has_changed_meanwhile_is_left_as_it_is(project: Project) -> None:
    edit = open_line(project, "data/a.jsonl", 2)
    edit.form.replace_line({**edit.form.to_line(), "output": "Mine."})
    path = project.root / "data/a.jsonl"
    theirs = path.read_bytes().replace(b'"output": 7', b'"output": 8')
    path.write_bytes(theirs)
    with pytest.raises(CurateError) as caught:
        edit.save()
    assert caught.value.code == "E959 not-rewritten"
    assert path.read_bytes() == theirs
    edit.keep()
    # The draft is of another line now, and stays where it is.
    assert open_line(project, "data/a.jsonl", 2).form.to_line()["output"] == 8
    assert edit.draft_path.is_file()


def test_no_line_takes_the_name_of_a_record(project: Project) -> None:
    edit = open_line(project, "data/a.jsonl", 3)
    edit.take('{"id": "a", "instruction": "Ask.", "output": "Tell."}')
    with pytest.raises(CurateError, match="there already is a record 'a'"):
        edit.save()
    edit.take('{"id": "a2", "instruction": "Ask.", "output": "Tell."}')
    assert edit.save() == "data/a.jsonl:3 is the record a2 now"


def test_no_line_takes_the_decisions_of_a_record_that_says_the_same(tmp_path: Path) -> None:
    line = '{"instruction": "Ask.", "output": "Tell."}'
    with shop_on(tmp_path, f"[]\n{line}\n".encode().replace(b"[]", b"7")) as project:
        name = project.catalog.name(0)
        edit = open_line(project, "data/a.jsonl", 1)
        edit.take(line)
        project.apply([Drop(name, reason="x")])
        with pytest.raises(CurateError, match="on which decisions or a dataset hang"):
            edit.save()
        assert [state.dropped for state in load_data(tmp_path).states()] == ["x"]


def test_curate_edit_opens_a_line_by_its_place(project: Project, tmp_path_factory, monkeypatch, capsys) -> None:
    from curate.cli import cli

    script = tmp_path_factory.mktemp("editor") / "editor.py"
    script.write_text(
        "import sys, pathlib\np = pathlib.Path(sys.argv[1])\np.write_text(p.read_text().replace('= 7', '= \"x\"'))\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    assert cli.main(["edit", "data/a.jsonl:2", str(project.root)], standalone_mode=False) == 0
    told = capsys.readouterr().err
    assert "no undo takes back" in told
    assert "data/a.jsonl:2 is the record b now" in told
    assert read(project)[1].startswith(b'{"id": "b",  "instruction": "Ask again.", "output": "x"')
