"""One file without a workspace: every decision is in it at once, every other byte stays, and nothing is left behind."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from curate.base.events import Add, Drop, Edit, Label
from curate.base.record import CurateError
from curate.project.drafts import Draft, Drafts
from curate.project.single_file import SingleFileProject, open_single_file
from curate.sessions.lines import open_line
from tests.effort import EFFORT


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def _line(number: int) -> str:
    return json.dumps({"id": f"r{number}", "instruction": f"Question {number}?", "output": f"Answer {number}."})


def _opened(path: Path) -> SingleFileProject:
    project = open_single_file(path, "ana")
    project.load()
    return project


def test_what_is_decided_is_in_the_file_and_all_else_stays_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "a b[1].jsonl"
    lines = [_line(1), '{"instruction":  "é", "output": "x", "id": "r2"}', "{no"]
    before = b"\xef\xbb\xbf" + "\r\n".join(lines).encode()
    path.write_bytes(before)
    path.chmod(0o640)
    with _opened(path) as project:
        assert path.read_bytes() == before, "a look changes nothing"
        project.apply([Edit("r2", {"output": "ÿ"})])
        assert path.read_bytes() == before.replace(b'"x"', '"ÿ"'.encode())
        project.apply([Edit("r1", {"output": "Other."})])
        project.apply([Add("r9", json.loads(_line(9)))])
        assert path.read_bytes().endswith(b"{no\n" + _line(9).encode() + b"\n")
        project.apply([Drop("r1", "wrong")])
        assert b"r1" not in path.read_bytes()
        for _ in range(4):
            assert project.undo() is not None
        assert path.read_bytes() == before, "undone, it is what it was"
        assert path.stat().st_mode & 0o777 == 0o640
        assert project.is_current()


def test_random_decisions_leave_the_lines_that_a_list_would_have(tmp_path: Path) -> None:
    for seed in range(2 * EFFORT):
        chance = random.Random(seed)
        path = tmp_path / f"{seed}.jsonl"
        lines = {f"r{number}": json.loads(_line(number)) for number in range(12)}
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines.values()))
        with _opened(path) as project:
            history = [dict(lines)]
            for step in range(12):
                kind, name = chance.choice(["edit", "edit", "drop", "add", "undo"]), chance.choice(list(lines))
                if kind == "undo":
                    assert (project.undo() is None) == (len(history) == 1)
                    history = history[:-1] or history
                    lines = dict(history[-1])
                    continue
                if kind == "drop" and len(lines) > 1:
                    project.apply([Drop(name, "x")])
                    del lines[name]
                elif kind == "add":
                    lines[f"new{step}"] = json.loads(_line(100 + step)) | {"id": f"new{step}"}
                    project.apply([Add(f"new{step}", lines[f"new{step}"])])
                else:
                    lines[name] = lines[name] | {"output": f"text {step}"}
                    project.apply([Edit(name, {"output": f"text {step}"})])
                history.append(dict(lines))
                written = {row["id"]: row for row in map(json.loads, path.read_text().splitlines())}
                assert written == lines, f"seed {seed}, step {step}"


def test_a_line_that_is_no_record_is_mended_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{_line(1)}\n{{"id": "r2", "instruction": "Q?"}}\n')
    with _opened(path) as project:
        edit = open_line(project, "a.jsonl", 2)
        edit.form.set("/output", "A.")
        edit.save()
        project.reload()
        assert json.loads(path.read_text().splitlines()[1]) == {"id": "r2", "instruction": "Q?", "output": "A."}
        assert len(project.catalog) == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be"])
def test_a_file_that_is_not_utf_8_is_not_written_to(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{_line(1)}\n", encoding=encoding)
    before = path.read_bytes()
    with _opened(path) as project:
        assert project.catalog.num_unread == 1, "Home goes to Validate, not to a first record"
        assert "iconv -f UTF" in project.remarks()[0]
        with pytest.raises(CurateError, match="not UTF-8") as raised:
            project.apply([Add("r9", json.loads(_line(9)))])
        assert "iconv -f UTF" in raised.value.hint
        assert path.read_bytes() == before
        assert not len(project.catalog), "what is not in the file is not decided"


def test_what_another_program_wrote_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{_line(1)}\n")
    with _opened(path) as project:
        project.apply([Edit("r1", {"output": "Mine."})])
        theirs = path.read_text() + _line(2) + "\n"
        path.write_text(theirs)
        assert not project.is_current()
        with pytest.raises(CurateError, match="another program") as raised:
            project.apply([Edit("r1", {"output": "More."})])
        assert raised.value.code == "E959 not-rewritten"
        assert path.read_text() == theirs
        assert project.state("r1").record.completion == "Mine.", "what is not in the file is not decided"
        project.reload()
        assert project.is_current()
        assert len(project.catalog) == 2
        project.apply([Edit("r2", {"output": "More."})])
        assert "More." in path.read_text()


def test_what_a_line_has_no_place_for_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{_line(1)}\n")
    with _opened(path) as project, pytest.raises(CurateError, match="no place for this") as raised:
        project.apply([Label("r1", "topic", "card")])
    assert "workspace" in raised.value.hint
    assert path.read_text() == f"{_line(1)}\n"


def test_one_person_at_a_time_and_nothing_left_but_drafts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{_line(1)}\n")
    with _opened(path) as project, pytest.raises(CurateError, match=r"a\.jsonl"):
        open_single_file(path)
    assert not project.root.exists(), "nothing is left behind"
    with _opened(path) as project:
        line = json.loads(_line(1))
        Drafts(project.root, project.by).write(Draft("r1", line, line | {"output": "half"}))
    assert project.root.exists()
    with _opened(path) as project:
        assert Drafts(project.root, project.by).names() == ["r1"], "a draft outlives its session"


def test_what_was_dropped_comes_back_after_leaving_and_not_once_another_program_wrote(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    before = f"{_line(1)}\n{_line(2)}\n"
    path.write_text(before)
    with _opened(path) as project:
        project.apply([Drop("r1", "wrong")])
    with _opened(path) as project:
        assert path.read_text() == f"{_line(2)}\n"
        assert project.undo() is not None
        assert path.read_text() == before
        project.apply([Drop("r1", "wrong")])
    path.write_text(f"{_line(2)}\n{_line(3)}\n")
    with _opened(path) as project:
        assert len(project.catalog) == 2
        assert project.undo() is None
    assert path.read_text() == f"{_line(2)}\n{_line(3)}\n"


@pytest.mark.ci
@pytest.mark.parametrize("killed_at", ["after", "before"])
def test_a_process_that_is_killed_loses_no_line(tmp_path: Path, killed_at: str) -> None:
    path = tmp_path / "a.jsonl"
    before = f"{_line(1)}\n{_line(2)}\n"
    path.write_text(before)
    code = f"""
