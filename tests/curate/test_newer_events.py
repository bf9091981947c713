"""A workspace that holds what a newer version has decided: it opens read-only, says so and counts it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from curate.base.events import Drop, Label
from curate.base.record import CurateError
from curate.cli import cli
from curate.project.data import ProjectData, load_data
from curate.project.journal import pieces, segments
from curate.project.project import open_project
from tests.curate.deciding import decide

Make = Callable[..., ProjectData]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False)


def add_line(path: Path, **changes: Any) -> None:
    """Append the first event of a segment once more, as another one that differs by ``changes``."""
    number = path.read_bytes().count(b"\n") + 1
    line = json.loads(next(pieces(path.read_bytes())).payload or b"")
    line |= {"event": f"{number:032x}", "act": f"{number:032x}", "seq": number, **changes}
    payload = json.dumps(line).encode()
    path.write_bytes(path.read_bytes() + b"%08x %b\n" % (zlib.crc32(payload), payload))


def content(root: Path) -> dict[str, bytes]:
    """Return every file, but for what may be deleted at any time and files of locks."""
    paths = (path for path in root.rglob("*") if path.is_file() and ".curate" not in path.parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


@pytest.fixture
def newer(make_workspace: Make) -> Path:
    """Return a workspace with a drop, a kind of event that nobody knows, and a drop of a later version."""
    root = make_workspace().root
    decide(load_data(root), [Drop("r001", reason="wrong")])
    (path,) = segments(root)
    add_line(path, op="rate", id="r002", stars=5)
    add_line(path, v=3, id="r003")
    return root


READING = [("list",), ("stats",), ("validate",), ("log",)]


@pytest.mark.parametrize("words", READING)
def test_verbs_that_read_answer_and_say_that_it_is_read_only(newer: Path, words: tuple[str, ...]) -> None:
    result = run(*words, newer)
    assert not result.exception, result.output
    assert not result.return_value
    (line,) = [line for line in result.stderr.splitlines() if "read-only" in line]
    assert "2 decisions" in line
    assert f"{segments(newer)[0].relative_to(newer)}:2" in line


@pytest.mark.parametrize(
    "words", [("export",), ("fold",), ("undo",), ("split", "--freeze"), ("split", "--seed", "7", "--apply", "--save")]
)
def test_verbs_that_write_refuse_and_change_nothing(newer: Path, words: tuple[str, ...]) -> None:
    before = content(newer)
    error = run(words[0], newer, *words[1:]).exception
    assert isinstance(error, CurateError)
    assert error.code == "E913 unknown-event"
    assert f"{segments(newer)[0].relative_to(newer)}:2" in error.message
    assert "pgrade" in error.hint
    assert content(newer) == before


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_project_has_what_it_knows_and_saves_nothing(newer: Path, is_loaded: bool) -> None:
    before = content(newer)
    with open_project(newer) as project:
        if is_loaded:
            project.load()
        assert project.is_read_only
        names = {record.id for record in project.records()}
        assert "r001" not in names
        assert {"r002", "r003"} <= names
        for save in (lambda: project.apply([Label("r002", "quality", "good")]), project.undo, project.export):
            with pytest.raises(CurateError) as caught:
                save()
            assert caught.value.code == "E913 unknown-event"
        assert project.refresh() == set(), "what was there when it was opened is a remark"
        assert any("read-only" in remark for remark in project.remarks())
    assert content(newer) == before


def test_a_workspace_becomes_writable_again_where_everything_is_known(newer: Path) -> None:
    (path,) = segments(newer)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with open_project(newer, "ana") as project:
        assert not project.is_read_only
        project.apply([Label("r002", "quality", "good")])
    assert not run("export", newer).exception


def test_fsck_counts_each_of_them_and_recovering_keeps_their_bytes(newer: Path) -> None:
    before = content(newer)
    result = run("fsck", newer)
    assert result.return_value == 1
    assert result.output.count("unknown-event") == 2
    assert run("fsck", newer, "--recover").return_value == 1
    assert content(newer) == before


def test_a_field_that_a_newer_version_adds_is_kept(make_workspace: Make) -> None:
    root = make_workspace().root
    decide(load_data(root), [Drop("r001", reason="wrong")])
    (path,) = segments(root)
    add_line(path, id="r002", device="phone")
    with open_project(root, "ana") as project:
        project.load()
        assert not project.is_read_only
        assert {"r001", "r002"}.isdisjoint(record.id for record in project.records())
        (event,) = project.history("r002")
        assert event.model_dump()["device"] == "phone"
        project.apply([Label("r003", "quality", "good")])
    assert not run("fsck", root).return_value
    assert not run("fold", root).exception
    assert b'"phone"' in b"".join(path.read_bytes() for path in (root / "journal/retired").rglob("*.log"))
