"""A field on the screen: its name, the widget to edit it with, what is wrong with it, and the fields within it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.events import Click
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from curate.form import Field
from curate.record import Problem
from curate.tui.border import shown
from curate.tui.form.inputs import AreaField, ChoiceField, LineField, MarkField, SelectField, editor_of
from curate.tui.glyphs import glyphs

if TYPE_CHECKING:
    from curate.tui.form.sheet import Sheet

OPEN_MOST = 12
"""Lists of more items show each as one line until it is opened: every text area costs time to draw."""
_NAME = 13
_PREVIEW = 60


class Deed(Message):
    """Somebody asks for something to be done with the value at ``pointer``."""

    def __init__(self, deed: str, pointer: str) -> None:
        super().__init__()
        self.deed = deed
        self.pointer = pointer


class Head(Static, can_focus=True):
    """The line over a group, a list or a card. With the focus on it, letters move, add and take out."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("enter,space", "do('toggle')", "Open", id="edit.open", key_display="enter"),
        Binding("a,plus", "do('add')", "Add", id="edit.add", key_display="a"),
        Binding("K,ctrl+up", "do('up')", "Move up", id="edit.up", key_display="K"),
        Binding("J,ctrl+down", "do('down')", "Move down", id="edit.down", key_display="J"),
        Binding("x,delete", "do('remove')", "Take out", id="edit.remove", key_display="x"),
    ]

    def __init__(self, pointer: str, text: Text) -> None:
        super().__init__(text)
        self.pointer = pointer

    def action_do(self, deed: str) -> None:
        """Ask for a deed."""
        self.post_message(Deed(deed, self.pointer))

    def on_click(self, event: Click) -> None:
        """Open or close what is below."""
        event.stop()
        self.post_message(Deed("toggle", self.pointer))


class More(Static, can_focus=True):
    """The names of keys that may be added to a card; opened, each is a field."""

    BINDINGS: ClassVar[list[Any]] = [Binding("enter,space", "open", "Show fields", id="edit.more", key_display="enter")]

    def __init__(self, pointer: str, names: Sequence[str]) -> None:
        super().__init__(Text.assemble(("+ ", "key"), (", ".join(shown(name, 24).plain for name in names), "muted")))
        self.pointer = pointer
        self.names = tuple(names)

    def action_open(self) -> None:
        """Ask for the fields."""
        self.post_message(Deed("more", self.pointer))

    def on_click(self, event: Click) -> None:
        """Ask for the fields."""
        event.stop()
        self.action_open()


class ProblemLine(Static):
    """What is wrong with the field above."""

    def __init__(self, pointer: str, problems: list[Problem]) -> None:
        texts = [Text.assemble(("! error ", "error"), shown(problem.message, 200)) for problem in problems]
        super().__init__(Text("\n").join(texts))
        self.pointer = pointer
        self.problems = problems


class Node(Widget):
    """One field: a `Leaf` that is edited in a widget, or a `Branch` that holds others."""

    field: Field

    @property
    def pointer(self) -> str:
        """The pointer of the field."""
        return self.field.pointer

    def focus_first(self) -> bool:
        """Give the focus to the first widget that takes it; return False where none does."""
        for widget in self.walk_children(Widget):
            if widget.focusable:
                widget.focus()
                return True
        return False


class Leaf(Node):
    """The name of a field, and the widget to edit it with."""

    def __init__(self, sheet: Sheet, field: Field) -> None:
        super().__init__()
        self.sheet = sheet
        self.field = field

    def compose(self) -> ComposeResult:
        """Lay name and widget side by side."""
        yield Static(_name(self.field), classes="name")
        yield from (ChoiceField(self.field, choice) for choice in self.field.choices)
        yield editor_of(self.field, self.sheet.form.text(self.field))

    @property
    def editor(self) -> Widget:
        """The widget in which the value is edited."""
        return self.children[-1]

    def focus_first(self) -> bool:
        """Give the focus to the widget that is typed in, before the choice of another form for the value."""
        if self.editor.focusable:
            self.editor.focus()
            return True
        return super().focus_first()

    async def show(self, field: Field) -> None:
        """Show another value of the same look."""
        self.field = field
        editor = self.editor
        if isinstance(editor, LineField | AreaField | MarkField | SelectField):
            editor.show(field, self.sheet.form.text(field))


