"""Browse while records change: what its keys decide, what others do meanwhile, and single records as text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from curate.base.events import Add, Drop, Edit, Label
from curate.base.record import Finding
from curate.project.data import ProjectData
from curate.project.project import open_project
from curate.tui.frame_table import FrameTable
from curate.tui.record_text import MOST_TEXT
from curate.tui.screens.browse import BrowseScreen
from curate.tui.screens.browse.rendering import Subject, render_subject, visible_labels
from tests.curate.deciding import decide
from tests.curate.tui.browsing import SETTINGS, browse, lines, reopened, shown, type_filter

# What is decided.


@pytest.mark.ci
def test_marked_records_are_dropped_as_one_act_and_restored(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "space", "v", "j", "space", "d")
        await settled(pilot)
        assert set(reopened(workspace).dropped()) == {"ex-000", "ex-001", "ex-002"}
        assert set(reopened(workspace).dropped().values()) == {"dropped in Browse"}
        assert app.screen.query_one("#rows", FrameTable).row(0)[2] == "x dropped"
        await pilot.press("u")
        await settled(pilot)
        assert reopened(workspace).dropped() == {}
        await pilot.press("U", "g", "g")
        await pilot.press("X")
        await settled(pilot)
        await pilot.press("d")

    drive(app, story)
    assert set(reopened(workspace).dropped()) == {"ex-000", "ex-001", "ex-002"}


@pytest.mark.ci
def test_a_record_that_an_undo_takes_away_is_not_asked_for_by_the_form_of_another(workspace, make_app, drive, settled):
    app = make_app(workspace)
    record = {"id": "new-1", "instruction": "Ask.", "output": "Tell.", "category": "returns"}

    async def story(pilot):
        app.project.apply([Add("new-1", record)])
        await browse(pilot, settled, "e")
        assert app.current_mode == "edit"
        await pilot.press("escape", "u")
        await settled(pilot)
        edit = app.present().edit
        edit.form.set("/output", "Something else.")
        await pilot.press("f7")
        await settled(pilot)
        assert app.present().edit.name == "ex-001"
        assert app.present()._listing.position({"record": "ex-001"}) == "row 2 of 40"

    drive(app, story)


@pytest.mark.ci
def test_a_record_that_the_filter_lets_through_no_longer_leaves_the_table(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "status:!dropped category:returns")
        first, second, *_ = shown(app)
        await pilot.press("d")
        await settled(pilot)
        assert shown(app)[0] == second
        assert app.screen.query_one("#rows", FrameTable).current == second
        await pilot.press("u")
        await settled(pilot)
        assert sorted(shown(app))[0] == first

    drive(app, story)
    assert reopened(workspace).dropped() == {}


@pytest.mark.ci
def test_a_reason_is_asked_for(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "D")
        app.screen.query_one("Input").value = "off topic"
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("j", "D", "escape")
        await settled(pilot)

    drive(app, story)
    assert reopened(workspace).dropped() == {"ex-000": "off topic"}


@pytest.mark.ci
def test_a_question_is_answered_for_several(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "space", "space", "t", "enter")
        await settled(pilot)
        assert "How good is the answer?  (2 records)" in screen_text(app)
        assert "as it should be" in screen_text(app)
        await pilot.press("b", "enter")
        await settled(pilot)
        await pilot.press("t", "down", "enter")
        await pilot.press(*"ask", "enter")
        await settled(pilot)

    drive(app, story)
    answers = {state.record.id: state.answers for state in reopened(workspace).states() if state.answers}
    assert answers == {
        "ex-000": {"quality": {"ana": "bad"}},
        "ex-001": {"quality": {"ana": "bad"}},
        "ex-002": {"why": {"ana": "ask"}},
    }


@pytest.mark.ci
def test_an_answer_is_taken_back_and_a_category_given(make_workspace, make_app, drive, settled):
    workspace = make_workspace(lines())
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "t", *"ret", "enter")
        await settled(pilot)
        await pilot.press("j", "t", *"other", "enter")
        await settled(pilot)
        await pilot.press("t", *"take", "enter")
        await settled(pilot)
        await pilot.press("j", "t", "escape", "j", "t", *"other", "enter")
        await settled(pilot)

    drive(app, story)
    states = {state.record.id: state for state in reopened(workspace).states()}
    assert states["ex-000"].answers == {"category": {"ana": "returns"}}
    assert states["ex-001"].record.category == "billing"
    assert states["ex-003"].record.category == "other"


@pytest.mark.ci
def test_categories_that_are_settled_are_the_only_ones(make_workspace, make_app, drive, settled):
    workspace = make_workspace(lines(), "[split]\nseed = 1\n[categories.billing]\n[categories.returns]\n")
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "t", *"other", "enter")
        await settled(pilot)
        await pilot.press("escape", "t", *"bil", "enter")
        await settled(pilot)

    drive(app, story)
    answers = {state.record.id: state.answers for state in reopened(workspace).states() if state.answers}
    assert answers == {"ex-000": {"category": {"ana": "billing"}}}


@pytest.mark.ci
def test_edit_goes_to_the_record(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "j", "e")
        await settled(pilot)
        assert app.present().NAME == "edit"
        assert app.present().edit.name == "ex-001"

    drive(app, story)


@pytest.mark.ci
def test_a_status_is_unknown_until_it_was_looked_for(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace([*lines(), {"id": "odd", "instruction": "Why?", "output": ""}], settings=SETTINGS)
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        catalog = app.project.catalog
        if not catalog.has_findings:
            assert app.screen.query_one("#rows", FrameTable).row(0)[2] == "?"
        await type_filter(pilot, settled, "status:error")
        await settled(pilot)
        assert catalog.has_findings
        assert shown(app) == ["odd"]
        await pilot.pause(0.3)
        assert "Q201" in screen_text(app)
        assert "! error" in screen_text(app)

    drive(app, story)


@pytest.mark.ci
def test_what_a_later_validation_finds_is_shown(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        for severity, word in (("warning", "~ warn"), ("error", "! error")):
            app.project.catalog.judge({"ex-000": severity})
            await pilot.pause(1.2)
            await settled(pilot)
            assert app.screen.query_one("#rows", FrameTable).row(0)[2] == word
        await type_filter(pilot, settled, "status:error")
        assert shown(app) == ["ex-000"]
        app.project.catalog.judge({"ex-001": "error"})
        await pilot.pause(1.2)
        await settled(pilot)
        assert shown(app) == ["ex-001"]

    drive(app, story)


@pytest.mark.ci
def test_what_others_decide_is_seen(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "status:dropped")
        assert shown(app) == []
        with open_project(workspace.root, "bo") as other:
            other.load()
            other.apply([Drop("ex-009", reason="x")])
        app.following.check_for_changes()
        await settled(pilot)
        assert shown(app) == ["ex-009"]

    drive(app, story)


@pytest.mark.ci
def test_a_file_that_changes_is_told_and_ends_nothing(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        path = workspace.root / "data" / "a.jsonl"
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        await pilot.press("j")
        await pilot.pause(0.3)
        assert "E974" in screen_text(app)
        assert len(shown(app)) == 40

    drive(app, story)


@pytest.mark.ci
def test_rows_of_records_that_were_read_anew_are_never_mixed(workspace, make_app, drive, settled, monkeypatch):
    app = make_app(workspace)
    timers: list[str] = []
    real = BrowseScreen.set_interval

    def spied(self, interval, callback, **more):
        timers.append(callback.__name__)
        return real(self, interval, callback, **more)

    monkeypatch.setattr(BrowseScreen, "set_interval", spied)

    async def story(pilot):
        await browse(pilot, settled)
        held: list[tuple[Any, Any]] = []
        monkeypatch.setattr(app, "background", lambda job, then, group: held.append((job, then)))
        screen, table = app.present(), app.screen.query_one("#rows", FrameTable)
        screen.reread()
        (asked, take) = held.pop()
        late = asked()
        path = workspace.root / "data" / "a.jsonl"
        path.write_text(json.dumps(lines()[0] | {"id": "first"}) + "\n" + path.read_text(encoding="utf-8"), "utf-8")
        app.project.reload()
        source = table.source
        await pilot.press("c", *"answers", "enter")
        await pilot.resize_terminal(90, 28)
        take(late)
        app.project.catalog.judge({"ex-000": "error"})
        # Once a second the screen looks at what a validation has found.
        await pilot.pause(1.2)
        assert table.source is source, "the numbers of the old rows were asked of the new catalogue"
        screen.ready()
        (asked, take) = held.pop()
        take(asked())
        assert shown(app)[:2] == ["first", "ex-000"]
        assert table.row(1)[1] == "! error"

    drive(app, story)
    assert timers.count("_see_statuses") == 1


# Single records as text.


def subject(
    workspace: ProjectData, name: str, findings: list[Finding] | None = None, *, hidden: frozenset[str] = frozenset()
) -> Subject:
    with open_project(workspace.root, "ana") as project:
        project.load()
        row = project.catalog.find(name)
        assert row is not None
        line, history = project.catalog.read(name), [(event, bool(hidden)) for event in project.history(name)]
        return Subject(project.state(name), project.catalog.row(row), hidden, line, findings, history)


def test_others_answers_are_hidden_from_whoever_is_still_asked(workspace):
    label = Label("ex-000", "quality", "good")
    decide(workspace, [label], by="bo")
    state = subject(workspace, "ex-000").state
    assert list(visible_labels(state, {"quality"})) == [("quality", [], 1)]
    assert list(visible_labels(state, ())) == [("quality", [("agreed", "good"), ("bo", "good")], 0)]
    text = render_subject(subject(workspace, "ex-000", hidden=frozenset({"quality"})), "pretty").plain
    assert "1 answer by others, shown once you have answered" in text
    assert "good" not in text


def test_a_change_shows_the_words_that_went_and_came(workspace):
    changes = {"output": "Thank you, we look into ticket 0 and call you today.", "meta": None, "lang": "en"}
    decide(workspace, [Edit("ex-000", {"output": changes["output"]})], by="ana")
    text = render_subject(subject(workspace, "ex-000"), "diff").plain
    assert "output" in text
    assert "[-write to-] [+call+]" in text or "[-write to-][+call+]" in text
    decide(workspace, [Add("new", lines()[0] | {"id": "new"})], by="ana")
    assert "added by a decision" in render_subject(subject(workspace, "new"), "diff").plain


def test_what_is_not_drawn_is_counted(make_workspace):
    long = "word " * 10_000
    workspace = make_workspace([{"id": "a", "instruction": "Say it.", "output": long}])
    text = render_subject(subject(workspace, "a", findings=[]), "pretty").plain
    assert f"{len(long) - MOST_TEXT:,} more characters are not drawn" in text
    assert "PROBLEMS 0" in text


@pytest.mark.ci
def test_nothing_of_a_record_steers_the_terminal(make_workspace, make_app, drive, settled, screen_text):
    hostile = "\x1b]0;x\x07[/foo] [@click=app.quit]y[/] \u202e\u200b"
    line = {"id": hostile, "instruction": hostile, "output": hostile, "category": hostile, "meta": {hostile: hostile}}
    workspace = make_workspace([line])
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await pilot.pause(0.3)
        for _ in range(3):
            assert not {"\x1b", "\x07", "\u202e", "\u200b"} & set(screen_text(app))
            assert "[/foo]" in screen_text(app)
            await pilot.press("p")
        await type_filter(pilot, settled, f'"{hostile}"')
        assert shown(app) == [hostile]

    drive(app, story)


def test_problems_of_a_record_are_listed(workspace):
    finding = Finding("Q204", "too-long", "warning", "is too long", "data/a.jsonl", 1, 5, "ex-000", "/output")
    text = render_subject(subject(workspace, "ex-000", findings=[finding]), "pretty").plain
    assert "PROBLEMS 1" in text
    assert "~ warn Q204 /output is too long" in text
    assert "META source=zendesk" in text
    assert "LINE data/a.jsonl:1" in text
