"""Questions made and changed in the app, from Label and back to it."""

import tomllib

import pytest
from textual.keys import _character_to_key

from curate.base.events import Label
from curate.project.project import open_project
from tests.curate.tui.asking import TWO_QUESTIONS

pytestmark = pytest.mark.usefixtures("no_model")
SIZES = [(60, 15), (80, 24), (140, 45)]
PLAIN = TWO_QUESTIONS.replace('guide = "guide.md"\n', "# Why two?\n")


def questions_of(app):
    return tomllib.loads((app.root / "curate.toml").read_text(encoding="utf-8")).get("label", {}).get("questions", [])


async def typed(pilot, text):
    await pilot.press(*("enter" if letter == "\n" else _character_to_key(letter) for letter in text))


@pytest.mark.ci
@pytest.mark.parametrize("size", SIZES)
def test_the_first_question_is_made_and_asked_at_once(label_story, settled, screen_text, size):
    async def script(app, pilot):
        await pilot.press("Q", "n")
        await typed(pilot, "quality\n")
        await typed(pilot, "How good?\n")
        await pilot.press("tab")
        await typed(pilot, "good = right and short\nbad")
        assert "(x) choice" in screen_text(app)
        await pilot.press("ctrl+s")
        assert "Changed, and not written: W writes." in screen_text(app)
        assert questions_of(app) == []
        await pilot.press("K")
        await settled(pilot)
        await pilot.press("W")
        await settled(pilot)
        assert [question["name"] for question in questions_of(app)] == ["quality", "category"]
        assert questions_of(app)[0]["guide"] == {"good": "right and short"}
        assert "questions written into curate.toml" in app.message.plain
        # The question that was changed is asked.
        assert "How good?" in screen_text(app)
        await pilot.press("2")
        assert app.project.state("r000").answers["quality"] == {"ana": "bad"}

    label_story(script, size=size, settings="[split]\nseed = 1\n")


def test_a_question_is_added_asked_and_answered(label_story, settled, screen_text):
    async def script(app, pilot):
        await pilot.press("Q", "n")
        await typed(pilot, "tone\n\n")
        await pilot.press("space", "space", "tab", "ctrl+s")
        await settled(pilot)
        await pilot.press("W")
        await settled(pilot)
        assert questions_of(app)[-1] == {"name": "tone", "kind": "rating"}
        assert "# Why two?" in (app.root / "curate.toml").read_text(encoding="utf-8")
        assert "asked: tone" in screen_text(app)
        await pilot.press("4")
        assert app.project.state("r000").answers["tone"] == {"ana": "4"}

    label_story(script, settings=PLAIN)


@pytest.mark.ci
def test_what_becomes_of_answers_is_asked_first_and_no_writes_nothing(
    label_story, label_workspace, settled, screen_text
):
    workspace = label_workspace(settings=PLAIN)
    with open_project(workspace.root, "ana") as project:
        project.load()
        project.apply([Label("r000", "quality", "ok")])

    async def script(app, pilot):
        await pilot.press("Q", "j", "d", "W")
        assert "quality is asked no more. Answers that stay in the journal:" in screen_text(app)
        await pilot.press("n")
        assert len(questions_of(app)) == 2
        await pilot.press("W", "y")
        await settled(pilot)
        assert [question["name"] for question in questions_of(app)] == ["topic"]
        await pilot.press("w")
        await settled(pilot)
        assert "asked: topic" in screen_text(app)

    label_story(script, workspace=workspace)


@pytest.mark.ci
@pytest.mark.parametrize("size", SIZES)
def test_what_is_wrong_stays_in_the_form_and_typing_is_not_lost_by_esc(label_story, settled, screen_text, size):
    async def script(app, pilot):
        await pilot.press("Q", "n", "ctrl+s")
        assert "the question has no name." in screen_text(app)
        await typed(pilot, "flag")
        await pilot.press("ctrl+s")
        assert "'flag' is no name for one" in screen_text(app)
        # What can be pressed stays in sight.
        assert "ctrl+s take it" in screen_text(app)
        await pilot.press("escape")
        assert "Drop what you typed here?" in screen_text(app)
        for key in ("n", "escape", "y", "e", "escape", "escape"):
            await pilot.press(key)
            await settled(pilot)
        assert app.screen is app.present()
        assert len(questions_of(app)) == 2

    label_story(script, size=size, settings=PLAIN)


@pytest.mark.ci
def test_who_answers_is_set_beside_the_questions(label_story, settled, screen_text):
    async def script(app, pilot):
        await pilot.press("Q", "o")
        await typed(pilot, "ana, bo\n")
        await pilot.press("ctrl+u")
        await typed(pilot, "x")
        await pilot.press("ctrl+s")
        assert "no share of the records" in screen_text(app)
        await pilot.press("backspace", "2", "0", "percent_sign", "ctrl+s")
        await settled(pilot)
        await pilot.press("W")
        await settled(pilot)
        assert app.project.settings.label.annotators == ["ana", "bo"]
        assert app.project.settings.label.overlap == 0.2

    label_story(script, settings=PLAIN)


@pytest.mark.ci
def test_several_values_are_marked_and_saved_as_one_answer(label_story, screen_text):
    settings = '[split]\nseed = 1\n[[label.questions]]\nname = "topics"\nkind = "several"\nvalues = ["a", "b", "c"]\n'

    async def script(app, pilot):
        assert "keys mark, enter saves" in screen_text(app)
        await pilot.press("3", "1", "2", "2", "enter")
        assert app.project.state("r000").answers["topics"] == {"ana": ["a", "c"]}
        # The next record is asked in the same way, and m changes nothing.
        await pilot.press("m", "2", "enter", "u")
        assert "r001" in screen_text(app)
        assert app.project.decided()[0].answers["topics"] == {"ana": ["a", "c"]}

    label_story(script, settings=settings)
