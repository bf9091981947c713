"""Browse: what a filter asked for is marked and gone to; columns take the width; why a record is in its split."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len
from rich.text import Text
from textual.widgets import Static

from curate.base.events import Assign, Propose
from curate.project.filters import parse_filter
from curate.project.project import open_project
from curate.project.publish import export_dataset
from curate.sessions import token_preview
from curate.sessions.proposals import open_proposals, take
from curate.sessions.runs import CommandResult
from curate.tui.border import cut_around
from curate.tui.dialogs import Pages
from curate.tui.record_text import HIT
from tests.curate.tui.browsing import SETTINGS, browse, lines, shown, type_filter


def detail(app) -> Text:
    return app.present().query_one("#detail", Static).content


def hits(app) -> list[str]:
    text = detail(app)
    return [text.plain[span.start : span.end] for span in text.spans if span.style == HIT]


def cells(app, column):
    table = app.present().table
    index = [column.title for column in table.columns].index(column)
    return [row[index] for row in table.source[:]]


def test_spans_are_those_that_the_filter_means() -> None:
    def spans(where, text):
        return [text[start:end] for start, end in parse_filter(where).hits([text])[0]]

    assert spans("refund", "Refund, no refunds") == ["Refund", "refund"]
    assert spans('"refund"', "Refund, no refunds") == ["refund"]
    assert spans(r"/\bcat\b/", "concat cat") == ["cat"]
    assert parse_filter(r"/\bcat\b/").hits(["concat cat"]) == [[(7, 10)]]
    assert spans("-refund category:billing", "refund billing") == []
    assert spans("re|/fund+/", "refunding") == ["re", "fund"]
    assert spans("ab|bc", "abc") == ["abc"]
    assert spans(".", "a.b") == ["."]
    assert spans("x", "\ue000x\ue000x") == ["x", "x"]
    assert spans("/a*/", "baa") == ["aa"]
    assert parse_filter("a").hits([]) == []


@pytest.mark.ci
def test_hits_are_marked_and_gone_to_one_after_the_other(make_workspace, make_app, drive, settled):
    records = lines()
    records[3]["output"] = "First ticket.\n" + "\n".join(f"line {number}" for number in range(60)) + "\nA last TICKET."
    app = make_app(make_workspace(records, settings=SETTINGS))

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "ticket id:ex-00*")
        await settled(pilot)
        assert cells(app, "hit")[3].startswith("First [ticket].\nline 0\n")
        assert hits(app) == ["ticket"]
        await pilot.press("n")
        assert app.present().table.cursor == 0
        await pilot.press("n", "n", "n")
        await settled(pilot)
        assert app.present().table.current == "ex-003"
        assert hits(app) == ["ticket", "TICKET"]
        assert app.present().query_one("#side").scroll_y == 0
        await pilot.press("n")
        await settled(pilot)
        assert app.present().table.current == "ex-003"
        assert app.present().query_one("#side").scroll_y > 20
        await pilot.press("n", "N")
        await settled(pilot)
        # Back from the next record it is the last hit.
        assert app.present().table.current == "ex-003"
        assert app.present().query_one("#side").scroll_y > 20
        # Without a word there is nothing to go to, and no column of hits.
        await pilot.press("escape")
        await settled(pilot)
        assert "hit" not in [column.title for column in app.present().table.columns]
        await pilot.press("n")
        assert "No word is looked for" in app.message.plain

    drive(app, story)


@pytest.mark.ci
def test_on_a_narrow_terminal_the_record_of_the_hit_is_opened(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "invoice")
        await settled(pilot)
        await pilot.press("n")
        await settled(pilot)
        assert "Where do I see my invoice?" in screen_text(app)
        assert "ASSISTANT" in screen_text(app)

    drive(app, story, (60, 15))


@pytest.mark.ci
@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30), (140, 45)], ids=str)
def test_a_hit_far_in_a_text_is_in_the_middle_with_what_stands_around(
    make_workspace, make_app, drive, settled, screen_text, size
):
    texts = ["[word] " * 500 + "needle" + " word" * 500, "needle" + " word" * 500, "word " * 500 + "a needle in it"]
    records = [lines()[0] | {"id": f"far-{n}", "output": text} for n, text in enumerate(texts)]
    app = make_app(make_workspace(records, settings=SETTINGS))

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "needle")
        await settled(pilot)
        width = app.present().table.flexible_width
        middle, first, last = re.findall(r"^.*\[needle\].*$", screen_text(app), re.MULTILINE)[:3]
        before, after = middle.split("[needle]")
        num_before, num_after = len(before) - before.rindex("…"), after.index("…") + 1
        assert abs(num_before - num_after) <= 1
        assert num_before + len("[needle]") + num_after == width
        assert re.search(r" \[needle\] word[ word]*…", first)
        assert re.search(r"….* a \[needle\] in it", last)

    drive(app, story, size)


def test_a_snippet_is_cut_on_both_sides_and_never_in_its_hit():
    assert cut_around("abcdefghij", 4, 6, 20) == "abcdefghij"
    assert cut_around("abcdefghij", 4, 6, 6) == "…defg…"
    assert cut_around("abcdefghij", 0, 2, 6) == "abcde…"
    assert cut_around("abcdefghij", 8, 10, 6) == "…fghij"
    assert cut_around("abcdefghij", 1, 9, 6) == "bcdef…"
    assert cell_len(cut_around("日本語の文字です", 3, 4, 7)) == 7


@pytest.mark.ci
def test_a_click_on_a_head_sorts_and_a_second_one_turns_it_around(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        await pilot.click("#rows", offset=(11, 0))
        await settled(pilot)
        assert "sort: category ^" in screen_text(app)
        await pilot.click("#rows", offset=(11, 0))
        await settled(pilot)
        assert "sort: category v" in screen_text(app)
        assert cells(app, "category")[0] == "returns"

    drive(app, story)


@pytest.mark.ci
def test_the_prompt_gets_what_the_other_columns_leave(make_workspace, make_app, drive, settled, screen_text):
    records = lines()
    records[0]["id"] = "rec-" + "0" * 40 + "17"
    app = make_app(make_workspace(records, settings=SETTINGS))

    async def story(pilot):
        await browse(pilot, settled)
        assert app.present().table.flexible_width >= 45
        assert app.present().table.render_line(1).text.split()[1].endswith("017")
        await pilot.resize_terminal(200, 50)
        await settled(pilot)
        # What no prompt needs is the id's, which is whole then.
        assert app.present().table.flexible_width >= 60
        assert records[0]["id"] in screen_text(app)

    drive(app, story, (140, 45))


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30), (140, 45)], ids=str)
def test_ids_that_differ_in_their_ends_are_told_apart(make_workspace, make_app, drive, settled, screen_text, size):
    lines = [{"id": f"rec-{n:014}", "instruction": f"Say {n} now?", "output": f"It is {n}."} for n in range(1000, 1030)]
    app = make_app(make_workspace(lines))

    async def story(pilot):
        await browse(pilot, settled)
        shown = re.findall(r"^>? +(rec\S+) .* Say (\d+)", screen_text(app), re.M)
        assert len(shown) > 3
        assert len({name for name, _ in shown}) == len(shown)
        assert all("…" in name or name.startswith("rec-0") for name, _ in shown)

    drive(app, story, size=size)


@pytest.mark.ci
def test_records_are_counted_by_status_once_validated(workspace, make_app, drive, settled, screen_text):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        app.project.catalog.num_judgements = 0
        await pilot.press("F", *"status", "enter")
        await settled(pilot)
        assert "g v validates" in app.message.plain
        app.project.catalog.judge({"ex-000": "error"})
        await pilot.press("F", *"status", "enter")
        await settled(pilot)
        assert "97.5%" in screen_text(app)
        await pilot.press("down", "enter")
        await settled(pilot)
        assert app.present().query_one("#filter").value == "status:error"
        assert shown(app) == ["ex-000"]

    drive(app, story)


def test_a_record_that_a_model_wrote_is_trained_on_and_says_why(make_workspace, make_app, drive, settled):
    workspace = make_workspace(list(lines()), settings=SETTINGS)
    with open_project(workspace.root, "ana") as project:
        project.load()
        project.apply([Propose("ex-000", "model:base@0123456789ab", {}, {"output": "By the harbour, at nine."})])
        take(project, open_proposals(project))
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        assert "SPLIT train  a model wrote it, so it is trained on" in detail(app).plain

    drive(app, story)


@pytest.mark.ci
def test_why_a_record_is_in_its_split_and_since_when(make_workspace, make_app, drive, settled):
    records = [line | {"split": "test"} for line in lines()]
    workspace = make_workspace(records, settings=SETTINGS)
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        assert "SPLIT test  its line says so" in detail(app).plain
        app.project.apply([Assign("ex-000", "train")], app.following.listener)
        app.present().changed({"ex-000"})
        await settled(pilot)
        event = app.project.history("ex-000")[-1]
        since = event.at[:16].replace("T", " ")
        assert f"SPLIT train  since {since}, assigned by ana, moved from test" in detail(app).plain
        assert f"HISTORY 1 decision\n{event.at[:10]}" in detail(app).plain
        await pilot.press("u")
        await settled(pilot)
        assert "SPLIT test  its line says so" in detail(app).plain

    drive(app, story)
    export_dataset(workspace)
    with open_project(workspace.root, "ana") as project:
        project.load()
        assert project.catalog.pinned_split("ex-000") == "test"


@pytest.mark.ci
def test_tokens_are_those_that_the_trainer_shows(workspace, make_app, drive, settled, monkeypatch, screen_text):
    asked = []

    def run(_errand, command):
        asked.append(command)
        return CommandResult(0, "ex-000: 9 tokens, 3 trained\ntrained  assistant  |Oslo|\n", ())

    monkeypatch.setattr(token_preview.Errand, "run", run)
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled, "T")
        await settled(pilot)
        assert "there is no dataset yet" in app.message.plain
        export_dataset(workspace)
        await pilot.press("T")
        await settled(pilot)
        assert isinstance(app.screen, Pages)
        assert "trained  assistant  |Oslo|" in screen_text(app)

    drive(app, story)
    assert asked[0][-3:] == [str(workspace.root / "dataset/v1"), "--id", "ex-000"]


@pytest.mark.ci
def test_it_is_a_listing_for_edit(workspace, make_app, drive, settled):
    app = make_app(workspace)

    async def story(pilot):
        await browse(pilot, settled)
        screen = app.present()
        following = screen.neighbour({"record": "ex-000"}, 1)
        assert following == {"record": "ex-001"}
        assert screen.position({"record": "ex-001"}) == "row 2 of 40"
        assert screen.neighbour({"record": "ex-000"}, -1) is None
        assert screen.position({"record": "nobody"}) == ""

    drive(app, story)


@pytest.mark.ci
def test_the_record_stays_under_the_cursor_and_in_sight_when_the_filter_goes(make_workspace, make_app, drive, settled):
    records = [lines()[number % 40] | {"id": f"rec-{number:04}"} for number in range(900)]
    app = make_app(make_workspace(records, settings=SETTINGS))

    async def story(pilot):
        await browse(pilot, settled)
        await type_filter(pilot, settled, "id:rec-0419|rec-0007")
        await settled(pilot)
        await pilot.press("j")
        assert app.present().table.current == "rec-0419"
        await pilot.press("escape")
        await settled(pilot)
        table = app.present().table
        assert table.current == "rec-0419"
        assert table.scroll_offset.y <= table.cursor < table.scroll_offset.y + table.size.height

    drive(app, story)
