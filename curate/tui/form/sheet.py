"""The fields of one form on the screen: what is typed goes into the form, and what the form then shows comes back."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget

from curate.door import parts_of, pointer_of
from curate.form import Form, place_in
from curate.record import Problem
from curate.tui.form.inputs import AreaField, Chosen, Picked, Typed
from curate.tui.form.nodes import Branch, Deed, Leaf, Node, ProblemLine


class Sheet(Vertical):
    """The widgets of a form."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("f8", "leave_out", "Leave out", id="edit.leave_out"),
        Binding("f9", "add_beside", "Add item", id="edit.add_beside"),
        Binding("f3,ctrl+z", "undo", "Undo typing", id="edit.undo_typing", show=False),
    ]

    class Edited(Message):
        """The value of the form, or what is typed in it, has changed."""

        def __init__(self, sheet: Sheet) -> None:
            super().__init__()
            self.sheet = sheet

    class Entered(Message):
        """The focus has come to the field at ``pointer``."""

        def __init__(self, sheet: Sheet, pointer: str) -> None:
            super().__init__()
            self.sheet = sheet
            self.pointer = pointer

    def __init__(self, form: Form, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.form = form
        self.opened: set[str] = set()
        """Cards of long lists that somebody has opened."""
        self._problems: dict[str, list[Problem]] = defaultdict(list)
        self._outline = form.root.outline
        self._visited: str | None = None

    def compose(self) -> ComposeResult:
        """Show the whole line."""
        yield self._root_node()

    @property
    def num_problems(self) -> int:
        """How many things are wrong."""
        return sum(map(len, self._problems.values()))

    async def judge(self) -> None:
        """Look anew for what is wrong and show it under each field."""
        self._problems = defaultdict(list)
        for told in self.form.problems():
            self._problems[told.pointer].append(told.problem)
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
        self._outline = self.form.root.outline
        with self.app.batch_update():
            root = self.children[0]
            if isinstance(root, Branch | Leaf) and root.field.look == self.form.root.look:
                await root.show(self.form.root)
            else:
                await self.remove_children()
                await self.mount(self._root_node())
            await self.judge()
        if pointer is not None and self.focused_pointer() != pointer:
            # The widget that had the focus is gone, and Textual has given it to another one.
            self.focus_node(pointer)

    async def take(self, form: Form) -> None:
        """Show another form."""
        self.form = form
        await self.rebuild()

    async def catch_up(self) -> None:
        """Show what has changed in kind since: called when somebody pauses."""
        if self.form.root.outline != self._outline:
            await self.rebuild()
        else:
            await self.judge()

    async def focus_pointer(self, pointer: str) -> bool:
        """Go to the field of ``pointer``, or the nearest one around it, opening what is closed on the way."""
        field = self.form.nearest(pointer)
        parts = parts_of(field.pointer)
        for length in range(len(parts) + 1):
            place = pointer_of(parts[:length])
            node = self.node(place)
            if node is None:
                break
            if isinstance(node, Branch) and length < len(parts):
                self.opened.add(place)
                following = pointer_of(parts[: length + 1])
                await node.open(with_more=all(one.pointer != following for one in node.query(Node)))
        if not self.focus_node(field.pointer):
            return False
        leaf = self.node(field.pointer)
        if isinstance(leaf, Leaf) and isinstance(leaf.editor, AreaField) and pointer != field.pointer:
            line, column = place_in(leaf.editor.text, pointer[len(field.pointer) :])
            leaf.editor.move_cursor((line - 1, column - 1))
        return True

    async def focus_fault(self, pointer: str) -> bool:
        """Go to the field of ``pointer`` as `focus_pointer` does; of a group or list, to the field that is missing."""
        is_there = await self.focus_pointer(pointer)
        node = self.node(self.form.nearest(pointer).pointer)
        return node.focus_to_type() if isinstance(node, Branch) else is_there

    def focus_node(self, pointer: str) -> bool:
        """Give the focus to the field at ``pointer``, else to the nearest one around it that is on the screen."""
        node = self._nearest_node(pointer)
        while node is not None and not node.focus_first():
            node = node.parent if isinstance(node.parent, Node) else None
        return node is not None

    def node(self, pointer: str) -> Node | None:
        """Return the node of ``pointer``, None where none is on the screen."""
        return next((node for node in self.query(Node) if node.pointer == pointer), None)

    def _root_node(self) -> Node:
        root = self.form.root
        return Branch(self, root) if root.kind in ("group", "list") else Leaf(self, root)

    def _nearest_node(self, pointer: str) -> Node | None:
        parts = parts_of(pointer)
        places = (pointer_of(parts[:length]) for length in range(len(parts), -1, -1))
        return next((node for place in places if (node := self.node(place)) is not None), None)

    def focused_pointer(self) -> str | None:
        """Return the pointer of the field that has the focus, None where none of this sheet has it."""
        focused = self.screen.focused
        if focused is None or self not in focused.ancestors:
            return None
        nodes = (one for one in focused.ancestors_with_self if isinstance(one, Node))
        node = next(nodes, None)
        return None if node is None else node.pointer

    def on_typed(self, event: Typed) -> None:
        """Put what was typed into the form."""
        event.stop()
        self.form.enter(event.pointer, event.text)
        self.post_message(self.Edited(self))

    async def on_picked(self, event: Picked) -> None:
        """Put what was picked into the form; it may ask for other fields."""
        event.stop()
        self.form.set(event.pointer, event.value)
        await self._changed()

    async def on_chosen(self, event: Chosen) -> None:
        """Take the form that was chosen."""
        event.stop()
        self.form.choose(event.pointer, event.number, event.index)
        await self._changed()
        self.focus_node(event.pointer)

    async def on_deed(self, event: Deed) -> None:
        """Do what a head was asked for."""
        event.stop()
        node = self.node(event.pointer)
        if isinstance(node, Branch):
            await getattr(self, f"_{event.deed}")(node)

    async def action_leave_out(self) -> None:
        """Take the key or item with the focus out of the line."""
        pointer = self.focused_pointer()
        if pointer is not None and self.form.leave_out(pointer):
            await self._changed()

    async def action_add_beside(self) -> None:
        """Add an item to the list that has the focus, or is nearest around it."""
        parts = parts_of(self.focused_pointer() or "")
        for length in range(len(parts), -1, -1):
            field = self.form.field(pointer_of(parts[:length]))
            if field is not None and field.kind == "list":
                await self._add_to(field.pointer)
                return

    async def action_undo(self) -> None:
        """Take back the last change of this sitting."""
        if self.form.undo():
            await self._changed()

    async def on_descendant_focus(self) -> None:
        """Tell where the focus is; a field that was left gets the widget that suits what is in it now."""
        pointer = self.focused_pointer()
        if pointer is None:
            return
        has_moved = self._visited not in (None, pointer)
        self._visited = pointer
        if has_moved and self.form.settle():
            await self.rebuild()
        self.post_message(self.Entered(self, pointer))

    async def _toggle(self, node: Branch) -> None:
        if not node.field.is_filled:
            self.form.begin(node.pointer)
            await self._changed()
            return
        if node.is_open:
            self.opened.discard(node.pointer)
            await node.close()
        else:
            self.opened.add(node.pointer)
            await node.open()

    async def _more(self, node: Branch) -> None:
        await node.open(with_more=True)

    async def _add(self, node: Branch) -> None:
        """Add an item: to a list, or to the list that a card is in."""
        if node.field.kind == "list":
            await self._add_to(node.pointer)
        elif node.is_item:
            await self._add_to(_above(node.pointer))

    async def _add_to(self, pointer: str) -> None:
        field = self.form.field(pointer)
        if field is None or not field.can_add:
            return
        added = self.form.add_item(pointer)
        self.opened.add(added)
        await self._changed()
        await self.focus_pointer(added)
        if isinstance(node := self.node(added), Branch):
            node.focus_to_type()

    async def _up(self, node: Branch) -> None:
        await self._move(node, -1)

    async def _down(self, node: Branch) -> None:
        await self._move(node, 1)

    async def _move(self, node: Branch, by: int) -> None:
        if node.is_item:
            place = int(parts_of(node.pointer)[-1])
            goal = self.form.move_item(_above(node.pointer), place, by)
            await self._changed()
            self.focus_node(f"{_above(node.pointer)}/{goal}")

    async def _remove(self, node: Branch) -> None:
        if node.is_item:
            self.form.remove_item(_above(node.pointer), int(parts_of(node.pointer)[-1]))
        elif not self.form.leave_out(node.pointer):
            return
        await self._changed()

    async def _changed(self) -> None:
        await self.rebuild()
        self.post_message(self.Edited(self))


def _above(pointer: str) -> str:
    return pointer.rsplit("/", 1)[0]
