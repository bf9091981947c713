"""A text that is no JSON yet, kept while others go on: what they change meanwhile is neither taken back nor lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from curate.base.events import Add, Edit
from curate.base.record import CurateError, Json
from curate.project.data import load_data
from curate.project.project import Project, open_project
from curate.sessions.edits import EditSession, open_edit

Hold = Callable[..., Project]


@pytest.fixture
def hold(make_workspace) -> Iterator[Hold]:
    """Return a function that opens one and the same workspace for an annotator."""
    root = make_workspace().root
    with ExitStack() as held:

        def opened(by: str = "ana") -> Project:
            project = held.enter_context(open_project(root, by))
            project.load()
            return project

        yield opened


def edits_of(hold: Hold, **changes: Json) -> None:
    """Have somebody else change keys of the record."""
    hold("bo").apply([Edit("r003", changes)])


def line_in(project: Project) -> dict[str, Json]:
    states = load_data(project.root).states()
    return dict(next(state.record.data for state in states if state.record.id == "r003"))


def broken(edit: EditSession) -> str:
    """Leave a text without a colon, as an editor might; return the text as it is once it is mended."""
    text = edit.written(as_json=True).replace('"output": "', '"output": "Mine. ')
    faults = edit.take(text.replace('"output": ', '"output" '))
    assert faults == ["line 4, column 12: a colon after the key was expected"]
    return text


def test_mending_a_text_takes_back_nothing_that_others_have_changed(hold) -> None:
    project = hold()
    edit = open_edit(project, "r003")
    mended = broken(edit)
    edits_of(hold, instruction="Theirs")
    project.refresh()
    assert edit.follow() == []
    assert '"output" ' in edit.written(as_json=True)
    assert edit.take(mended) == []
    assert edit.follow() == ["the record was changed meanwhile; your edit goes on from there"]
    assert edit.save() == "saved r003: output"
    found = line_in(project)
    assert found["instruction"] == "Theirs"
    assert str(found["output"]).startswith("Mine. ")


def test_a_mended_text_that_disputes_a_key_is_asked_about_once(hold) -> None:
    project = hold()
    edit = open_edit(project, "r003")
    mended = broken(edit)
    edits_of(hold, output="Theirs", instruction="Theirs")
    # Nobody follows in between: saving looks by itself.
    edit.take(mended)
    with pytest.raises(CurateError, match="somebody else has changed output too") as caught:
        edit.save()
    assert caught.value.code == "E986 changed-meanwhile"
    assert line_in(project)["output"] == "Theirs"
    assert edit.save() == "saved r003: output"
    assert line_in(project)["instruction"] == "Theirs"


@pytest.mark.parametrize("is_disputed", [False, True])
def test_a_draft_with_a_text_is_mended_on_the_line_that_it_was_made_of(hold, is_disputed) -> None:
    edit = open_edit(hold(), "r003")
    mended = broken(edit)
    edit.keep()
    edits_of(hold, instruction="Theirs", **({"output": "Theirs"} if is_disputed else {}))
    for _ in range(2):
        # Kept again while it is no JSON, it still knows its line.
        edit = open_edit(hold(), "r003")
        assert any("older state" in note for note in edit.notes)
        edit.keep()
    edit.take(mended)
    if is_disputed:
        with pytest.raises(CurateError, match="changed output too"):
            edit.save()
    assert edit.save() == "saved r003: output"
    assert line_in(edit.project)["instruction"] == "Theirs"
    assert not edit.draft_path.exists()


def test_letting_a_text_go_shows_what_is_saved_now(hold) -> None:
    project = hold()
    edit = open_edit(project, "r003")
    broken(edit)
    edits_of(hold, output="Theirs")
    project.refresh()
    edit.follow()
    edit.discard()
    assert not edit.is_changed
    assert edit.form.to_line()["output"] == "Theirs"
    edit.form.enter("/output", "Mine")
    assert edit.save() == "saved r003: output"


def test_a_record_that_is_gone_is_told_while_its_text_is_no_json(hold) -> None:
    project, theirs = hold(), hold("bo")
    theirs.apply([Add("new", {"instruction": "Ask", "output": "Tell"})])
    project.refresh()
    edit = open_edit(project, "new")
    edit.take("{")
    theirs.undo()
    project.refresh()
    with pytest.raises(CurateError, match="no record 'new'"):
        edit.follow()
