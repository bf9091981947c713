"""The fields of a form as widgets: a value each, and the turns of a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Click
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from curate.base.record import TRACES, Problem
from curate.base.tables import counted
from curate.jsonl import pointer_of
from curate.schema.form import Field, Form, is_trained
from curate.tui.border import glyphs, safe_text
from curate.tui.screens.edit.inputs import (
    AreaField,
    LineField,
    MarkField,
    SelectField,
    editor_of,
)
from curate.tui.widgets import Panel

OPEN_MOST = 12  # Lists of more items show each as one line until it is opened: every text area costs time to draw.
_NAME = 29
_PREVIEW = 60

Wish = Literal["toggle", "more", "add", "up", "down", "remove"]


class NodeWish(Message):
    """Somebody wants a group, list or card, the one at ``pointer``, opened or changed."""

    def __init__(self, wish: Wish, pointer: str) -> None:
        super().__init__()
        self.wish = wish
        self.pointer = pointer


class WishLine(Panel, can_focus=True):
    """A line that a key or a click makes ask for something to be done."""

    CLICK: ClassVar[Wish]

    def __init__(self, pointer: str, text: Text) -> None:
        super().__init__(text)
        self.pointer = pointer

    def action_wish(self, wish: Wish) -> None:
        self.post_message(NodeWish(wish, self.pointer))

    def on_click(self, event: Click) -> None:
        event.stop()
        self.action_wish(self.CLICK)


class Head(WishLine):
    """The line over a group, a list or a card. With the focus on it, letters move, add and take out."""

    CLICK = "toggle"

    BINDINGS: ClassVar[list[Any]] = [
        Binding("enter,space", "wish('toggle')", "Open", id="edit.open", key_display="enter"),
        Binding("a,plus", "wish('add')", "Add", id="edit.add", key_display="a"),
        Binding("K,ctrl+up", "wish('up')", "Move up", id="edit.up", key_display="K"),
        Binding("J,ctrl+down", "wish('down')", "Move down", id="edit.down", key_display="J"),
        Binding("x,delete", "wish('remove')", "Take out", id="edit.remove", key_display="x"),
        Binding("m", "wish('more')", "More fields", id="edit.more_fields"),
    ]


class FoldLine(WishLine):
    """The line that stands for a text until it is opened."""

    CLICK = "toggle"
    BINDINGS: ClassVar[list[Any]] = [
        Binding("enter,space", "wish('toggle')", "Open", id="edit.unfold", key_display="enter")
    ]


class More(WishLine):
    """The names of keys that may be added to a card; opened, each is a field."""

    CLICK = "more"
    BINDINGS: ClassVar[list[Any]] = [
        Binding("enter,space", "wish('more')", "Show fields", id="edit.more", key_display="enter")
    ]

    def __init__(self, pointer: str, names: Sequence[str]) -> None:
        text = ", ".join(safe_text(name, 24).plain for name in names)
        super().__init__(pointer, Text.assemble(("+ ", "key"), (text, "muted")))
        self.names = tuple(names)


class ProblemLine(Static):
    """What is wrong with the field above, or with ``within`` it where that is closed.

    Without problems, the field has still to be filled in.
    """

    def __init__(self, pointer: str, problems: list[Problem], within: str) -> None:
        name = safe_text(f"{within.strip('/')}: " if within else "", 60)
        texts = [Text.assemble(("! error ", "error"), name, safe_text(problem.message, 200)) for problem in problems]
        super().__init__(Text("\n").join(texts) if texts else Text("required", "muted"))
        self.pointer = pointer
        self.problems = problems
        self.within = within


class Node(Widget):
    """One field: a `Leaf` that is edited in a widget, or a `GroupNode` that holds others."""

    def __init__(self, form: Form, field: Field, *, classes: str = "") -> None:
        super().__init__(classes=classes)
        self.form = form
        self.field = field

    @property
    def pointer(self) -> str:
        """The pointer of the field."""
        return self.field.pointer

    async def show(self, field: Field) -> None:
        """Show another value in the same widgets."""
        raise NotImplementedError

    def focus_first(self) -> bool:
        """Give the focus to the first widget that takes it; return False where none does."""
        widget = next((widget for widget in self.walk_children(Widget) if widget.focusable), None)
        if widget is not None:
            widget.focus()
        return widget is not None

    async def mount_problem(self, line: ProblemLine) -> None:
        """Show what is wrong: below the widget of a field, or below the head of a card."""
        heads = list(self.query_children(Head))
        holder = self if heads else self.parent
        if isinstance(holder, Widget):
            await holder.mount(line, after=heads[0] if heads else self)


class Leaf(Node):
    """The name of a field, and the widget to edit it with; ``is_wide``, that widget alone over the whole width."""

    def __init__(self, form: Form, field: Field, *, is_wide: bool = False) -> None:
        super().__init__(form, replace(field, placeholder=field.placeholder or field.name) if is_wide else field)
        self.is_wide = is_wide

    def compose(self) -> ComposeResult:
        if self.is_wide:
            yield editor_of(self.field, self.form.text(self.field))
            return
        star = " *" if self.field.is_required else ""
        name = safe_text(self.field.name, _NAME - len(star), style="" if self.field.is_in_schema else "warn")
        yield Static(Text.assemble(name, (star, "accent")), classes="name")
        yield editor_of(self.field, self.form.text(self.field))

    @property
    def editor(self) -> Widget:
        """The widget in which the value is edited."""
        return self.children[-1]

    async def show(self, field: Field) -> None:
        """Show another value in the same widget."""
        self.field = field
        editor = self.editor
        if isinstance(editor, LineField | AreaField | MarkField | SelectField):
            editor.show(field, self.form.text(field))


class TraceNode(Leaf):
    """The reasoning before an answer: one line, until it is opened."""

    def __init__(self, form: Form, field: Field) -> None:
        super().__init__(form, field, is_wide=True)
        self.set_class(not field.is_present, "-open")

    def compose(self) -> ComposeResult:
        yield FoldLine(self.pointer, self._line())
        yield from super().compose()

    async def show(self, field: Field) -> None:
        await super().show(field)
        self.query_one(FoldLine).show(self._line())

    def toggle(self) -> None:
        """Open the text, or fold it."""
        self.toggle_class("-open")
        self.query_one(FoldLine).show(self._line())

    def focus_first(self) -> bool:
        if not self.has_class("-open"):
            self.toggle()
        self.editor.focus()
        return True

    def _line(self) -> Text:
        words = counted(len(self.form.text(self.field).split()), "word")
        is_open = self.has_class("-open")
        verb = "folds" if is_open else "opens"
        return Text.assemble(("- " if is_open else "+ ", "key"), "reasoning ", (f"{words}; enter {verb}", "muted"))


class GroupNode(Node):
    """A group, a list or a card: its head, and the fields within.

    ``opened`` has the pointers of the cards of long lists that somebody has opened.
    """

    def __init__(
        self, form: Form, field: Field, opened: set[str], *, is_item: bool = False, is_open: bool = True
    ) -> None:
        super().__init__(form, field, classes="within" if field.pointer else "")
        self.is_item = is_item
        self.is_open = is_open
        self._opened = opened
        self._has_more = not field.pointer
        self._revealed: set[str] = set()

    def compose(self) -> ComposeResult:
        if self.pointer or self.field.kind == "list":
            yield Head(self.pointer, self._head())
        fields = self._visible_fields()
        yield from (self._node(field, len(fields)) for field in fields)
        if names := self._hidden_names(fields):
            yield More(self.pointer, names)

    async def show(self, field: Field) -> None:
        """Make the nodes within agree with the fields: those with the same widgets stay, and with them the cursor."""
        self.field = field
        for head in self.query_children(Head):
            head.show(self._head())
        fields = self._visible_fields()
        old = list(self.query_children(Node))
        for index, part in enumerate(fields):
            if index < len(old) and old[index].field.widget == part.widget:
                await old[index].show(part)
            elif index < len(old):
                await self.mount(self._node(part, len(fields)), before=old[index])
                await old[index].remove()
            else:
                await self.mount(self._node(part, len(fields)), before=next(iter(self.query_children(More)), None))
        await self.remove_children(old[len(fields) :])
        await self._show_more(self._hidden_names(fields))

    async def open(self, *, with_more: bool = False) -> None:
        """Show what is within, and ``with_more`` also what could be."""
        self.is_open = True
        self._has_more = self._has_more or with_more
        self._opened.add(self.pointer)
        await self._show_anew()

    async def close(self) -> None:
        """Show one line alone."""
        self.is_open = False
        self._opened.discard(self.pointer)
        await self._show_anew()

    async def _show_anew(self) -> None:
        await self.show(self.form.field(self.pointer) or self.field)

    def focus_to_type(self) -> bool:
        """Give the focus to the first empty field where one types, else to the first widget that takes it."""
        typed = [leaf for leaf in self.query(Leaf) if isinstance(leaf.editor, LineField | AreaField)]
        empty = [leaf for leaf in typed if not leaf.field.fixed and not self.form.text(leaf.field)]
        if not empty:
            return self.focus_first()
        # What must be there comes first, then what somebody says; nobody begins with an id.
        min(empty, key=lambda leaf: (not leaf.field.is_required, leaf.field.kind != "text")).editor.focus()
        return True

    def _node(self, field: Field, num_siblings: int) -> Node:
        if field.kind not in ("group", "list"):
            return Leaf(self.form, field)
        is_item = self.field.kind == "list"
        is_open = not is_item or num_siblings <= OPEN_MOST or field.pointer in self._opened
        kind = TurnNode if is_item and field.is_turn else GroupNode
        return kind(self.form, field, self._opened, is_item=is_item, is_open=is_open)

    def _visible_fields(self) -> list[Field]:
        """Return the fields to show: of a card, those that it has, must have, or has had while it was open.

        A long text, such as what is said in a turn, is what a card is for: it has its field in any case.
        """
        if not self.is_open:
            return []
        if self._has_more or self.field.kind == "list":
            return list(self.field.fields)
        fields = [
            field
            for field in self.field.fields
            if field.is_present or field.is_required or field.kind == "text" or field.pointer in self._revealed
        ]
        self._revealed.update(field.pointer for field in fields)
        return fields

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

    def _title(self) -> Text:
        field = self.field
        star = " *" if field.is_required and not self.is_item else ""
        text = Text.assemble((safe_text(field.name, 40).plain, "strong"), star, no_wrap=True)
        if field.kind == "list" and field.is_filled:
            text.append(f"  {counted(len(field.fields), 'turn')}", "muted")
        return text

    def _head(self) -> Text:
        field = self.field
        sign = "- " if self.is_open and field.is_filled else "+ "
        text = Text.assemble((sign, "key"), self._title(), no_wrap=True)
        if not field.is_filled:
            text.append(f" ({'null' if field.is_present else 'none'}; enter adds)", "muted")
        elif not self.is_open:
            texts = (
                part.value for part in field.walk() if part.kind in ("text", "line") and isinstance(part.value, str)
            )
            text.append_text(Text.assemble("  ", safe_text(next(texts, ""), _PREVIEW, style="muted")))
        text.append(f" {glyphs().rule * 4}", "muted")
        return text


class TurnNode(GroupNode):
    """A turn of a conversation: who speaks, and over the whole width what is said and called."""

    def _visible_fields(self) -> list[Field]:
        if not self.is_open:
            return []
        calls = self.field.inner("tool_calls")
        has_calls = calls is not None and bool(calls.value)
        parts = sorted(self.field.fields, key=_order_in_turn)
        return [part for part in parts if self._has_more or self._is_visible(part, has_calls=has_calls)]

    def _is_visible(self, part: Field, *, has_calls: bool) -> bool:
        if part.name == "content":
            return not has_calls or bool(part.value)
        # The head says these.
        is_in_head = part.name in ("name", "tool_call_id") or (
            part.name == "role" and part.kind in ("choice", "constant")
        )
        is_visible = (part.is_present and not is_in_head) or part.pointer in self._revealed
        if is_visible:
            # It stays when its text is typed away.
            self._revealed.add(part.pointer)
        return is_visible

    def _hidden_names(self, fields: Sequence[Field]) -> list[str]:
        return []

    def _node(self, field: Field, num_siblings: int) -> Node:
        if field.name in TRACES and field.kind == "text":
            return TraceNode(self.form, field)
        return Leaf(self.form, field, is_wide=True) if field.name == "content" else super()._node(field, num_siblings)

    def _title(self) -> Text:
        field = self.field
        role, name, answered = (field.inner(part) for part in ("role", "name", "tool_call_id"))
        said = str(role.value) if role and role.is_filled else "no role"
        text = Text.assemble((f"{safe_text(field.name, 9).plain} ", "strong"), safe_text(said, 30, style="accent"))
        if is_trained(field.value) and not self._is_prompt:
            text.append("  * trained", "ok")
        if name and name.is_filled:
            text.append_text(Text.assemble("  ", safe_text(str(name.value), 40)))
        if answered and answered.is_filled:
            text.append_text(Text.assemble(("  answers ", "muted"), safe_text(str(answered.value), 40, style="muted")))
        return text

    @property
    def _is_prompt(self) -> bool:
        # Of compared answers, the conversation before them is not learnt.
        view = self.form.shape.view
        messages = view.paths.get("messages") if view and view.has_answers else None
        return messages is not None and self.pointer.startswith(f"{pointer_of(messages)}/")


def _order_in_turn(field: Field) -> int:
    """Return where a part of a turn stands: the reasoning comes before what is said, as it is spoken."""
    return 0 if field.name == "role" else 1 if field.name in TRACES else 2 if field.name == "content" else 3
