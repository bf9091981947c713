"""curate.toml that another program changes is taken over, or what is wrong with it is said."""

from __future__ import annotations

import pytest

from curate.tui.app import CurateApp
from curate.tui.widgets import SafeInput


async def change(app: CurateApp, settled, pilot, text: str) -> None:
    """Write ``text`` to curate.toml and let the app have its look."""
    (app.root / "curate.toml").write_text(text, encoding="utf-8")
    app.following.check_for_changes()
    await settled(pilot)


QUESTION = '[label]\n[[label.questions]]\nname = "quality"\nvalues = ["good", "bad"]\n'


@pytest.mark.ci
def test_questions_and_keys_are_taken_over_and_said(label_workspace, make_app, drive, settled, screen_text) -> None:
    app = make_app(label_workspace())
    first = (app.root / "curate.toml").read_text(encoding="utf-8")

    async def story(pilot):
        await pilot.press("g", "l")
        await settled(pilot)
        assert "wonderful" not in screen_text(app)
        assert app.project.settings.keys == {}
        name = app.project.settings.label.questions[0].values[0]
        await change(app, settled, pilot, first.replace(f'"{name}"', '"wonderful"') + '[keys]\n"app.zoom" = "f10"\n')
        assert app.message.plain == "taken over from curate.toml: label, keys"
        assert "wonderful" in screen_text(app)
        assert "f10" in app.screen.active_bindings
        await change(app, settled, pilot, first + "# a remark alone\n")
        await change(app, settled, pilot, first + "# another\n")
        assert "taken over" in app.message.plain

    drive(app, story)


def test_what_cannot_be_read_is_named_and_the_old_holds(make_workspace, make_app, drive, settled, screen_text) -> None:
    app = make_app(make_workspace())
    first = (app.root / "curate.toml").read_text(encoding="utf-8")

    async def story(pilot):
        before = app.project.settings
        for broken in ("[split\n", first + "\nnonsense = 1\n", first + '\n[keys]\n"no.such" = "x"\n'):
            await change(app, settled, pilot, broken)
            assert "curate.toml was changed and is not taken over" in app.message.plain
            assert app.project.settings == before
        app.clear_message()
        app.following.check_for_changes()
        await settled(pilot)
        assert not app.message, "it is said once"
        await change(app, settled, pilot, first)
        assert app.message.plain == "curate.toml can be read again; it says what it said before."

    drive(app, story)


@pytest.mark.ci
def test_who_is_typing_is_not_disturbed(make_workspace, make_app, drive, settled, screen_text) -> None:
    app = make_app(make_workspace())
    first = (app.root / "curate.toml").read_text(encoding="utf-8")

    async def story(pilot):
        await pilot.press("g", "b", "slash", *"help")
        await settled(pilot)
        await change(app, settled, pilot, first + "\n[dedupe]\nthreshold = 0.9\n")
        assert "curate.toml has changed: dedupe." in app.message.plain
        assert app.screen.query(SafeInput).first().value == "help"
        await pilot.press("escape", "escape")
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert app.project.settings.dedupe.threshold == 0.9

    drive(app, story)
