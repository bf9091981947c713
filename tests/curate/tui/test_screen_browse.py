"""Browse: what is found and shown, and what its keys leave in the workspace."""

from __future__ import annotations

import json
from typing import Any

import pytest

from curate.journal import Decision
from curate.record import Finding
from curate.tui.frame_table import FrameTable
from curate.tui.screens.browse import BrowseScreen
from curate.tui.screens.browse.detail import MOST_TEXT, Subject, seen_labels, told
from curate.tui.screens.browse.rows import SETS
from curate.workshop import open_workshop
from curate.workspace import Workspace, open_workspace

SETTINGS = """[split]
seed = 1
[checks]
min_category = 0
[[label.questions]]
name = "quality"
ask = "How good is the answer?"
values = ["good", "bad"]
guide = { good = "as it should be" }
[[label.questions]]
name = "why"
"""


def lines() -> list[dict[str, Any]]:
    """Return records as a support desk would have them."""
    asked = [
        "I was charged twice for order A-17.", "Refund not received after 14 days, can you check?",
        "Where do I see my invoice?", "The parcel arrived broken.", "Refund for a cancelled order, please.",
        "Can I pay by bank transfer?", "Change the card on file.",
    ]  # fmt: skip
    return [
        {
            "id": f"ex-{number:03}",
            "instruction": asked[number % len(asked)] + (f" Ticket {number}." if number >= len(asked) else ""),
            "output": f"Thank you, we look into ticket {number} and write to you today.",
            "category": "returns" if number % 3 == 0 else "billing",
            "meta": {"source": "zendesk", "lang": "en"},
        }
        for number in range(40)
    ]


@pytest.fixture
def workspace(make_workspace) -> Workspace:
    """A support desk with questions to answer."""
    return make_workspace(lines(), settings=SETTINGS)


def shown(app: Any) -> list[str]:
    """Return the ids in the table."""
    table = app.screen.query_one("#rows", FrameTable)
    return [row[0] for row in table.source.rows(0, table.source.num_rows)]


async def browse(pilot: Any, settled: Any, *keys: str) -> None:
    await pilot.press("g", "b", *keys)
    await settled(pilot)


async def type_filter(pilot: Any, settled: Any, text: str) -> None:
    await pilot.press("slash")
    field = pilot.app.screen.query_one("#filter")
    field.value = text
    await pilot.pause(0.3)
    await settled(pilot)
    await pilot.press("enter")


def reopened(workspace: Workspace) -> Workspace:
    return open_workspace(workspace.root)


# What is seen.


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (200, 50)])
def test_it_looks_as_drawn(workspace, make_app, drive, settled, snapshot, size):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, 'category:billing "Refund"')
        await pilot.press("space")
        await pilot.pause(0.3)
        await settled(pilot)
        if size != (200, 50):
            snapshot(app, "browse")
        await pilot.press("enter")
        await pilot.pause(0.3)
        await settled(pilot)
        if size == (80, 24):
            snapshot(app, "browse-detail")
        assert "Refund for a cancelled order" in screen(app)

    def screen(app):
        return "\n".join(strip.text for strip in app.screen._compositor.render_strips())

    drive(app, story, size=size)


def test_a_filter_shows_some_and_the_command_lists_the_same(workspace, make_app, drive, settled, call_list):
    app = make_app(workspace)
    seen: list[Any] = []

    async def story(pilot):
        await browse(pilot, settled)
        assert len(shown(app)) == 40
        await type_filter(pilot, settled, "category:returns ticket -id:ex-00*")
        seen.append((shown(app), app.screen.equal_command()))
        await pilot.press("y")
        assert app.clipboard == app.screen.equal_command()
        await pilot.press("escape")
        await pilot.pause(0.3)
        await settled(pilot)
        assert len(shown(app)) == 40
        assert "--where" not in app.screen.equal_command()

    drive(app, story)
    ((ids, command),) = seen
    assert len(ids) == 10
    assert call_list(command) == ids