class Branch(Node):
    """A group, a list or a card: its head, and the fields within."""

    def __init__(self, sheet: Sheet, field: Field, *, is_item: bool = False, is_open: bool = True) -> None:
        super().__init__(classes="within" if field.pointer else "")
        self.sheet = sheet
        self.field = field
        self.is_item = is_item
        self.is_open = is_open
        self.is_more = not field.pointer
        self._revealed: set[str] = set()

    def compose(self) -> ComposeResult:
        """Lay out the head, the choices among forms, and the fields within."""
        if self.pointer or self.field.kind == "list":
            yield Head(self.pointer, self._head())
        for choice in self.field.choices if self.field.is_filled else ():
            with Horizontal(classes="choice"):
                yield Static(Text("which form", style="muted"), classes="name")
                yield ChoiceField(self.field, choice)
        fields = self._shown_fields()
        yield from (self._node(field, len(fields)) for field in fields)
        if names := self._hidden_names(fields):
            yield More(self.pointer, names)

    async def show(self, field: Field) -> None:
        """Show another value of the same look."""
        self.field = field
        await self.fill()

    async def fill(self) -> None:
        """Make the nodes within agree with the fields: those that look the same are kept and shown anew."""
        for head in self.query_children(Head):
            update_if_other(head, self._head())
        fields = self._shown_fields()
        old = list(self.query_children(Node))
        for place, field in enumerate(fields):
            if place < len(old) and old[place].field.look == field.look:
                await old[place].show(field)  # type: ignore[attr-defined]
                continue
            node = self._node(field, len(fields))
            if place < len(old):
                await self.mount(node, before=old[place])
                await old[place].remove()
            else:
                await self.mount(node, before=next(iter(self.query_children(More)), None))
        await self.remove_children(old[len(fields) :])
        await self._show_more(self._hidden_names(fields))

    async def open(self, *, with_more: bool = False) -> None:
        """Show what is within, and ``with_more`` also what could be."""
        self.is_open = True
        self.is_more = self.is_more or with_more
        await self._fill_anew()

    async def close(self) -> None:
        """Show one line alone."""
        self.is_open = False
        await self._fill_anew()

    async def _fill_anew(self) -> None:
        # What was typed since the fields were made is in the form, and not in them.
        self.field = self.sheet.form.field(self.pointer) or self.field
        await self.fill()

    def focus_to_type(self) -> bool:
        """Give the focus to the first empty field where one types, else to the first widget that takes it."""
        for leaf in self.query(Leaf):
            if not leaf.field.is_present and isinstance(leaf.editor, LineField | AreaField):
                leaf.editor.focus()
                return True
        return self.focus_first()

    def _node(self, field: Field, num_siblings: int) -> Node:
        if field.kind not in ("group", "list"):
            return Leaf(self.sheet, field)
        is_many = self.field.kind == "list" and num_siblings > OPEN_MOST
        return Branch(
            self.sheet,
            field,
            is_item=self.field.kind == "list",
            is_open=not is_many or field.pointer in self.sheet.opened,
        )

    def _shown_fields(self) -> list[Field]:
        """Return the fields to show: of a card, those that it has, must have, or has had while it was open."""
        if not self.is_open:
            return []
        fields = list(self.field.fields)
        if self.is_more or self.field.kind == "list":
            return fields
        shown_now = [one for one in fields if one.is_present or one.is_required or one.pointer in self._revealed]
        self._revealed.update(one.pointer for one in shown_now)
        return shown_now

    def _hidden_names(self, fields: Sequence[Field]) -> list[str]:
        return [field.name for field in self.field.fields if field not in fields] if self.is_open else []

    async def _show_more(self, names: Sequence[str]) -> None:
        known = next(iter(self.query_children(More)), None)
        if known is not None and known.names == tuple(names):
            return
        if known is not None:
            await known.remove()
        if names:
            await self.mount(More(self.pointer, names))

    def _head(self) -> Text:
        field = self.field
        star = " *" if field.is_required and not self.is_item else ""
        sign = "- " if self.is_open and field.is_filled else "+ "
        text = Text.assemble((sign, "key"), (shown(field.name, 40).plain, "strong"), star, no_wrap=True)
        if field.kind == "list":
            text.append(f"  {len(field.fields)} item{'' if len(field.fields) == 1 else 's'}", "muted")
        if field.summary:
            text.append_text(Text.assemble(" ", shown(field.summary, 30, style="accent")))
        if not field.is_filled:
            text.append(f"  {'null' if field.is_present else 'not there'}; enter adds it", "muted")
        elif not self.is_open:
            text.append_text(Text.assemble("  ", shown(_preview(field), _PREVIEW, style="muted")))
        text.append(f" {glyphs().rule * 4}", "muted")
        return text


def update_if_other(widget: Static, text: Text) -> None:
    """Show ``text``, unless it is shown: an update lays everything out anew."""
    if widget.content != text:
        widget.update(text)


def _name(field: Field) -> Text:
    star = " *" if field.is_required else ""
    style = "" if field.is_known else "warn"
    return Text.assemble(shown(field.name, _NAME - len(star), style=style), (star, "accent"))


def _preview(field: Field) -> str:
    """Return the first text within a card."""
    return next((one.value for one in field.walk() if one.kind in ("text", "line") and isinstance(one.value, str)), "")
