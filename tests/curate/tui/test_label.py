import json
from pathlib import Path

import pytest
from textual.widgets import Input

from curate.base.events import Edit, Label
from curate.project.data import load_data
from curate.project.project import open_project
from curate.sessions.labelling import LabelSession
from curate.tui.dialogs import Pages
from curate.tui.screens.label.paper import Paper
from tests.curate.deciding import decide
from tests.curate.tui.asking import FREE, MANY


def answers(workspace, question="topic", by="ana"):
    return {
        state.record.id: state.answers[question][by]
        for state in load_data(workspace.root).states()
        if by in state.answers.get(question, {})
    }


def answer_as(workspace, by, given, question="topic"):
    with open_project(workspace.root, by) as project:
        project.load()
        for name, value in given.items():
            project.apply([Label(name, question, value)])


def children():
    """Return the processes that this one has started and that still run."""
    tasks = Path("/proc/self/task")
    return {pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()}


def text_of(app, name):
    widget = app.present().query_one(f"#{name}")
    return (widget.text if isinstance(widget, Paper) else widget.content).plain


@pytest.mark.usefixtures("no_model")
def test_one_key_is_one_decision_and_the_screen_stays(label_story, settled):
    async def script(app, pilot):
        screen = app.screen
        await pilot.press("1", "2", "s", "3")
        assert app.screen is screen
        assert "r004" in text_of(app, "record")
        lines = text_of(app, "last").replace("last  ", "").splitlines()
        assert [line.split()[0] for line in lines] == ["shipping", "(skipped)", "returns", "billing"]
        assert "Hello, how to send it back" in lines[0]
        assert "done 3   skip 1   flag 0" in text_of(app, "side")
        assert "3 of 30  10%  27 left" in text_of(app, "head")
        assert app.message.plain == "r003 -> shipping  (u undo)"

    assert answers(label_story(script)) == {"r000": "billing", "r001": "returns", "r003": "shipping"}


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_a_key_of_no_value_is_answered(label_story, settled):
    async def script(app, pilot):
        await pilot.press("9")
        assert "has no value 9." in app.message.plain
        assert "r000" in text_of(app, "record")

    assert answers(label_story(script)) == {}


@pytest.mark.usefixtures("no_model")
def test_undo_from_both_keys_and_redo(label_story, settled):
    async def script(app, pilot):
        await pilot.press("1", "1", "1", "u")
        assert "r002" in text_of(app, "record")
        await pilot.press("backspace")
        assert "r001" in text_of(app, "record")
        assert "1 of 30  3%  29 left" in text_of(app, "head")
        await pilot.press("U")
        assert "r002" in text_of(app, "record")
        await pilot.press("4")

    assert answers(label_story(script)) == {"r000": "billing", "r001": "billing", "r002": "account"}


