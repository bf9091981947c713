"""The Dedupe screen: what keys stage, that W writes it as one act, and that nothing is lost in between."""

from __future__ import annotations

import json
import re

import pytest

from curate.base.events import Drop
from curate.project.data import load_data
from curate.project.journal import read_journal
from tests.curate.deciding import decide
from tests.curate.tui.waiting import until


def line(name, prompt, answer, **more):
    return {"id": name, "instruction": prompt, "output": answer, **more}


QUESTION = "How do I return shoes that do not fit me, and which I have bought {} in your shop in the old town?"
ANSWER = (
    "You can return them within 30 days, as long as they were not worn outside. "
    "Print the label from {} and drop the parcel at any point."
)
LINES = [
    line("ex-871", QUESTION.format("last week"), ANSWER.format("your orders"), category="returns", split="test",
         meta={"lang": "en"}),
    line("ex-7714", QUESTION.format("last week"), ANSWER.format("the account"), category="returns", split="train",
         meta={"lang": "en", "source": "mail"}),
    line("a1", "Where is the invoice of my order number seven from the third of May?", "Under orders, then invoices."),
    line("a2", "Where is the invoice of my order number seven from the third of May?", "Under orders, then invoices."),
    line("b1", "Can I change the address of a parcel that was sent out this morning?", "No, not any more, sorry."),
    line("b2", "Can I change the address of a parcel that was sent out this morning?", "No, not any more, sorry."),
    line("b3", "Can I change the address of a parcel that was sent out this morning?", "Yes: write to the carrier."),
    line("alone", "Do you sell gift cards for the shop in Bern as well?", "We do, at the till."),
]  # fmt: skip


@pytest.fixture
def workspace(make_workspace):
    return make_workspace(LINES)


def dropped(workspace):
    return load_data(workspace.root).dropped()


async def arrive(pilot, settled):
    await pilot.press("g", "d")
    await settled(pilot)


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 45), (200, 50)])
def test_looks(workspace, make_app, drive, settled, snapshot, size):
    async def story(pilot):
        await arrive(pilot, settled)
        snapshot(pilot.app, "dedupe")
        await pilot.press("a")
        await settled(pilot)
        await pilot.press("n", "tab")
        await settled(pilot)
        snapshot(pilot.app, "dedupe-family")

    drive(make_app(workspace), story, size=size)


def test_keep_and_write(workspace, make_app, drive, settled, screen_text):
    async def story(pilot):
        await arrive(pilot, settled)
        assert "! LEAK cross-split" in screen_text(pilot.app)
        await pilot.press("b")
        await settled(pilot)
        assert not (workspace.root / "journal").exists()
        assert "staged: 1 keep; 1 record will be dropped; 1 leak fixed" in screen_text(pilot.app)
        await pilot.press("W")
        await settled(pilot)
        assert list(dropped(workspace)) == ["ex-871"]
        assert dropped(workspace)["ex-871"].startswith("D302: nearly repeats ex-7714 (0.")
        assert "LEAK" not in screen_text(pilot.app)

    drive(make_app(workspace), story)


def test_all_choices_are_one_act_that_one_undo_takes_back(workspace, make_app, drive, settled, screen_text):
    async def story(pilot):
        await arrive(pilot, settled)
        await pilot.press("m")
        await settled(pilot)
        await pilot.press("l")
        await settled(pilot)
        await pilot.press("d")
        await settled(pilot)
        await pilot.press("W")
        await settled(pilot)
        after = load_data(workspace.root)
        kept = {record.id: record for record in after.records()}["ex-871"]
        assert kept.meta == {"lang": "en", "source": "mail"}
        assert len(after.dropped()) == 2
        assert len(after.wanted()) in (2, 3)
        assert len({event.act for event in read_journal(workspace.root)[0]}) == 1
        await pilot.press("u")
        await settled(pilot)
        again = load_data(workspace.root)
        assert (again.dropped(), again.wanted()) == ({}, set())
        assert {record.id: record for record in again.records()}["ex-871"].meta == {"lang": "en"}
        assert "/3  " in screen_text(pilot.app)

    drive(make_app(workspace), story)


