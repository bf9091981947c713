"""What a second attack on the terminal UI found: answers that cannot be saved, views, lists, paths, and words."""

from __future__ import annotations

import os

import pytest

from curate.base.record import CurateError
from curate.base.storage import write_atomic
from curate.project.project import open_project
from curate.sessions.runs import CommandResult, Errand, plan
from curate.tui.frame_table import FrameTable
from tests.curate.tui.browsing import SETTINGS, browse, lines, reopened, shown, type_filter

APPROVAL = "[split]\nseed = 1\n[review]\napprovals = 1\ncategories = ['billing']\n"
KEYS = SETTINGS + "\n[views]\n\n# Keys of the terminal UI.\n[keys]\n"


@pytest.mark.ci
@pytest.mark.parametrize("keys", [["t", "enter"], ["D", "enter"]], ids=["tag", "drop"])
def test_an_answer_in_a_box_that_cannot_be_saved_is_told_and_ends_nothing(
    make_workspace, make_app, drive, settled, screen_text, monkeypatch, keys
):
    app = make_app(make_workspace(lines(), settings=SETTINGS))

    def refuse(*_, **__):
        raise CurateError("E906 write-failed", "no space left on device", "Make room.")

    async def story(pilot):
        await browse(pilot, settled)
        monkeypatch.setattr(app.project, "apply", refuse)
        await pilot.press(*keys)
        await settled(pilot)
        if keys[0] == "t":
            await pilot.press("enter")
            await settled(pilot)
        assert "! error E906 write-failed: no space left on device\n Make room." in screen_text(app)
        await pilot.press("j")
        assert app.present().table.cursor == 1

    drive(app, story)


@pytest.mark.ci
def test_a_view_keeps_the_columns_in_their_order_and_the_comments_of_others(
    make_workspace, make_app, drive, settled, screen_text
):
    data = make_workspace(lines(), settings=KEYS)
    app = make_app(data)

    async def story(pilot):
        await browse(pilot, settled, "V", *"geos", "enter")
        await settled(pilot)
        assert "saved view geos" in screen_text(app)
        app.following.check_for_changes()
        await settled(pilot)
        assert "taken over" not in screen_text(app)
        await pilot.press("c", *"answers", "enter")
        await settled(pilot)
        await pilot.press("V", *"geos", "enter")
        await settled(pilot)
        heads = [column.title for column in app.present().table.columns]
        assert heads == ["id", "category", "status", "prompt", "~tok"]

    drive(app, story)
    assert reopened(data).settings.views["geos"].columns == ["id", "category", "status", "prompt", "tokens"]
    text = (data.root / "curate.toml").read_text(encoding="utf-8")
    assert '"tokens"]\n\n# Keys of the terminal UI.\n[keys]\n' in text


@pytest.mark.ci
@pytest.mark.parametrize("keys", ["vjja", "a", "jjvkka"])
def test_the_cursor_stands_on_the_row_after_those_that_were_acted_on(make_workspace, make_app, drive, settled, keys):
    app = make_app(make_workspace(settings=APPROVAL))

    async def story(pilot):
        app.go("queue", of="approval")
        await settled(pilot)
        table = app.present().query_one("#entries", FrameTable)
        names = [entry[-1] for entry in table.source[:]]
        await pilot.press(*keys)
        await settled(pilot)
        num = 3 if "v" in keys else 1
        assert len(table.source) == len(names) - num
        assert table.current == names[num]

    drive(app, story)


@pytest.mark.ci
def test_an_empty_table_says_why(make_workspace, make_app, drive, settled, screen_text):
    app = make_app(make_workspace(lines(), settings=SETTINGS))

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "nowhere")
        assert "No record fits the filter; esc takes it away." in screen_text(app)
        await type_filter(pilot, settled, "label.quality2:good")
        assert "No record fits. Questions are " in screen_text(app)
        for of, what in (("drafts", "no draft"), ("aside", "no row")):
            app.go("queue", of=of)
            await settled(pilot)
            assert f"\n   {what}" in screen_text(app)

    drive(app, story)


@pytest.mark.ci
def test_the_view_in_the_title_of_a_record_takes_a_click(make_workspace, make_app, drive, settled, screen_text):
    app = make_app(make_workspace(lines(), settings=SETTINGS))

    async def story(pilot):
        await browse(pilot, settled)
        assert "[pretty] raw" in screen_text(app)
        detail = app.present().query_one("#detail")
        x = str(detail.content).splitlines()[0].index("raw")
        await pilot.click("#detail", offset=(x, 0))
        await settled(pilot)
        assert "[raw]" in screen_text(app)
        assert shown(app)

    drive(app, story, (140, 45))


@pytest.mark.ci
def test_a_code_in_the_palette_is_explained(make_workspace, make_app, drive, settled, screen_text):
    app = make_app(make_workspace(lines(), settings=SETTINGS))

    async def story(pilot):
        await settled(pilot)
        await pilot.press("colon", *"q201")
        await settled(pilot)
        assert "Explain Q201" in screen_text(app)
        await pilot.press("enter")
        await settled(pilot)
        assert "$ curate rule Q201" in screen_text(app)

    drive(app, story)