@pytest.mark.usefixtures("no_model")
def test_nothing_of_anothers_answer_is_on_the_screen_before_ones_own(label_story, label_workspace, screen_text):
    workspace = label_workspace()
    answer_as(workspace, "zoe", {"r000": "returns"})

    async def script(app, pilot):
        before = screen_text(app)
        assert "r000" in before
        assert "zoe" not in before
        assert "your answer" not in before
        await pilot.press("1", "p")
        after = text_of(app, "choices")
        assert "= your answer: billing   zoe: returns" in after
        assert "zoe" in text_of(app, "side")
        await pilot.press("u")
        assert "zoe" not in screen_text(app)

    label_story(script, workspace=workspace)


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_no_other_screen_tells_it_either(label_story, make_workspace, screen_text, settled):
    settings = "[split]\nseed = 1\n[label]\noverlap = 1.0\n[categories.alpha]\n[categories.zeta]\n"
    lines = [{"id": f"r{n:03}", "instruction": f"Hello {n}?", "output": f"Answer {n}."} for n in range(5)]
    workspace = make_workspace(lines, settings)
    answer_as(workspace, "bo", {"r000": "zeta"}, "category")

    async def script(app, pilot):
        for key in ("h", "b"):
            await pilot.press("g", key)
            await settled(pilot)
            # Home counts the records of each category, which tells of no record.
            rows = [line for line in screen_text(app).split("\n") if "r000" in line or "category" in line]
            assert rows
            assert not [line for line in rows if "zeta" in line]
        assert "(hidden)" in screen_text(app)
        await pilot.press("at")
        await settled(pilot)
        assert "category -> shown once you have answered" in screen_text(app)
        await pilot.press("escape", "g", "l")
        await settled(pilot)
        await pilot.press("1", "g", "b")
        await settled(pilot)
        assert "(hidden)" not in screen_text(app)
        assert "bo:zeta" in screen_text(app)

    label_story(script, workspace=workspace)


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_flag_note_quality_and_several_values(label_story, settled):
    async def script(app, pilot):
        await pilot.press("f", "c", *"see 1", "enter", "plus")
        await settled(pilot)
        assert "r000" in text_of(app, "record")
        assert text_of(app, "aside") == "quality + = - good   flagged   note see 1"
        await pilot.press("m", "3", "1", "4", "4", "enter")
        assert "r001" in text_of(app, "record")
        await pilot.press("2", "minus")

    workspace = label_story(script)
    assert answers(workspace) == {"r000": ["billing", "shipping"]}
    assert answers(workspace, "flag") == {"r000": True}
    assert answers(workspace, "note") == {"r000": "see 1"}
    assert answers(workspace, "quality") == {"r000": "good", "r001": "poor"}


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_letters_are_text_while_a_note_is_typed_and_esc_drops_it(label_story, settled):
    async def script(app, pilot):
        await pilot.press("c", *"123 sq")
        assert app.present().has_unsaved()
        await pilot.press("escape")
        assert not app.screen.query_one("#line", Input).display
        assert not app.present().has_unsaved()
        await pilot.press("1")

    workspace = label_story(script)
    assert (answers(workspace), answers(workspace, "note")) == ({"r000": "billing"}, {})


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_among_many_values_typing_finds_one(label_story, settled):
    async def script(app, pilot):
        assert "15 more values; / finds them" in text_of(app, "choices")
        await pilot.press("0", "slash", *"17", "enter")
        await settled(pilot)
        assert "r002" in text_of(app, "record")
        await pilot.press("slash", *"intent 2", "enter")
        await settled(pilot)
        await pilot.press("3")

    workspace = label_story(script, settings=MANY)
    assert answers(workspace, "intent") == {"r000": "intent 09", "r001": "intent 17", "r002": "intent 22"}


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_a_question_without_values_takes_what_is_typed(label_story, settled):
    async def script(app, pilot):
        assert "/ types the answer" in text_of(app, "choices")
        await pilot.press("1", "slash", *"so it is", "enter")
        await settled(pilot)

    assert answers(label_story(script, settings=FREE), "why") == {"r000": "so it is"}


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_order_question_and_range_change_what_is_asked(label_story, settled):
    async def script(app, pilot):
        await pilot.press("o")
        await settled(pilot)
        assert "random" in text_of(app, "head")
        await pilot.press("w")
        await settled(pilot)
        assert "asked: quality" in text_of(app, "head")
        assert app.present().equal_command().endswith("--plain --question quality --order random")
        await pilot.press("t")
        await settled(pilot)
        assert "all records" in text_of(app, "head")
        await pilot.press("3")

    assert list(answers(label_story(script), "quality").values()) == ["poor"]


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_the_review_settles_by_a_key_and_is_left_by_esc(label_story, label_workspace, settled, screen_text):
    workspace = label_workspace()
    answer_as(workspace, "bo", {"r003": "returns", "r005": "billing"})
    answer_as(workspace, "cem", {"r003": "billing", "r005": "account"})

    async def script(app, pilot):
        await pilot.press("v")
        assert "1 of 2 items to settle" in text_of(app, "head")
        assert "annotators disagree on topic (L402)" in text_of(app, "choices")
        assert "bo" in text_of(app, "choices")
        await pilot.press("n")
        assert "r005" in text_of(app, "record")
        await pilot.press("3")
        assert "1 of 1 item to settle   1 settled" in text_of(app, "head")
        assert "r005 -> shipping" in screen_text(app)
        await pilot.press("9")
        assert "There is no choice 9." in screen_text(app)
        await pilot.press("u")
        # What was taken back is to be settled otherwise.
        assert "2 of 2 items to settle" in text_of(app, "head")
        await pilot.press("p", "1")
        assert app.present().equal_command().startswith("curate review ")
        await pilot.press("escape")
        assert "asked: topic" in text_of(app, "head")
        assert app.current_mode == "label"

    workspace = label_story(script, workspace=workspace)
    resolved = {state.record.id: dict(state.resolved) for state in load_data(workspace.root).states()}
    assert resolved["r003"] == {"topic": "billing"}
    assert resolved["r005"] == {}


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_a_conflict_is_settled_in_the_review_as_home_opens_it(label_story, label_workspace, settled):
    workspace = label_workspace()
    with open_project(workspace.root, "bo") as one, open_project(workspace.root, "cem") as other:
        one.load()
        other.load()
        one.apply([Edit("r001", {"output": "left [/red]"})])
        other.apply([Edit("r001", {"output": "right"})])

    async def script(app, pilot):
        await pilot.press("g", "h")
        app.go("label", queue="review")
        await settled(pilot)
        assert "decided apart: data output (L403)" in text_of(app, "choices")
        place = "1" if "1 right" in text_of(app, "choices") else "2"
        await pilot.press(place)
        assert "nothing to settle" in text_of(app, "head")

    workspace = label_story(script, workspace=workspace)
    found = load_data(workspace.root)
    assert found.states()[1].record.completion == "right"
    assert not [finding for finding in found.findings() if finding.code == "L403"]


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_what_is_to_be_settled_is_there_to_be_read_whole(label_story, label_workspace, settled):
    workspace = label_workspace()
    ours, theirs = f"It takes {'three ' * 30}days.", f"It takes {'five ' * 30}weeks."
    with open_project(workspace.root, "bo") as one, open_project(workspace.root, "cem") as other:
        one.load()
        other.load()
        one.apply([Edit("r001", {"output": ours})])
        other.apply([Edit("r001", {"output": theirs})])

    async def script(app, pilot):
        await pilot.press("g", "h")
        app.go("label", queue="review")
        await settled(pilot)
        assert f" bo\n{ours}" in text_of(app, "record")
        assert f" cem\n{theirs}" in text_of(app, "record")
        room = app.screen.query_one("#choices").size.width
        sides = text_of(app, "choices").splitlines()[1:]
        assert {line.split()[-1] for line in sides} == {"bo", "cem"}
        assert max(map(len, sides)) <= room

    label_story(script, workspace=workspace)


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_others_work_is_seen_without_losing_the_record_at_hand(label_story, label_workspace, settled):
    workspace = label_workspace(("overlap = 1.0", "overlap = 0.0"))

    async def script(app, pilot):
        answer_as(workspace, "bo", {"r000": "billing", "r001": "billing"})
        app.following.check_for_changes()
        await settled(pilot)
        assert "r000" in text_of(app, "record")
        assert "2 of 30  7%  28 left" in text_of(app, "head")
        await pilot.press("2")
        assert "r002" in text_of(app, "record")

    label_story(script, workspace=workspace)


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_a_record_can_be_asked_for_and_edited(label_story, settled):
    async def script(app, pilot):
        await pilot.press("g", "h")
        app.go("label", record="r007")
        await settled(pilot)
        assert "r007" in text_of(app, "record")
        assert json.loads(app.present().record_json())["id"] == "r007"
        await pilot.press("2")
        assert "r008" in text_of(app, "record")
        await pilot.press("e")
        assert app.current_mode == "edit"

    assert answers(label_story(script)) == {"r007": "returns"}