def test_ten_clusters_take_eleven_keys(make_workspace, make_app, drive, settled, screen_text):
    texts = [" ".join(f"word{number}of{index}" for index in range(12)) for number in range(10)]
    twins = [line(f"{side}{number}", text, text) for number, text in enumerate(texts) for side in "ab"]
    workspace = make_workspace(twins)

    async def story(pilot):
        await arrive(pilot, settled)
        assert "/10  " in screen_text(pilot.app)
        for key in [*["a"] * 10, "W"]:
            await pilot.press(key)
            await settled(pilot)
        assert "10 records dropped. u undoes all 10." in screen_text(pilot.app)

    drive(make_app(workspace), story)
    assert sorted(dropped(workspace)) == [f"b{number}" for number in range(10)]
    assert len({event.act for event in read_journal(workspace.root)[0]}) == 1


def test_what_is_kept_during_a_write_stays_staged(workspace, make_app, drive, settled, screen_text, monkeypatch):
    import threading

    async def story(pilot):
        await arrive(pilot, settled)
        project, may_write = pilot.app.project, threading.Event()
        apply = project.apply

        def slow(decisions):
            may_write.wait(30)
            return apply(decisions)

        monkeypatch.setattr(project, "apply", slow)
        await pilot.press("b", "W")
        await pilot.pause()
        await pilot.press("a")
        await pilot.press("u")
        assert "still being written" in screen_text(pilot.app)
        await pilot.press("W")
        may_write.set()
        await settled(pilot)
        assert list(dropped(workspace)) == ["ex-871"]
        assert "staged: 1 keep;" in screen_text(pilot.app)
        assert len({event.act for event in read_journal(workspace.root)[0]}) == 1

    drive(make_app(workspace), story)


def test_all_like_this(make_workspace, make_app, drive, settled, screen_text):
    lines = [
        line(
            f"{letter}{number}",
            f"Is item{number} of list{number * 7} still on sale in shop{number * 3}?",
            f"Yes{number}",
        )
        for number in range(12)
        for letter in "pq"
    ]
    workspace = make_workspace(lines)

    async def story(pilot):
        await arrive(pilot, settled)
        await pilot.press("a")
        await settled(pilot)
        await pilot.press("x")
        await settled(pilot)
        assert "staged for 11 more clusters (exact 1.0, 2 no split): keep" in screen_text(pilot.app)
        await pilot.press("u")
        await settled(pilot)
        assert "staged: 1 keep" in screen_text(pilot.app)
        await pilot.press("x", "W")
        await settled(pilot)
        assert sorted(dropped(workspace)) == sorted(f"q{number}" for number in range(12))
        assert "Nothing to decide: 12 records compared." in screen_text(pilot.app)

    drive(make_app(workspace), story)


def test_staged_choices_are_there_after_a_restart(workspace, make_app, drive, settled, screen_text):
    async def first(pilot):
        await arrive(pilot, settled)
        await pilot.press("a")
        await settled(pilot)
        await pilot.press("l")
        await settled(pilot)
        await pilot.press("u")
        await settled(pilot)

    async def second(pilot):
        await arrive(pilot, settled)
        assert "staged: 1 keep;" in screen_text(pilot.app)
        await pilot.press("W")
        await settled(pilot)

    drive(make_app(workspace), first)
    assert not (workspace.root / "journal").exists()
    drive(make_app(workspace), second)
    assert list(dropped(workspace)) == ["ex-7714"]


def test_another_persons_choices_are_their_own(workspace, make_app, drive, settled, screen_text):
    async def ana(pilot):
        await arrive(pilot, settled)
        await pilot.press("a")
        await settled(pilot)

    async def bo(pilot):
        await arrive(pilot, settled)
        assert "staged: nothing" in screen_text(pilot.app)

    drive(make_app(workspace, by="ana"), ana)
    drive(make_app(workspace, by="bo"), bo)


