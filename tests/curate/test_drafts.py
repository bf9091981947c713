"""Drafts: nothing typed is lost, and what changed in a record is told by its keys."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.base.record import CurateError
from curate.project.drafts import Draft, Drafts, changes, rebased, safe_name

LINES = st.dictionaries(st.sampled_from("abcde"), st.sampled_from([1, 1.0, True, "x", "y", [1], {"a": None}]))


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "", ".", "..", "a/b", "a\0b", "CON", "x" * 600, "é", "\x1b[2J", "A", " a", "~", "\ud800"],
)
def test_file_names_are_safe(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert set(safe) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-~")
    assert not safe.startswith(".")
    assert len(safe) < 100


def test_plain_ids_name_their_file() -> None:
    assert safe_name("ex-000031") == "ex-000031"


@given(st.text(max_size=12), st.text(max_size=12))
def test_different_names_have_different_files(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_draft_comes_back_as_it_was_written(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path, "ana")
    assert drafts.read("r1") is None
    draft = Draft("r1", {"a": 1}, {"a": 1.0, "b": "\x1b\u202e"}, ("p" * 32,), True, {"/n": ("1x", "not a number")}, "{")
    drafts.write(draft)
    found = drafts.read("r1")
    assert found is not None
    assert found.at
    assert (found.base, found.line, found.parents, found.is_new) == (draft.base, draft.line, draft.parents, True)
    assert type(found.line["a"]) is float
    assert (dict(found.typed), found.text) == (dict(draft.typed), "{")
    assert drafts.path("r1") == tmp_path / ".curate" / "drafts" / "ana" / "r1.json"
    assert stat.S_IMODE(drafts.path("r1").stat().st_mode) == 0o600
    assert (tmp_path / ".curate" / ".gitignore").is_file()
    assert drafts.names() == ["r1"]
    drafts.remove("r1")
    drafts.remove("r1")
    assert drafts.read("r1") is None


def test_two_annotators_have_drafts_of_their_own(tmp_path: Path) -> None:
    Drafts(tmp_path, "ana").write(Draft("r1", {}, {"a": "ana"}))
    Drafts(tmp_path, "Ana").write(Draft("r1", {}, {"a": "Ana"}))
    found = Drafts(tmp_path, "ana").read("r1")
    assert found is not None
    assert found.line == {"a": "ana"}


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 5000, b"null", b'{"v": 2}', b'{"v":1,"id":"other"}', b"\xff"])
def test_a_damaged_draft_is_put_aside_and_told(tmp_path: Path, content: bytes) -> None:
    drafts = Drafts(tmp_path, "ana")
    drafts.write(Draft("r1", {}, {"a": 1}))
    drafts.path("r1").write_bytes(content)
    with pytest.raises(CurateError, match="cannot be used") as caught:
        drafts.read("r1")
    assert caught.value.code == "E985 bad-draft"
    aside = list(drafts.path("r1").parent.glob("*.damaged"))
    assert [path.read_bytes() for path in aside] == [content]
    assert drafts.read("r1") is None


def test_drafts_stay_inside_the_workspace(tmp_path: Path) -> None:
    root, outside = tmp_path / "ws", tmp_path / "elsewhere"
    root.mkdir()
    outside.mkdir()
    (root / ".curate").symlink_to(outside)
    with pytest.raises(CurateError, match="outside"):
        Drafts(root, "ana").write(Draft("r1", {}, {}))
    assert not list(outside.iterdir())


@pytest.mark.ci
def test_a_kill_leaves_the_old_draft_or_the_new_one(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom curate.project.drafts import Draft, Drafts\n"
        "drafts = Drafts(Path(sys.argv[1]), 'ana')\nn = 0\n"
        "while True:\n    n += 1\n    drafts.write(Draft('r1', {}, {'n': n, 'text': 'x' * 50_000}))\n"
        "    print(n, flush=True)"
    )
    last = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(3):
                last = int(child.stdout.readline())
            child.kill()
        found = Drafts(tmp_path, "ana").read("r1")
        assert found is not None
        assert found.line["n"] >= last
        assert len(found.line["text"]) == 50_000


# -- changes ----------------------------------------------------------------------------------------------------------


def test_changes_are_told_by_top_level_key() -> None:
    assert changes({"a": 1, "b": 2, "c": None}, {"a": 1.0, "c": None, "d": 4}) == {"a": 1.0, "b": None, "d": 4}
    with pytest.raises(CurateError, match="cannot be set to null"):
        changes({"a": 1}, {"a": None})


@given(LINES, LINES)
def test_changes_applied_give_the_new_line(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = changes(old, new)
    line = {key: value for key, value in {**old, **found}.items() if value is not None or key not in found}
    assert json.dumps(line, sort_keys=True) == json.dumps(new, sort_keys=True)


@given(LINES, LINES, LINES)
def test_an_edit_moved_to_another_base_keeps_what_each_side_changed(base: Any, mine: Any, theirs: Any) -> None:
    line, disputed = rebased(base, mine, theirs)
    spelled = json.dumps
    for key in "abcde":
        sides = [spelled(one[key]) if key in one else None for one in (base, mine, theirs, line)]
        was, own, other, now = sides
        assert now == (other if own == was else own)
        assert (key in disputed) == (own not in (was, other) and other != was)