import os, sys
from pathlib import Path
from curate.base.events import Drop
from curate.project import single_file
path, write = Path(sys.argv[1]), single_file.write_atomic
def killed(target, chunks, **more):
    if target != path or {killed_at == "after"}:
        return write(target, chunks, **more)
    list(chunks)
    os._exit(9)
project = single_file.open_single_file(path, "ana")
project.load()
single_file.write_atomic = killed
project.apply([Drop("r1", "wrong")])
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 9
    assert ("Question 1" in path.read_text()) == (killed_at == "before")
    with _opened(path) as project:
        assert path.read_text() == f"{_line(2)}\n", "what was decided is done"
        assert project.undo() is not None
        assert path.read_text() == before


def test_a_look_does_not_touch_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{_line(1)}\n")
    before = path.stat()
    with _opened(path) as project:
        project.refresh()
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_of_any_fields_has_the_schema_that_its_lines_show(tmp_path: Path) -> None:
    path = tmp_path / "odd.ndjson"
    rows = [{"question": f"What is {number}?", "answer": "A number.", "depth": number} for number in (1, 2)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    with _opened(path) as project:
        assert len(project.catalog) == 2
        name = project.catalog.frame(["id"])["id"][1]
        project.apply([Edit(name, {"depth": 3})])
        assert json.loads(path.read_text().splitlines()[1]) == rows[1] | {"depth": 3}
        with pytest.raises(CurateError, match="depth"):
            project.apply([Edit(name, {"depth": "much"})])
    path.write_text('{"topic": "a", "text": "one"}\n')
    with pytest.raises(CurateError, match="question and answer"):
        open_single_file(path)


def test_an_empty_file_takes_its_first_record(tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text("")
    with _opened(path) as project:
        project.apply([Add("r1", json.loads(_line(1)))])
    assert path.read_text() == f"{_line(1)}\n"


def test_a_link_stays_and_what_it_leads_to_is_edited(tmp_path: Path) -> None:
    target, link = tmp_path / "a.jsonl", tmp_path / "link.jsonl"
    target.write_text(f"{_line(1)}\n")
    link.symlink_to(target)
    with _opened(link) as project:
        project.apply([Edit("r1", {"output": "New."})])
    assert link.is_symlink()
    assert "New." in target.read_text()