@pytest.mark.ci
def test_settings_that_were_mended_or_are_gone_are_told(make_workspace, make_app, drive, settled, screen_text):
    data = make_workspace(lines(), settings=SETTINGS)
    app, path = make_app(data), data.root / "curate.toml"

    async def look(pilot, text):
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(len(text), len(text)))
        app.following.check_for_changes()
        await settled(pilot)

    async def story(pilot):
        await settled(pilot)
        await look(pilot, SETTINGS + "[")
        assert "is not taken over" in screen_text(app)
        await look(pilot, SETTINGS)
        assert "curate.toml can be read again" in screen_text(app)
        path.unlink()
        app.following.check_for_changes()
        await settled(pilot)
        assert "curate.toml is gone; what it said before holds.\n Put it back" in screen_text(app)
        path.write_text(SETTINGS, encoding="utf-8")

    drive(app, story)


@pytest.mark.ci
def test_a_path_is_meant_from_where_curate_was_started(
    make_workspace, make_app, drive, settled, screen_text, tmp_path, monkeypatch
):
    started = tmp_path / "started"
    started.mkdir()
    write_atomic(started / "more.csv", [b"question,answer\nWhat?,That.\n"])
    data = make_workspace(lines(), settings=SETTINGS)
    app = make_app(data)
    monkeypatch.chdir(started)

    async def story(pilot):
        await settled(pilot)
        app.get_started("import")
        await settled(pilot)
        assert "more.csv" in screen_text(app)
        assert "curate.toml" not in screen_text(app)
        await pilot.press(*"more.csv", "enter")
        await settled(pilot)
        assert "Import more.csv into" in screen_text(app)
        await pilot.press("escape")

    drive(app, story)


@pytest.mark.ci
def test_a_redo_is_called_so(make_workspace, make_app, drive, settled, screen_text):
    data = make_workspace(lines(), settings=SETTINGS)
    app = make_app(data)

    async def story(pilot):
        await browse(pilot, settled, "d", "u", "U")
        await settled(pilot)
        await pilot.press("at")
        await settled(pilot)
        assert [word for word in screen_text(app).split() if word in ("undo", "redo")] == ["redo", "undo"]

    drive(app, story)
    from curate.base.events import redo_names

    project = open_project(data.root)
    assert len(redo_names(project.history("ex-000"))) == 1


def test_a_refused_export_is_told_without_its_code(make_workspace, monkeypatch):
    data = make_workspace(lines(), settings=SETTINGS)
    talk = ("error[E907 dirty-data]: 2 errors block the export: S101 x2", "  help: See them all.")
    monkeypatch.setattr(Errand, "run", lambda *_: CommandResult(1, "", talk))
    monkeypatch.setattr("curate.sessions.runs.require_trainer", lambda *_: None)
    with pytest.raises(CurateError) as caught:
        plan(Errand(), data)
    assert (caught.value.number, caught.value.message) == ("E907", "2 errors block the export: S101 x2")


def test_a_list_shows_the_status_and_what_a_run_learnt(make_workspace, capsys):
    from curate.cli import cli

    data = make_workspace([*lines()[:2], {"id": "bad", "instruction": "What?", "output": ""}], settings=SETTINGS)
    cli.main(["list", str(data.root), "--columns", "id,status,confidence"], standalone_mode=False)
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[-1] == ["bad", "error", "-"]
    assert {row[1] for row in rows[:-1]} <= {"ok", "warning"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("/a/q", "'q' is no flag", 'write it in quotes: "/a/q".'),
        ("split:none", "there is no split 'none'", 'split:"" finds records without one.'),
        ("source:!", "a value is missing", "Write a value after !, or take ! away."),
        ("id:r*|", "a value is missing", "Write a value after |, or take | away."),
        ("tokens:30..5", "no number is from 30 to 5", "The lower one comes first: 5..30."),
    ],
)
def test_a_remedy_of_a_filter_is_about_the_fault(text, message, hint):
    from curate.project.filters import parse_filter

    with pytest.raises(CurateError) as caught:
        parse_filter(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_place_without_a_column_has_none(make_workspace):
    data = make_workspace(settings=APPROVAL)
    with pytest.raises(CurateError) as caught:
        open_project(data.root).export()
    assert "L406" in caught.value.message
    assert ":0:" not in caught.value.message


def test_a_document_is_not_offered_as_a_table(tmp_path):
    import zipfile

    from curate.tui.ways_in import offers

    with zipfile.ZipFile(tmp_path / "plan.docx", "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    found = offers(tmp_path)
    assert not [offer for offer in found.ways if offer.kind == "make"]
    assert "Cannot be imported: plan.docx." in found.remarks[0]