@pytest.mark.ci
def test_without_the_extra_labelling_goes_on_and_says_what_is_lacking(label_story, no_model, settled):
    async def script(app, pilot):
        await settled(pilot)
        assert "E940 missing-extra" in text_of(app, "side")
        assert "pip install 'pairsmith[quality]'" in text_of(app, "side")
        await pilot.press("a")
        assert app.message.plain.endswith("Nothing is suggested here.")
        await pilot.press("1")

    assert answers(label_story(script)) == {"r000": "billing"}


@pytest.mark.ci
@pytest.mark.child
def test_a_suggestion_is_accepted_or_rejected(label_story, label_workspace, settled):
    pytest.importorskip("sklearn", reason="suggestions need the extra [quality]")
    workspace = label_workspace()
    answer_as(workspace, "ana", {f"r{n:03}": "returns" if n % 2 else "billing" for n in range(20)})
    before = children()

    async def script(app, pilot):
        assert "*1 billing" in text_of(app, "choices")
        assert "* = suggestion 0." in text_of(app, "choices")
        assert "learned from 20 labels; right out of sample 100%" in text_of(app, "side")
        await pilot.press("a", "x", "a")
        assert "suggestion" not in text_of(app, "choices")
        await pilot.press("s", "a")
        script.learners = children() - before
        assert script.learners

    label_story(script, workspace=workspace)
    assert answers(workspace)["r020"] == "billing"
    assert "r021" not in answers(workspace)
    assert answers(workspace)["r022"] == "billing"
    # The process that learned ended with the app.
    assert not script.learners & children()


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_the_guide_and_the_pane_beside(label_story, settled):
    async def script(app, pilot):
        await pilot.press("i")
        assert isinstance(app.screen, Pages)
        await pilot.press("escape", "tab")
        await settled(pilot)
        assert app.present().is_side_open
        assert "# Be fair" in text_of(app, "side")
        await pilot.press("escape")
        assert not app.present().is_side_open

    label_story(script, size=(80, 24))


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_a_long_record_scrolls_and_says_how_much_is_below(label_story, screen_text):
    records = [{"id": "long", "instruction": "\n".join(f"line {n}" for n in range(200)), "output": "x"}]

    async def script(app, pilot):
        assert "more lines (j k)" in screen_text(app)
        assert "line 150" not in screen_text(app)
        for _ in range(14):
            await pilot.press("ctrl+d")
        assert "line 150" in screen_text(app)
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        assert "line 140" in screen_text(app)

    label_story(script, records=records)