def test_what_others_decide_is_seen(workspace, make_app, drive, settled, screen_text):
    async def story(pilot):
        await arrive(pilot, settled)
        await pilot.press("a")
        await settled(pilot)
        decide(workspace, [Drop("ex-871", reason="bad")], by="bo")
        pilot.app.following.check_for_changes()
        await settled(pilot)
        assert "1 staged choice no longer fits" in screen_text(pilot.app)
        await pilot.press("W")
        await settled(pilot)
        assert dropped(workspace) == {"ex-871": "bad"}

    drive(make_app(workspace), story)


def test_another_screen_sends_a_pair(workspace, make_app, drive, settled, screen_text):
    async def story(pilot):
        pilot.app.go("dedupe", record="b3", other="b2")
        await settled(pilot)
        assert "pair" in screen_text(pilot.app)
        assert "b3" in screen_text(pilot.app)
        pilot.app.go("dedupe", record="alone")
        await settled(pilot)
        assert "alone repeats nothing" in screen_text(pilot.app)
        pilot.app.go("dedupe", record="alone", other="a1", splits=("train", "test"))
        await settled(pilot)
        assert "leak pair: alone (train) gives away a1 (test)" in screen_text(pilot.app)
        await pilot.press("a")
        await settled(pilot)
        assert "no cluster" in screen_text(pilot.app)
        await pilot.press("escape")
        await settled(pilot)
        assert "cluster " in screen_text(pilot.app)
        assert pilot.app.current_mode == "dedupe"

    drive(make_app(workspace), story)


def test_y_gives_the_command_that_decides_the_same(workspace, make_app, drive, settled, make_workspace):
    from click.testing import CliRunner

    from curate.cli import cli

    async def story(pilot):
        await arrive(pilot, settled)
        screen = pilot.app.present()
        assert screen.equal_command() == f"curate dedupe {workspace.root} --explain"
        await pilot.press("b")
        await settled(pilot)
        await pilot.press("p")
        await settled(pilot)
        other = make_workspace(LINES, name="other")
        command = screen.equal_command().replace(str(workspace.root), str(other.root)).split()
        assert CliRunner().invoke(cli, command[1:]).exit_code == 0
        await pilot.press("W")
        await settled(pilot)
        assert dropped(other) == dropped(workspace) != {}

    drive(make_app(workspace), story)


def test_filter_shows_one_kind(workspace, make_app, drive, settled, screen_text):
    async def story(pilot):
        await arrive(pilot, settled)
        told = []
        for _ in range(6):
            await pilot.press("f")
            await settled(pilot)
            told.append(next(one.strip() for one in screen_text(pilot.app).splitlines() if "clusters: " in one))
        assert told == [
            "clusters: leaks, 1 of 3", "clusters: exact, 2 of 3", "clusters: near, 1 of 3",
            "clusters: conflicts, 0 of 3", "clusters: alike, 0 of 3", "clusters: all, 3 of 3",
        ]  # fmt: skip

    drive(make_app(workspace), story)


def test_nothing_that_repeats(make_workspace, make_app, drive, settled, screen_text):
    async def story(pilot):
        await arrive(pilot, settled)
        assert "Nothing to decide: 60 records compared." in screen_text(pilot.app)
        await pilot.press("a", "b", "m", "d", "l", "x", "n", "p", "tab", "W", "u", "f", "j", "y", "Y")
        await settled(pilot)
        assert not (workspace.root / "journal").exists()

    workspace = make_workspace()
    drive(make_app(workspace), story)


