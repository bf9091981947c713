"""The palette: every verb of the command lines, actions, screens, records, recent ones first."""

from __future__ import annotations

import click
import pytest
from textual.widgets import Input, Select

from curate.cli import cli as curate_cli
from curate.project.data import load_data
from curate.sessions.verbs import Parameter, verbs
from curate.tui.frame_table import FrameTable
from curate.tui.palette import CommandPalette, ask_verb
from curate.tui.verb_dialog import RunPage, VerbDialog
from train.cli import cli as train_cli


@pytest.fixture(autouse=True)
def _own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def known():
    return {verb.name: verb for verb in verbs()}


def leaves(command, ctx, name):
    """Yield the name and command of each verb below ``command``."""
    if isinstance(command, click.Group):
        for word in command.list_commands(ctx):
            child = command.get_command(ctx, word)
            yield from leaves(child, click.Context(child, parent=ctx, info_name=word), f"{name} {word}")
    else:
        yield name, command


def rows_of(app) -> list[str]:
    return [row[0] for row in app.screen.query_one(FrameTable).source[:]]


@pytest.mark.parametrize(("program", "group"), [("curate", curate_cli), ("train", train_cli)])
def test_every_command_is_reached_or_says_why_not(known, program, group) -> None:
    there = dict(leaves(group, click.Context(group), program))
    assert len(there) > 10
    assert {name for name in known if name.split()[0] == program} == set(there)
    for name, command in there.items():
        verb = known[name]
        assert verb.summary
        shown = {item.name for item in command.params if not getattr(item, "hidden", False)}
        assert {item.name for item in verb.parameters} == shown
        required = [item.is_required for item in verb.parameters]
        assert required == sorted(required, reverse=True), "required ones come first"
    assert [name for name in known if known[name].reason] == ["curate fold", "curate serve"]


def test_values_become_the_words_that_a_shell_would_get(known) -> None:
    export = known["curate export"]
    assert export.command({"root": "my data", "form": "dataset", "dry_run": "true"}) == [
        "curate", "export", "--dry-run", "my data",
    ]  # fmt: skip
    dedupe = known["curate dedupe"]
    assert dedupe.command({"keep_pairs": "a b c d", "paths": "ws"}) == [
        "curate", "dedupe", "--keep", "a", "b", "--keep", "c", "d", "ws",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="takes 2 values"):
        dedupe.command({"keep_pairs": "a b c"})
    with pytest.raises(ValueError, match="still to be filled in: --reason TEXT"):
        known["curate drop"].command({"words": "sd-1"})
    assert known["curate log"].command({"words": "-odd"}) == ["curate", "log", "--", "-odd"]
    back = Parameter("progress", "--progress", "--no-progress", "flag", "", "", (), False, False, 1, "true")
    assert (back.words("true"), back.words("false")) == ([], ["--no-progress"])


@pytest.mark.ci
def test_a_verb_is_asked_for_and_run_and_logged(make_workspace, make_app, drive, settled, screen_text) -> None:
    workspace = make_workspace()
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press(":")
        await settled(pilot)
        await pilot.press(*"curate drop")
        await settled(pilot)
        assert rows_of(app)[0] == "curate drop"
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(app.screen, VerbDialog)
        assert "still to be filled in: --reason TEXT" in screen_text(app)
        await pilot.press(*"off topic", "tab", *"r003")
        await settled(pilot)
        assert f"$ curate drop --reason 'off topic' r003 {workspace.root}" in "".join(screen_text(app).split("\n  "))
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert isinstance(app.screen, RunPage)
        assert "done; esc closes" in screen_text(app)
        await pilot.press("escape")
        await settled(pilot)
        assert app.screen is app.present()
        assert [entry.result for entry in app.logged_commands] == ["done"]
        assert app.logged_commands[0].command.startswith("curate drop --reason 'off topic' r003")
        await pilot.press(":")
        await settled(pilot)
        assert rows_of(app)[0] == "curate drop", "the most recent one is the first"

    drive(app, story, size=(120, 30))
    assert list(load_data(workspace.root).dropped()) == ["r003"]


def test_what_nobody_can_take_back_is_shown_first(known) -> None:
    for verb in known.values():
        values = {item.name: item.default or "1 2" for item in verb.parameters} | {"dry_run": "", "diff": "", "fix": ""}
        words = [item.on for item in verb.parameters]
        preview = verb.preview(values)
        if "--by" not in words and {"--diff", "--dry-run"} & set(words):
            assert {"--diff", "--dry-run"} & set(preview), verb.name
        else:
            assert not preview, "undo takes it back, or it writes nothing"
    assert known["curate redact"].preview({}) == ["curate", "redact", "--diff"]
    assert known["curate redact"].preview({"diff": "true"}) == []
    assert known["curate validate"].preview({"fix": "true"}) == ["curate", "validate", "--fix", "--diff"]