@pytest.mark.usefixtures("no_model")
def test_hostile_text_is_shown_and_does_nothing(label_story, label_workspace, screen_text):
    hostile = "\x1b[2J [/red] [b]x[/b] \u202e\u200b\x9b31m"
    records = [{"id": f"h{hostile}", "instruction": hostile, "output": hostile}]
    workspace = label_workspace(
        ("What is it about?", json.dumps(hostile)[1:-1].replace("\\u001b", "\\u001B")), records=records
    )

    async def script(app, pilot):
        seen = screen_text(app)
        assert not {*seen} & {"\x1b", "\u202e", "\u200b", "\x9b"}
        assert "[/red] [b]x[/b]" in seen
        await pilot.press("1")

    label_story(script, workspace=workspace)
    assert list(answers(workspace).values()) == ["billing"]


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("size", [(80, 24), (100, 30), (140, 45), (200, 50)])
def test_snapshot(label_story, label_workspace, snapshot, settled, size, monkeypatch):
    monkeypatch.setattr("curate.sessions.labelling.session.DoneList.pace", lambda _: 11.2)
    workspace = label_workspace()
    answer_as(workspace, "bo", {f"r{n:03}": "returns" if n % 2 else "billing" for n in range(4)})

    async def script(app, pilot):
        await pilot.press("1", "2", "2", "2", "f", "s", "3")
        await settled(pilot)
        snapshot(app, "label")
        await pilot.press("v")
        snapshot(app, "label-review")

    label_story(script, workspace=workspace, size=size)


