"""The fields of one form on the screen: what is typed goes into the form, and what the form then shows comes back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.events import Click
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from curate.base.record import Problem
from curate.base.tables import counted
from curate.jsonl import parts_of, pointer_of
from curate.schema.form import Field, Form, position_in
from curate.tui.border import glyphs, safe_text
from curate.tui.screens.edit.inputs import (
    AreaField,
    LineField,
    MarkField,
    SelectField,
    TextTyped,
    ValuePicked,
    editor_of,
)
from curate.tui.widgets import Panel

OPEN_MOST = 12  # Lists of more items show each as one line until it is opened: every text area costs time to draw.
_NAME = 13
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
    """What is wrong with the field above."""

    def __init__(self, pointer: str, problems: list[Problem]) -> None:
        texts = [Text.assemble(("! error ", "error"), safe_text(problem.message, 200)) for problem in problems]
        super().__init__(Text("\n").join(texts))
        self.pointer = pointer
        self.problems = problems


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


class Leaf(Node):
    """The name of a field, and the widget to edit it with."""

    def compose(self) -> ComposeResult:
        star = " *" if self.field.is_required else ""
        name = safe_text(self.field.name, _NAME - len(star), style="" if self.field.is_known else "warn")
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
        for leaf in self.query(Leaf):
            if not leaf.field.is_present and isinstance(leaf.editor, LineField | AreaField):
                leaf.editor.focus()
                return True
        return self.focus_first()

    def _node(self, field: Field, num_siblings: int) -> Node:
        if field.kind not in ("group", "list"):
            return Leaf(self.form, field)
        is_item = self.field.kind == "list"
        is_open = not is_item or num_siblings <= OPEN_MOST or field.pointer in self._opened
        return GroupNode(self.form, field, self._opened, is_item=is_item, is_open=is_open)

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

    def _head(self) -> Text:
        field = self.field
        star = " *" if field.is_required and not self.is_item else ""
        sign = "- " if self.is_open and field.is_filled else "+ "
        text = Text.assemble((sign, "key"), (safe_text(field.name, 40).plain, "strong"), star, no_wrap=True)
        if field.kind == "list" and field.is_filled:
            text.append(f"  {counted(len(field.fields), 'item')}", "muted")
        if field.summary:
            text.append_text(Text.assemble(" ", safe_text(field.summary, 30, style="accent")))
        if not field.is_filled:
            text.append(f" ({'null' if field.is_present else 'none'}; enter adds)", "muted")
        elif not self.is_open:
            texts = (
                part.value for part in field.walk() if part.kind in ("text", "line") and isinstance(part.value, str)
            )
            text.append_text(Text.assemble("  ", safe_text(next(texts, ""), _PREVIEW, style="muted")))
        text.append(f" {glyphs().rule * 4}", "muted")
        return text


class FormSheet(Vertical):
    """The widgets of a form."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("f8", "leave_out", "Remove field", id="edit.leave_out"),
        Binding("f9", "add_item", "Add item", id="edit.add_beside"),
        Binding("f3,ctrl+z", "undo", "Undo typing", id="edit.undo_typing", show=False),
    ]

    class Edited(Message):
        """The value of the form, or what is typed in it, has changed."""

        def __init__(self, sheet: FormSheet) -> None:
            super().__init__()
            self.sheet = sheet

    class Entered(Message):
        """The focus has come to the field at ``pointer``."""

        def __init__(self, sheet: FormSheet, pointer: str) -> None:
            super().__init__()
            self.sheet = sheet
            self.pointer = pointer

    def __init__(self, form: Form, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.form = form
        self._opened: set[str] = set()
        self._problems: dict[str, list[Problem]] = {}
        self._visited: str | None = None

    def compose(self) -> ComposeResult:
        yield self._root_node()

    @property
    def num_problems(self) -> int:
        """How many things are wrong."""
        return sum(map(len, self._problems.values()))

    async def judge(self) -> None:
        """Look anew for what is wrong and show it under each field."""
        self._problems = defaultdict(list)
        for fault in self.form.problems():
            self._problems[fault.pointer].append(fault.problem)
        waiting = dict(self._problems)
        for line in self.query(ProblemLine):
            if line.problems != waiting.pop(line.pointer, None):
                await line.remove()
                waiting[line.pointer] = self._problems.get(line.pointer, [])
        for pointer, problems in waiting.items():
            node = self._nearest_node(pointer)
            if problems and node is not None and isinstance(node.parent, Widget):
                await node.parent.mount(ProblemLine(pointer, problems), after=node)

    async def rebuild(self) -> None:
        """Show the fields that the form has now; widgets that fit stay, and with them the cursor."""
        pointer = self.focused_pointer()
        with self.app.batch_update():
            node = self.children[0]
            if isinstance(node, Node) and node.field.widget == self.form.root.widget:
                await node.show(self.form.root)
            else:
                await self.remove_children()
                await self.mount(self._root_node())
            await self.judge()
        if pointer is not None and self.focused_pointer() != pointer:
            # The widget that had the focus is gone, and Textual has given it to another one.
            self.focus_node(pointer)

    async def focus_pointer(self, pointer: str) -> bool:
        """Go to the field of ``pointer``, or the nearest one around it, opening what is closed on the way.

        Of a group or list nothing is typed into, so the cursor waits on its head. Return False where nothing takes the
        focus.
        """
        await self._settle()
        field = self.form.nearest(pointer)
        parts = parts_of(field.pointer)
        for length in range(len(parts)):
            node = self.node(pointer_of(parts[:length]))
            if isinstance(node, GroupNode):
                following = pointer_of(parts[: length + 1])
                await node.open(with_more=all(part.pointer != following for part in node.query(Node)))
        if not self.focus_node(field.pointer):
            return False
        leaf = self.node(field.pointer)
        if isinstance(leaf, Leaf) and isinstance(leaf.editor, AreaField) and pointer != field.pointer:
            line, column = position_in(leaf.editor.text, pointer[len(field.pointer) :])
            leaf.editor.move_cursor((line - 1, column - 1))
        return True

    async def focus_fault(self, pointer: str) -> bool:
        """Go to the field of ``pointer`` as `focus_pointer` does; of a group or list, to the field that is missing."""
        is_there = await self.focus_pointer(pointer)
        node = self.node(self.form.nearest(pointer).pointer)
        return node.focus_to_type() if isinstance(node, GroupNode) else is_there

    def focus_node(self, pointer: str) -> bool:
        """Give the focus to the field at ``pointer``, else to the nearest one around it that is on the screen."""
        node = self._nearest_node(pointer)
        while node is not None and not node.focus_first():
            node = node.parent if isinstance(node.parent, Node) else None
        return node is not None

    def node(self, pointer: str) -> Node | None:
        """Return the node of ``pointer``, None where none is on the screen."""
        return next((node for node in self.query(Node) if node.pointer == pointer), None)

    def focused_pointer(self) -> str | None:
        """Return the pointer of the field that has the focus, None where none of this sheet has it."""
        focused = self.screen.focused
        if focused is None or self not in focused.ancestors:
            return None
        return next((node.pointer for node in focused.ancestors_with_self if isinstance(node, Node)), None)

    def on_text_typed(self, event: TextTyped) -> None:
        event.stop()
        self.form.enter(event.pointer, event.text)
        self.post_message(self.Edited(self))

    async def on_value_picked(self, event: ValuePicked) -> None:
        event.stop()
        self.form.set(event.pointer, event.value)
        await self._changed()

    async def on_node_wish(self, event: NodeWish) -> None:
        event.stop()
        await self._settle()
        node = self.node(event.pointer)
        if not isinstance(node, GroupNode):
            return
        match event.wish:
            case "more":
                await node.open(with_more=True)
            case "toggle" if node.field.is_filled:
                await (node.close() if node.is_open else node.open())
            case "toggle":
                self.form.begin(node.pointer)
                await self._changed()
            case "add":
                await self._add_item(node.pointer if node.field.kind == "list" else _above(node.pointer))
            case "up" | "down" if node.is_item:
                by = -1 if event.wish == "up" else 1
                goal = self.form.move_item(_above(node.pointer), int(parts_of(node.pointer)[-1]), by)
                await self._changed()
                self.focus_node(f"{_above(node.pointer)}/{goal}")
            case "remove" if self.form.leave_out(node.pointer):
                await self._changed()

    async def action_leave_out(self) -> None:
        pointer = self.focused_pointer()
        if pointer is not None and self.form.leave_out(pointer):
            await self._changed()

    async def action_add_item(self) -> None:
        parts = parts_of(self.focused_pointer() or "")
        around = (self.form.field(pointer_of(parts[:length])) for length in range(len(parts), -1, -1))
        pointer = next((field.pointer for field in around if field is not None and field.kind == "list"), None)
        if pointer is not None:
            await self._add_item(pointer)

    async def action_undo(self) -> None:
        if self.form.undo():
            await self._changed()

    async def on_descendant_focus(self) -> None:
        # Tell where the focus is; a field that was left gets the widget that suits what is in it now.
        pointer = self.focused_pointer()
        if pointer is None:
            return
        has_moved = self._visited not in (None, pointer)
        self._visited = pointer
        if has_moved:
            await self._settle()
        self.post_message(self.Entered(self, pointer))

    async def _settle(self) -> None:
        """Let the fields know what was typed since they were made, and be of the kind that suits it."""
        if self.form.settle():
            await self.rebuild()

    async def _add_item(self, pointer: str) -> None:
        field = self.form.field(pointer)
        if field is None or field.kind != "list" or not field.can_add:
            return
        added = self.form.add_item(pointer)
        self._opened.add(added)
        await self._changed()
        await self.focus_pointer(added)
        if isinstance(node := self.node(added), GroupNode):
            node.focus_to_type()

    async def _changed(self) -> None:
        await self.rebuild()
        self.post_message(self.Edited(self))

    def _root_node(self) -> Node:
        root = self.form.root
        is_group = root.kind in ("group", "list")
        return GroupNode(self.form, root, self._opened) if is_group else Leaf(self.form, root)

    def _nearest_node(self, pointer: str) -> Node | None:
        parts = parts_of(pointer)
        around = (self.node(pointer_of(parts[:length])) for length in range(len(parts), -1, -1))
        return next((node for node in around if node is not None), None)


def _above(pointer: str) -> str:
    return pointer.rpartition("/")[0]
