"""A record under edit: what its screen shows and what is saved, for tests of the Edit screen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Select

from curate.project.data import ProjectData, load_data
from curate.tui.screens.edit import EditScreen
from curate.tui.screens.edit.inputs import AreaField, LineField, MarkField, SelectField
from curate.tui.screens.edit.nodes import Leaf
from curate.tui.screens.edit.sheet import FormSheet

Settled = Callable[[Pilot[Any]], Awaitable[None]]


TURNS = [{"role": "user", "content": "Where is my parcel?"}, {"role": "assistant", "content": "It is on its way."}]
LINE = {
    "id": "m1",
    "category": "shipping",
    "level": "easy",
    "tags": ["late"],
    "score": 1.0,
    "messages": TURNS,
    "odd": [1, {"a": None}],
}


def record_in(workspace: ProjectData, name: str) -> dict[str, Any]:
    """Return a record as the next one to open the workspace finds it."""
    return dict(next(one.record.data for one in load_data(workspace.root).states() if one.record.id == name))


def names_in(workspace: ProjectData) -> list[str]:
    return [one.record.id for one in load_data(workspace.root).states()]


async def type_in(pilot: Pilot[Any], text: str) -> None:
    for one in text:
        await pilot.press({" ": "space", "\n": "enter"}.get(one, one))


async def go_to(pilot: Pilot[Any], settled: Settled, pointer: str) -> None:
    """Jump to a field."""
    pilot.app.go("edit", record=edit_of(pilot).name, pointer=pointer)
    await settled(pilot)


def edit_of(pilot: Pilot[Any]) -> Any:
    screen = pilot.app.screen
    assert isinstance(screen, EditScreen)
    assert screen.edit is not None
    return screen.edit


def assert_what_is_seen_is_what_is_there(pilot: Pilot[Any]) -> None:
    """Whatever was done, every widget shows the value that the form would save."""
    for sheet in pilot.app.screen.query(FormSheet):
        for leaf in sheet.query(Leaf):
            field, editor = sheet.form.field(leaf.pointer), leaf.editor
            assert field is not None, leaf.pointer
            if isinstance(editor, AreaField | LineField):
                shown = editor.text if isinstance(editor, AreaField) else editor.value
                assert editor.spelling.read(shown) == sheet.form.text(field), leaf.pointer
            elif isinstance(editor, SelectField):
                assert editor.value == (Select.NULL if field.chosen is None else field.chosen), leaf.pointer
            elif isinstance(editor, MarkField):
                marked = list(field.options) if field.kind != "switch" else []
                expected = [value for value in marked if value == field.value]
                text = str(editor.render())
                assert text.count("(x)") + text.count("[x]") == len(expected) + (field.value is True), leaf.pointer
