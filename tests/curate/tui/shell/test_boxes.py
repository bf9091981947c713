"""Boxes over a screen, and the header: what is cut, what a key that means nothing is told, a search without a match."""

from __future__ import annotations

import pytest

from curate.project.data import load_data
from curate.tui.dialogs import Ask
from curate.tui.ways_in import FileChooser


def test_the_note_at_the_right_of_the_header_cuts_the_workspace_and_not_the_annotator(
    make_workspace, make_app, drive, screen_text, tmp_path
) -> None:
    root = make_workspace().root.rename(tmp_path / "support-desk-of-the-northern-region-2026")
    app = make_app(load_data(root), by="annegret.b")

    async def story(pilot):
        app.following.is_stale = True
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        head = screen_text(app).splitlines()[0]
        assert "annotator: annegret.b" in head
        assert head.endswith("files changed: r reads them")
        assert "curate  suppor…-region-2026  annotator" in head

    drive(app, story, size=(79, 24))


def test_enter_answers_no_question_and_says_so(workspace, make_app, drive, screen_text) -> None:
    app = make_app(workspace)
    done = []

    async def story(pilot):
        app.ask("Make a workspace?", lambda: done.append(1))
        await pilot.pause()
        await pilot.press("enter")
        assert isinstance(app.screen, Ask)
        assert "press y or n" in screen_text(app)
        await pilot.press("y")

    drive(app, story)
    assert done == [1]


@pytest.mark.parametrize("key", ["d", "ctrl+r", "f7"])
def test_a_key_that_does_nothing_is_answered(workspace, make_app, drive, settled, key) -> None:
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("g", "h")
        await settled(pilot)
        await pilot.press(key)
        assert app.message.plain == f"~ warn {key} does nothing here; ? shows the keys."

    drive(app, story)


@pytest.mark.ci
def test_a_list_without_a_match_says_so(workspace, make_app, drive, settled, screen_text) -> None:
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press(":", *"zzzqq")
        await settled(pilot)
        assert "Nothing in the list fits." in screen_text(app)
        await pilot.press("ctrl+u")
        await settled(pilot)
        assert "Nothing in the list fits." not in screen_text(app)

    drive(app, story)


@pytest.mark.ci
def test_a_command_is_described_as_far_as_there_is_room(workspace, make_app, drive, settled, screen_text) -> None:
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press(":", *"curate approve")
        await settled(pilot)
        assert "Approve records, by their ids or by a filter, as one" in screen_text(app).split("curate approve ")[2]

    drive(app, story, size=(100, 30))


def test_a_search_of_the_help_without_a_match_says_so(workspace, make_app, drive, settled, screen_text) -> None:
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("question_mark", "/", *"zzqq")
        await settled(pilot)
        assert "No line has zzqq." in screen_text(app)
        await pilot.press("ctrl+u")
        await settled(pilot)
        assert "No line has" not in screen_text(app)

    drive(app, story)


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30)], ids=str)
def test_files_of_one_folder_are_told_apart_by_the_end_of_their_path(
    workspace, make_app, drive, settled, screen_text, tmp_path, size
) -> None:
    folder = tmp_path / "a-set-of-instructions-with-a-long-name"
    folder.mkdir()
    names = ["rows-of-the-first-half-1.jsonl", "rows-of-the-second-half-2.jsonl"]
    for name in names:
        (folder / name).write_text("{}\n", encoding="utf-8")
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press("i")
        await settled(pilot)
        app.screen.enter(f"{folder}/")
        await settled(pilot)
        assert isinstance(app.screen, FileChooser)
        for name in names:
            assert name[-16:] in screen_text(app)
        assert "3 bytes" in screen_text(app)

    drive(app, story, size=size)