def test_hostile_texts_are_shown_harmless(make_workspace, make_app, drive, settled, screen_text):
    bad = "\x1b[31mred\u202e \x00[/foo] [bold]x\u200b\U000e0041 " + "words that are the same in both of them " * 3
    lines = [
        line(f"i\u202e{number}", bad, f"answer \x9b2J {number}", category="[/c]", labels={"[/q]": "\x07"})
        for number in range(2)
    ]
    workspace = make_workspace(lines)

    async def story(pilot):
        await arrive(pilot, settled)
        seen = screen_text(pilot.app)
        assert "[/foo]" in seen
        assert "[bold]x" in seen
        assert not {"\x1b", "\u202e", "\x00", "\x9b", "\u200b", "\U000e0041", "\x07"} & set(seen)
        await pilot.press("a", "Y", "y")
        await settled(pilot)

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_esc_stops_comparing(workspace, make_app, drive, settled, screen_text, monkeypatch):
    import threading

    from curate.tui.screens import dedupe

    started, real = threading.Event(), dedupe.find_clusters

    def slow(workspace, watch):
        started.set()
        for _ in range(500):
            watch("comparing prompts", 1, 4)
            threading.Event().wait(0.02)
        return real(workspace, watch)

    monkeypatch.setattr(dedupe, "find_clusters", slow)

    async def story(pilot):
        await pilot.press("g", "d")
        while not started.is_set():
            await pilot.pause(0.02)
        await pilot.pause(0.3)
        assert "comparing prompts 25%  (esc stops)" in screen_text(pilot.app)
        await pilot.press("escape")
        await settled(pilot)
        assert "Stopped; r compares anew." in screen_text(pilot.app)
        assert pilot.app.current_mode == "dedupe"
        monkeypatch.setattr(dedupe, "find_clusters", real)
        await pilot.press("r")
        await settled(pilot)
        assert "cluster 1/3" in screen_text(pilot.app)

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_long_texts_are_cut_and_told(make_workspace, make_app, drive, settled, screen_text):
    import random

    rng = random.Random(1)
    text = " ".join(f"w{rng.randrange(9999)}" for _ in range(20_000))
    lines = [line("one", "What does it say?", text), line("two", "What does it say?", text.replace("w17 ", "changed "))]
    workspace = make_workspace(lines)

    async def story(pilot):
        await arrive(pilot, settled)
        seen = screen_text(pilot.app)
        assert "characters not shown>" in seen
        assert "[changed]" in seen

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_y_copies_the_record_as_json(workspace, make_app, drive, settled):
    async def story(pilot):
        await arrive(pilot, settled)
        assert json.loads(pilot.app.present().record_json())["id"] == "ex-871"

    drive(make_app(workspace), story)


@pytest.mark.ci
def test_ascii_draws_nothing_else(workspace, make_app, drive, settled, screen_text):
    async def story(pilot):
        await arrive(pilot, settled)
        await pilot.press("a", "n", "tab")
        await settled(pilot)
        assert screen_text(pilot.app).isascii(), screen_text(pilot.app)

    drive(make_app(workspace, is_ascii=True), story)


@pytest.mark.ci
def test_from_narrow_to_wide(workspace, make_app, drive, settled, screen_text):
    async def story(pilot):
        await arrive(pilot, settled)
        assert "B  the same" in screen_text(pilot.app)
        await pilot.resize_terminal(120, 40)
        await settled(pilot)
        assert "B  the same" not in screen_text(pilot.app)
        assert "USER  same" in screen_text(pilot.app)

    drive(make_app(workspace), story, size=(80, 24))


@pytest.mark.ci
@pytest.mark.parametrize("size", [(80, 24), (101, 30), (140, 45)])
def test_the_first_changed_word_is_in_sight_and_both_sides_are_as_wide(
    make_workspace, make_app, drive, settled, screen_text, size
):
    long = " ".join(f"word{number}" for number in range(400))
    lines = [line(f"r{number}", "Ask the same?", f"{long} end{number}") for number in range(2)]
    app = make_app(make_workspace(lines))

    async def story(pilot):
        await arrive(pilot, settled)
        # The pane scrolls once its text is laid out.
        await until(pilot, lambda: "[end0]" in screen_text(pilot.app))
        seen = screen_text(pilot.app)
        if size[0] >= 90:
            assert "[end1]" in seen
            rows = [re.findall(r"word\d+", row) for row in seen.splitlines()]
            assert all(words[: len(words) // 2] == words[len(words) // 2 :] for words in rows)

    drive(app, story, size)