@pytest.mark.ci
def test_a_redaction_in_place_is_seen_before_it_is_done(make_workspace, make_app, drive, settled, screen_text) -> None:
    workspace = make_workspace(
        [{"id": "r1", "instruction": "Whom do I ask?", "output": "Write to ana.kern@firma.de.", "category": "a"}]
    )
    before = workspace.files()[0].read_text()
    app = make_app(workspace)

    async def story(pilot):
        await pilot.press(":")
        await settled(pilot)
        await pilot.press(*"curate redact", "enter")
        await settled(pilot)
        await pilot.press("ctrl+s")
        await settled(pilot)
        assert "[EMAIL_1]" in screen_text(app)
        assert "would redact 1 value in 1 of 1 line" in screen_text(app)
        assert "Nothing is done yet: y does it, esc does not" in screen_text(app)
        assert workspace.files()[0].read_text() == before
        await pilot.press("y")
        await settled(pilot)
        assert "redacted 1 value in 1 of 1 line" in screen_text(app)
        await pilot.press("escape")
        await settled(pilot)
        assert app.screen is app.present()

    drive(app, story, size=(120, 30))
    assert "[EMAIL_1]" in workspace.files()[0].read_text()


@pytest.mark.ci
def test_a_verb_that_goes_on_is_ended_by_esc(make_workspace, make_app, drive, settled, screen_text) -> None:
    app = make_app(make_workspace())

    async def story(pilot):
        app.push_screen(RunPage(["curate", "validate", "--watch", str(app.root)]))
        for _ in range(400):
            await pilot.pause(0.05)
            if "60 records" in screen_text(app):
                break
        assert "running; esc stops it" in screen_text(app)
        await pilot.press("escape")
        await settled(pilot)
        assert "stopped; esc closes" in screen_text(app)

    drive(app, story)


@pytest.mark.ci
def test_choices_are_offered_and_a_narrow_terminal_shows_them(
    make_workspace, make_app, drive, settled, screen_text, known
) -> None:
    app = make_app(make_workspace(), is_ascii=True)

    async def story(pilot):
        ask_verb(app, known["curate stats"])
        await settled(pilot)
        select = app.screen.query(Select).first()
        select.value = "json"
        await settled(pilot)
        assert "--format json" in screen_text(app)
        assert screen_text(app).isascii()
        await pilot.press("escape")

    drive(app, story, size=(60, 15))


@pytest.mark.ci
def test_records_are_found_by_a_part_of_their_id_or_by_words(make_workspace, make_app, drive, settled) -> None:
    lines = [{"id": f"sd-{n:04}", "instruction": f"Where is parcel {n}?", "output": f"At [b] {n}."} for n in range(40)]
    lines[17]["instruction"] = "Which zeppelin carries it?"
    app = make_app(make_workspace(lines))

    async def story(pilot):
        for typed, wanted in (("sd-003", "sd-0030"), ("zeppelin", "sd-0017")):
            await pilot.press("colon")
            await settled(pilot)
            await pilot.press(*typed)
            await pilot.pause(0.3)
            await settled(pilot)
            rows = rows_of(app)
            assert f"Edit record {wanted}" in rows
            app.screen.query_one(FrameTable).cursor = rows.index(f"Edit record {wanted}")
            await pilot.press("enter")
            await settled(pilot)
            assert app.current_mode == "edit"
            assert app.screen.edit.name == wanted
            await pilot.press("escape", "escape", "escape", "g", "h")
            await settled(pilot)

    drive(app, story)


@pytest.mark.ci
def test_a_record_whose_line_has_no_id_is_found_by_the_one_that_is_shown(
    make_workspace, make_app, drive, settled
) -> None:
    app = make_app(make_workspace([{"instruction": f"Say {n}.", "output": f"{n}!"} for n in range(5)]))

    async def story(pilot):
        await pilot.press("g", "b")
        await settled(pilot)
        name = app.screen.query_one("#rows", FrameTable).source[3:4][0][0]
        for typed in (name, name[3:11]):
            await pilot.press("colon")
            await settled(pilot)
            await pilot.press(*typed)
            await pilot.pause(0.3)
            await settled(pilot)
            assert f"Edit record {name}" in rows_of(app)
            await pilot.press("escape")

    drive(app, story)


@pytest.mark.ci
def test_what_moves_a_cursor_is_left_out_and_the_rest_is_there(make_workspace, make_app, drive, settled) -> None:
    app = make_app(make_workspace())

    async def story(pilot):
        await pilot.press("colon")
        await settled(pilot)
        rows = rows_of(app)
        assert {"Go to Split", "Theme light", "Import or open a file", "curate export", "train plan"} <= set(rows)
        assert not {"Up", "Down", "First row", "Last row"} & set(rows)
        await pilot.press(*"serve", "enter")
        await settled(pilot)
        assert "leave it first" in app.message.plain
        await pilot.press("colon")
        await settled(pilot)
        await pilot.press(*"curate review", "enter")
        await settled(pilot)
        assert app.current_mode == "label"

    drive(app, story)


@pytest.mark.ci
def test_no_program_is_started_through_a_browser(make_workspace, make_app, drive, settled, monkeypatch, known) -> None:
    app = make_app(make_workspace())
    monkeypatch.setattr(type(app), "is_web", property(lambda _: True))
    app.may_train = False

    async def story(pilot):
        ask_verb(app, known["curate stats"])
        await settled(pilot)
        assert app.screen is app.present()
        assert "no program is started" in app.message.plain
        assert not isinstance(app.screen, CommandPalette)
        assert not app.screen.query(Input)

    drive(app, story)