@pytest.mark.usefixtures("no_model")
def test_nothing_to_ask_says_why(label_story, label_workspace):
    workspace = label_workspace(("overlap = 1.0", 'overlap = 1.0\nannotators = ["bo"]'))

    async def script(app, pilot):
        assert "ana is not one of label.annotators (bo)" in text_of(app, "record")
        await pilot.press("1", "a", "s", "f", "n", "p", "x", "c", "m", "enter", "e", "plus")

    assert answers(label_story(script, workspace=workspace)) == {}


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_two_answers_are_compared_without_what_is_known_of_them(make_workspace, make_app, drive, settled, screen_text):
    lines = [{"id": f"p{n}", "prompt": f"Ask {n}?", "chosen": "Good.", "rejected": "Bad."} for n in range(6)]
    workspace = make_workspace(lines, 'schema = "preference"\n[[label.questions]]\nname = "better"\nkind = "pair"\n')
    app, first = make_app(workspace), []

    async def script(pilot):
        app.go("label")
        await settled(pilot)
        for _ in range(6):
            text = text_of(app, "record")
            first.append("chosen" if text.index("Good.") < text.index("Bad.") else "rejected")
            assert "ANSWER A" in text
            await pilot.press("1")
            await settled(pilot)
            assert "chosen" not in screen_text(app).lower()
        assert "A is better" in text_of(app, "last")

    drive(app, script, size=(80, 24))
    assert answers(workspace, "better") == {f"p{n}": side for n, side in enumerate(first)}


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_what_was_answered_about_other_texts_is_asked_again(make_workspace, make_app, drive, settled):
    lines = [{"id": f"p{n}", "prompt": f"Ask {n}?", "chosen": "Good.", "rejected": "Bad."} for n in range(2)]
    workspace = make_workspace(lines, 'schema = "preference"\n[[label.questions]]\nname = "better"\nkind = "pair"\n')
    workspace = decide(workspace, [Label(f"p{n}", "better", "chosen") for n in range(2)], by="ana")
    swap = Edit("p0", {"chosen": "Bad.", "rejected": "Good."})
    decide(workspace, [swap, Edit("p1", {"rejected": "Worse."})], by="carl")
    app = make_app(workspace)

    async def script(pilot):
        app.go("label")
        await settled(pilot)
        assert "p1" in text_of(app, "record")
        assert "asked again: what you answered about has changed since" in text_of(app, "choices")
        await pilot.press("3")
        await settled(pilot)
        assert "nothing is left to label" in text_of(app, "record")

    drive(app, script, size=(80, 24))
    assert answers(workspace, "better") == {"p0": "rejected", "p1": "tie"}


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_a_click_on_one_of_the_last_goes_back_to_it(label_story, settled):
    async def script(app, pilot):
        await pilot.press("1", "2", "3")
        await pilot.click("#last", offset=(20, 1))
        assert "r001" in text_of(app, "record")
        assert "= your answer: returns" in text_of(app, "choices")
        await pilot.press("4")

    assert answers(label_story(script)) == {"r000": "billing", "r001": "account", "r002": "shipping"}


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_what_was_done_in_another_sitting_counts_and_who_is_behind_is_named(label_story, label_workspace, settled):
    workspace = label_workspace(("overlap = 1.0", 'overlap = 1.0\nannotators = ["ana", "bo", "cy"]'))
    answer_as(workspace, "bo", {f"r{n:03}": "billing" for n in range(20)})
    with open_project(workspace.root, "ana") as project:
        project.load()
        session = LabelSession(project)
        session.begin(session.prepare(session.wish))
        for _ in range(5):
            session.answer("returns")

    async def script(app, pilot):
        left = int(text_of(app, "head").split("%")[1].split()[0])
        side = text_of(app, "side")
        assert text_of(app, "head").splitlines()[1].split()[1:4] == ["5", "of", str(left + 5)]
        assert "by all" in text_of(app, "head")
        assert "TEAM\ncy" in side
        assert f"ana        5/{left + 5}" in side
        assert "~ behind" in side
        await pilot.press("1")
        assert f"ana        6/{left + 5}" in text_of(app, "side")

    label_story(script, workspace=workspace)


@pytest.mark.ci
@pytest.mark.usefixtures("no_model")
def test_the_review_has_the_keys_of_labelling_and_ends_with_its_last_item(
    label_story, label_workspace, settled, screen_text
):
    workspace = label_workspace()
    answer_as(workspace, "bo", {"r000": "shipping", "r001": "shipping"})
    answer_as(workspace, "cy", {"r000": "shipping", "r001": "shipping"})
    answer_as(workspace, "ana", {"r000": "returns", "r001": "shipping"})

    async def script(app, pilot):
        await pilot.press("v")
        assert [line.split() for line in text_of(app, "choices").splitlines()[1:]] == [
            ["1", "billing"], ["2", "returns", "ana"], ["3", "shipping", "bo,", "cy"], ["4", "account"],
        ]  # fmt: skip
        keys = screen_text(app).splitlines()[-1]
        assert "1-9,0 settle" in keys
        assert not any(word in keys for word in ("label", "accept", "flag", "note"))
        assert keys.count("u undo") == 1
        await pilot.press("3")
        assert app.project.state("r000").resolved["topic"] == "shipping"
        assert "nothing to settle" in text_of(app, "head")
        await pilot.press("g", "h")
        await pilot.press("g", "l")
        await settled(pilot)
        assert "asked: topic" in text_of(app, "head")
        assert "1-9,0 label" in screen_text(app).splitlines()[-1]

    label_story(script, workspace=workspace)