@pytest.fixture
def call_list():
    """Return a function that runs a copied `curate list` command and returns the ids that it lists."""
    from shlex import split

    from click.testing import CliRunner

    from curate.cli import cli

    def run(command: str) -> list[str]:
        words = split(command)
        assert words[:2] == ["curate", "list"]
        said = CliRunner().invoke(cli, [*words[1:], "--format", "jsonl"])
        return [json.loads(line)["id"] for line in said.stdout.splitlines()]

    return run


def test_a_fault_is_told_where_it_is_typed_and_leaves_the_table(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "category:billing")
        before = shown(app)
        await type_filter(pilot, settled, "category:billing /(/")
        assert shown(app) == before
        assert "column 18: the regular expression is refused: unclosed group" in screen_text(app)
        await type_filter(pilot, settled, "category:billing /x/")
        assert "column 18" not in screen_text(app)
        assert shown(app) == []
        assert "no record" in screen_text(app)

    drive(app, story)


def test_keys_right_after_the_filter_are_for_the_table(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await pilot.press("slash", *"broken", "enter", "d", "s")
        await settled(pilot)
        assert app.screen.query_one("#filter").value == "broken"
        assert shown(app) == ["ex-003", "ex-010", "ex-017", "ex-024", "ex-031", "ex-038"]

    drive(app, story)
    assert len(reopened(workspace).dropped()) == 1


def test_rows_are_sorted_and_columns_changed(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "s", "S")
        await settled(pilot)
        assert shown(app) == [f"ex-{number:03}" for number in reversed(range(40))]
        assert "sort: id v" in screen_text(app)
        for names in (*SETS[1:], SETS[0]):
            await pilot.press("c")
            await settled(pilot)
            app.screen.query_one("#rows", FrameTable).row(0)
            assert all(word in screen_text(app) for word in names if word in ("source", "split", "kind", "completion"))

    drive(app, story)


def test_other_screens_send_it_somewhere(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        app.go("browse", category="returns")
        await settled(pilot)
        assert len(shown(app)) == 14
        app.go("browse", where='prompt:"broken"', record="ex-010")
        await settled(pilot)
        assert app.screen.query_one("#rows", FrameTable).current == "ex-010"
        app.go("browse", record="ex-011")
        await settled(pilot)
        assert shown(app) == ["ex-011"]
        app.go("browse", is_filtering=True)
        await settled(pilot)
        assert app.focused.id == "filter"
        await pilot.press("escape")
        await pilot.pause(0.3)
        await settled(pilot)
        assert len(shown(app)) == 40

    drive(app, story)


def test_enter_opens_the_record_and_escape_leaves_it(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "j", "enter")
        await pilot.pause(0.3)
        assert app.focused.id == "side"
        assert "we look into ticket 1" in screen_text(app)
        await pilot.press("p")
        assert '"instruction": "Refund not' in screen_text(app)
        await pilot.press("p")
        assert "It says what its line says." in screen_text(app)
        await pilot.press("escape")
        assert app.focused.id == "rows"
        assert app.present().NAME == "browse"
        await pilot.press("Y")
        assert json.loads(app.clipboard)["id"] == "ex-001"

    drive(app, story, size=(80, 24))


# What is decided.


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


def test_edit_goes_to_the_record(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "j", "e")
        await settled(pilot)
        assert app.present().NAME == "edit"
        assert app.present().edit.name == "ex-001"
        await pilot.press("escape")
        await settled(pilot)
        assert app.present().NAME == "browse"

    drive(app, story)


def test_a_status_is_unknown_until_it_was_looked_for(make_workspace, make_app, drive, settled, screen_text):
    workspace = make_workspace([*lines(), {"id": "odd", "instruction": "Why?", "output": ""}], settings=SETTINGS)
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        catalog = app.workshop.catalog
        if not catalog.is_judged:
            assert app.screen.query_one("#rows", FrameTable).row(0)[2] == "?"
        await type_filter(pilot, settled, "status:error")
        await settled(pilot)
        assert catalog.is_judged
        assert shown(app) == ["odd"]
        await pilot.pause(0.3)
        assert "Q201" in screen_text(app)
        assert "! error" in screen_text(app)

    drive(app, story)


def test_what_a_later_validation_finds_is_shown(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        for severity, word in (("warning", "~ warn"), ("error", "! error")):
            app.workshop.catalog.judge({"ex-000": severity})
            await pilot.pause(1.2)
            await settled(pilot)
            assert app.screen.query_one("#rows", FrameTable).row(0)[2] == word
        await type_filter(pilot, settled, "status:error")
        assert shown(app) == ["ex-000"]
        app.workshop.catalog.judge({"ex-001": "error"})
        await pilot.pause(1.2)
        await settled(pilot)
        assert shown(app) == ["ex-001"]

    drive(app, story)


def test_what_others_decide_is_seen(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "status:dropped")
        assert shown(app) == []
        with open_workshop(workspace.root, "bo") as other:
            other.load()
            other.apply([Decision("drop", "ex-009", fields={"reason": "x"})])
        app.following.look()
        await settled(pilot)
        assert shown(app) == ["ex-009"]

    drive(app, story)


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
        app.workshop.reload()
        source = table.source
        await pilot.press("c")
        await pilot.resize_terminal(90, 28)
        take(late)
        app.workshop.catalog.judge({"ex-000": "error"})
        screen._see_statuses()
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
    workspace: Workspace, name: str, findings: list[Finding] | None = None, *, hidden: frozenset[str] = frozenset()
) -> Subject:
    with open_workshop(workspace.root, "ana") as workshop:
        workshop.load()
        row = workshop.catalog.find(name)
        assert row is not None
        line, history = workshop.catalog.read(name), [(event, bool(hidden)) for event in workshop.history(name)]
        return Subject(workshop.state(name), workshop.catalog.row(row), hidden, line, findings, history)


def test_others_answers_are_hidden_from_whoever_is_still_asked(workspace):
    label = Decision("label", "ex-000", fields={"question": "quality", "value": "good"})
    workspace.apply([label], by="bo")
    state = subject(workspace, "ex-000").state
    assert list(seen_labels(state, {"quality"})) == [("quality", [], 1)]
    assert list(seen_labels(state, ())) == [("quality", [("agreed", "good"), ("bo", "good")], 0)]
    text = told(subject(workspace, "ex-000", hidden=frozenset({"quality"})), "pretty").plain
    assert "1 answer by others, shown once you have answered" in text
    assert "good" not in text


def test_a_change_shows_the_words_that_went_and_came(workspace):
    changes = {"output": "Thank you, we look into ticket 0 and call you today.", "meta": None, "lang": "en"}
    workspace.apply([Decision("edit", "ex-000", fields={"changes": {"output": changes["output"]}})], by="ana")
    text = told(subject(workspace, "ex-000"), "diff").plain
    assert "output" in text
    assert "[-write to-] [+call+]" in text or "[-write to-][+call+]" in text
    workspace.apply([Decision("add", "new", fields={"record": lines()[0] | {"id": "new"}})], by="ana")
    assert "added by a decision" in told(subject(workspace, "new"), "diff").plain


def test_what_is_not_drawn_is_counted(make_workspace):
    long = "word " * 10_000
    workspace = make_workspace([{"id": "a", "instruction": "Say it.", "output": long}])
    text = told(subject(workspace, "a", findings=[]), "pretty").plain
    assert f"{len(long) - MOST_TEXT:,} more characters are not drawn" in text
    assert "PROBLEMS 0" in text


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
    text = told(subject(workspace, "ex-000", findings=[finding]), "pretty").plain
    assert "PROBLEMS 1" in text
    assert "~ warn Q204 /output is too long" in text
    assert "META source=zendesk" in text
    assert "LINE data/a.jsonl:1" in text
