"""The fields of one form on the screen: what is typed goes into the form, and what the form then shows comes back."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.message import Message

from curate.base.record import Problem
from curate.jsonl import parts_of, pointer_of
from curate.schema.form import Field, Form, position_in
from curate.tui.screens.edit.inputs import AreaField, TextTyped, ValuePicked
from curate.tui.screens.edit.nodes import GroupNode, Leaf, Node, NodeWish, ProblemLine, TraceNode

if TYPE_CHECKING:
    from curate.tui.context import HostApp


class FormSheet(Vertical):
    """The widgets of a form."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("f8", "leave_out", "Remove field", id="edit.leave_out", show=False),
        Binding("f9", "add_item", "Add next", id="edit.add_beside"),
        Binding("f6", "next_role", "Role", id="edit.role"),
        Binding("f5", "add_call", "Tool call", id="edit.add_call"),
        Binding("f3,ctrl+z", "undo", "Undo typing", id="edit.undo_typing", show=False),
        Binding("ctrl+y", "redo", "Redo typing", id="edit.redo_typing", show=False),
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

    def __init__(self, form: Form, *, is_new: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.form = form
        self._opened: set[str] = set()
        # By pointer; none where it is of a part that was begun here, and that nobody has been in yet.
        self._problems: dict[str, list[Problem]] = {}
        self._begun = {""} if is_new else set()
        self._left: set[str] = set()
        self._visited: str | None = None

    def compose(self) -> ComposeResult:
        yield self._root_node()

    @property
    def num_problems(self) -> int:
        """How many things are wrong."""
        return sum(map(len, self._problems.values()))

    @property
    def num_unfilled(self) -> int:
        """How many parts have still to be filled in."""
        return sum(not problems for problems in self._problems.values())

    async def judge(self, *, is_finished: bool = False) -> None:
        """Look anew for what is wrong and show it under each field; what ``is_finished`` has no empty parts."""
        if is_finished:
            self._begun.clear()
        self._problems = defaultdict(list)
        for fault in self.form.problems():
            problems = self._problems[fault.pointer]
            if not self._is_untouched(fault.pointer):
                problems.append(fault.problem)
        await self._show_problems()

    def _is_untouched(self, pointer: str) -> bool:
        is_begun = any(f"{pointer}/".startswith(f"{begun}/") for begun in self._begun)
        return is_begun and not any(f"{left}/".startswith(f"{pointer}/") for left in self._left)

    async def _show_problems(self) -> None:
        nodes = {pointer: self._nearest_node(pointer) for pointer in self._problems}
        within = {pointer: pointer[len(node.pointer) :] for pointer, node in nodes.items() if node is not None}
        waiting = dict(self._problems)
        for line in self.query(ProblemLine):
            if (line.problems, line.within) == (waiting.get(line.pointer), within.get(line.pointer)):
                del waiting[line.pointer]
            else:
                await line.remove()
        for pointer, problems in waiting.items():
            node = nodes[pointer]
            if node is not None and (problems or pointer):
                await node.mount_problem(ProblemLine(pointer, problems, within[pointer]))

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
        field = self.form.nearest(pointer)
        parts = parts_of(field.pointer)
        for length in range(len(parts)):
            node = self.node(pointer_of(parts[:length]))
            if isinstance(node, GroupNode):
                following = pointer_of(parts[: length + 1])
                await node.open()
                if not any(f"{part.pointer}/".startswith(f"{following}/") for part in node.query(Node)):
                    await node.open(with_more=True)
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
        self._left.add(event.pointer)
        self.form.enter(event.pointer, event.text, ends_word=event.ends_word)
        self.post_message(self.Edited(self))

    async def on_value_picked(self, event: ValuePicked) -> None:
        event.stop()
        self._left.add(event.pointer)
        self.form.set(event.pointer, event.value)
        await self._changed()

    async def on_node_wish(self, event: NodeWish) -> None:
        event.stop()
        node = self.node(event.pointer)
        if isinstance(node, TraceNode):
            node.toggle()
        if not isinstance(node, GroupNode):
            return
        match event.wish:
            case "more":
                await node.open(with_more=True)
            case "toggle" if node.field.is_filled:
                await (node.close() if node.is_open else node.open())
                await self._show_problems()
            case "toggle" if node.field.kind == "list":
                await self._go_to_added(self.form.add_turn(node.pointer))
            case "toggle":
                self.form.set(node.pointer, {})
                await self._changed()
            case "add":
                await self.action_add_item()
            case "up" | "down" if node.is_item:
                goal = self.form.move_turn(node.pointer, -1 if event.wish == "up" else 1)
                await self._changed()
                self.focus_node(goal)
            case "remove":
                if self.form.leave_out(node.pointer):
                    await self._changed()
                    cast("HostApp", self.app).tell(f"took out {node.field.name} (u brings it back)")

    async def action_leave_out(self) -> None:
        pointer = self.focused_pointer()
        if pointer is not None and self.form.leave_out(pointer):
            await self._changed()
        elif pointer is not None:
            self._refuse("There is nothing here that can be removed.")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("next_role", "add_call"):
            return bool(self._turn())
        return bool(self._turn() or self._list_around()) if action == "add_item" else True

    async def action_next_role(self) -> None:
        if turn := self._turn():
            self.form.next_role(turn)
            await self._changed()

    async def action_add_call(self) -> None:
        """Add a call to the turn with the focus, and go to its JSON."""
        called = self.form.add_call(turn) if (turn := self._turn()) else ""
        if not called:
            self._refuse("Only an assistant's turn calls tools.", "f6 changes the role of the turn.")
            return
        await self._changed()
        await self.focus_pointer(f"{called}/function/name")

    def _turn(self) -> str:
        """Return the pointer of the turn that has the focus, empty where none has it."""
        fields = self.form.around(self.focused_pointer() or "")
        return next((field.pointer for field in fields if field.is_turn), "")

    def _list_around(self) -> Field | None:
        """Return the list that has the focus, None where none has it."""
        fields = self.form.around(self.focused_pointer() or "")
        return next((field for field in fields if field.kind == "list"), None)

    def _refuse(self, why: str, remedy: str = "") -> None:
        cast("HostApp", self.app).tell(why, "warn", remedy)

    async def action_add_item(self) -> None:
        if turn := self._turn():
            await self._go_to_added(self.form.add_next_turn(turn))
        elif (field := self._list_around()) is not None:
            await self._go_to_added(self.form.add_turn(field.pointer))

    async def action_undo(self) -> None:
        if self.form.undo():
            cast("HostApp", self.app).clear_message()
            await self._changed()

    async def action_redo(self) -> None:
        if self.form.redo():
            await self._changed()

    async def on_descendant_focus(self) -> None:
        # Tell where the focus is; what is missing in a field that was left is an error from now on.
        pointer = self.focused_pointer()
        if pointer is None:
            return
        left, self._visited = self._visited, pointer
        if left not in (None, pointer):
            self._left.add(left)
            if self._begun:
                await self.judge()
        self.post_message(self.Entered(self, pointer))

    async def _go_to_added(self, added: str) -> None:
        self._opened.add(added)
        self._begun.add(added)
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
