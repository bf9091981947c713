"""The form of a record in a scrolling pane, with the form of its answer below where the category has a schema."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.reactive import var
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea
from textual.widgets.text_area import Selection

from curate.base.record import CurateError
from curate.base.tables import counted
from curate.sessions.edits import Answer, EditSession, answer_of
from curate.sessions.lines import LineEdit
from curate.tui.border import cut_middle, safe_text
from curate.tui.chrome import TitleRule
from curate.tui.screens.edit.inputs import AreaField, location_at
from curate.tui.screens.edit.nodes import Node
from curate.tui.screens.edit.sheet import FormSheet
from curate.tui.widgets import Panel, Pause, SafeInput

PAUSE = 0.15  # Seconds without a key after which what was typed is judged.


class FormView(Vertical):
    """Fields, a line of help on the one with the focus, and a line that says how things stand."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("pagedown", "scroll(1)", "Page down", id="edit.page_down", show=False),
        Binding("pageup", "scroll(-1)", "Page up", id="edit.page_up", show=False),
        Binding("i,enter", "type", "Type", id="edit.type", key_display="i"),
        Binding("tab", "type(1)", "Next field", id="edit.next_field"),
        Binding("shift+tab", "type(-1)", "Previous field", id="edit.previous_field", show=False),
        Binding("u", "undo", "Undo typing", id="edit.undo_change", show=False),
        Binding("U", "redo", "Redo typing", id="edit.redo_change", show=False),
        Binding("f12", "whole_screen", "Whole screen", id="edit.whole_screen"),
        Binding("ctrl+f", "find", "Find", id="edit.find", show=False),
    ]
    DEFAULT_CSS = """
    FormView { height: 1fr; }
    FormView #fields { height: 1fr; scrollbar-size-vertical: 1; }
    FormView FormSheet, FormView #answer { height: auto; }
    FormView GroupNode { height: auto; width: 1fr; layout: vertical; }
    FormView Leaf { height: auto; width: 1fr; layout: horizontal; }
    FormView .within > Leaf, FormView .within > GroupNode, FormView .within > More { margin-left: 2; }
    FormView .within > ProblemLine { margin-left: 2; }
    FormView .name { width: auto; min-width: 14; padding-right: 1; height: auto; }
    FormView TraceNode { layout: vertical; }
    FormView TraceNode AreaField { display: none; margin-left: 2; }
    FormView TraceNode.-open AreaField { display: block; }
    FormView ProblemLine { height: auto; width: 1fr; padding-left: 14; }
    FormView TurnNode > ProblemLine { padding-left: 0; }
    FormView Head, FormView More, FormView FoldLine { height: 1; width: 1fr; }
    FormView Head:focus, FormView More:focus, FormView FoldLine:focus { text-style: reverse; }
    FormView LineField { width: 1fr; background: $panel; }
    FormView LineField:disabled { background: $background; }
    FormView AreaField { width: 1fr; height: auto; padding: 0; min-height: 1; max-height: 12; background: $panel; }
    FormView MarkField { width: 1fr; height: auto; }
    FormView SelectField { width: 1fr; height: auto; }
    FormView #find { height: 1; border: none; padding: 0 1; display: none; background: $panel; }
    FormView #find.-open { display: block; }
    FormView.-whole FormSheet, FormView.-whole .-path { height: 1fr; }
    FormView.-whole #answer, FormView.-whole FormSheet Static, FormView.-whole Node { display: none; }
    FormView.-whole FormSheet .-path { display: block; margin: 0; max-height: 100%; }
    FormView #help { height: auto; max-height: 4; width: 1fr; padding: 0 1; }
    FormView #foot { height: 1; width: 1fr; }
    """

    note: var[str] = var("")  # What the last line says about the draft.
    warning: var[str] = var("")
    # Whether the record was opened for a finding that stands above the form, and that no schema tells of.
    has_finding: var[bool] = var(False)

    class Changed(Message):
        """What is typed has changed, and nothing has been typed for a moment."""

    def __init__(self, edit: EditSession) -> None:
        super().__init__()
        self.edit = edit
        self.answer: Answer | None = None
        self._left: Widget | None = None
        self._searched: AreaField | None = None  # The text that is looked through, or that has the whole screen.
        self._judging = Pause(self)

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="fields", can_focus=False):
            yield FormSheet(self.edit.form, is_new=self._is_begun_here, id="line")
            yield Vertical(id="answer")
        yield SafeInput(placeholder="find in this text: enter goes to the next place, esc back to the text", id="find")
        yield Panel(id="help")
        yield Panel(id="foot")

    async def on_mount(self) -> None:
        await self._examine()

    @property
    def _is_begun_here(self) -> bool:
        # A line of a file, or a row of an import, is no record yet either, but there is something in it.
        return self.edit.is_new and not isinstance(self.edit, LineEdit)

    @property
    def sheet(self) -> FormSheet:
        """The fields of the record itself."""
        return self.query_one("#line", FormSheet)

    async def find_unread_answer(self) -> str:
        """Go to the field of the answer's form that says nothing that can be saved; return why, empty where none is."""
        form = self.answer.form if self.answer else None
        for pointer, typed in list(form.typed.items())[:1] if form else ():
            await self.query_one("#answer FormSheet", FormSheet).focus_fault(pointer)
            return f"{pointer}: {typed.message}"
        return ""

    async def go_to_start(self) -> None:
        """Go to where the work is: to what is wrong, else to where one begins to type."""
        if self._is_begun_here or not await self.go_to_problem():
            await self.sheet.focus_pointer(self.edit.form.start())

    async def go_to_problem(self, after: str | None = None) -> bool:
        """Go to the first field with a problem, or the first one behind ``after``; return False where there is none."""
        faults = {fault.pointer for fault in self.edit.form.problems()}
        order = [field.pointer for field in self.edit.form.root.walk()]
        start = order.index(after) + 1 if after in order else 0
        pointer = next((pointer for pointer in (*order[start:], *order) if pointer in faults), None)
        return pointer is not None and await self.sheet.focus_fault(pointer)

    # One text on the whole screen, and words looked for in it.

    def action_whole_screen(self) -> None:
        """Give the text that has the focus all of the form's room, or show the form again."""
        area = self.screen.focused
        if self.close_field(but_find=True) or not isinstance(area, AreaField):
            return
        self._searched = area
        for node in area.ancestors_with_self:
            if node is self:
                break
            if isinstance(node, Node | AreaField):
                node.add_class("-path")
        self.add_class("-whole")

    def action_find(self) -> None:
        area = self.screen.focused
        field = self.query_one("#find", SafeInput)
        if isinstance(area, AreaField):
            self._searched = area
            field.add_class("-open")
            field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        area = self._searched
        if event.input.id != "find" or area is None or not event.value:
            return
        event.stop()
        text, wanted = area.text, re.compile(re.escape(event.value), re.IGNORECASE)
        spans = [[location_at(text, index) for index in match.span()] for match in wanted.finditer(text)]
        number = next((number for number, (start, _) in enumerate(spans) if start >= max(area.selection)), 0)
        if spans:
            area.selection = Selection(*spans[number])
            self.query_one("#fields", VerticalScroll).scroll_to_widget(area, animate=False)
        found = f"{number + 1:,} of {len(spans):,}" if spans else "nowhere in this text"
        self.query_one("#help", Panel).show(Text.assemble(safe_text(event.value, 40, style="strong"), f"  {found}"))

    def close_field(self, *, but_find: bool = False) -> bool:
        """Close the line that finds, else the whole screen of a text; return False where neither is open."""
        find = self.query_one("#find", SafeInput)
        is_finding, area = find.has_class("-open"), self._searched
        if is_finding and not but_find:
            find.remove_class("-open")
        elif self.has_class("-whole"):
            self.remove_class("-whole")
            self.query(".-path").remove_class("-path")
        else:
            return False
        if area is not None and area.is_attached:
            area.focus()
        return True

    def leave_field(self) -> bool:
        """Take the focus out of the text field that has it, so that nothing is typed; return False where none has."""
        focused = self.screen.focused
        if not isinstance(focused, Input | TextArea) or self not in focused.ancestors:
            return False
        self._left, self.can_focus = focused, True
        self.focus()
        keys = Text.assemble(("i", "key"), " goes on typing here   ", ("g", "key"), " another screen")
        self.query_one("#help", Panel).show(keys)
        return True

    def on_blur(self) -> None:
        # Be no stop of the tab key: the form has the focus only between two fields.
        self.can_focus = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Leave `i`, `enter` and `tab` to the fields while one of them has the focus, and undo to the app where nothing
        # is typed that is not saved: it takes decisions back.
        if action in ("undo", "redo"):
            return self.edit.is_changed
        if action in ("whole_screen", "find"):
            return self.has_class("-whole") or isinstance(self.screen.focused, AreaField)
        return self.has_focus or bool(parameters) if action == "type" else True

    async def action_undo(self) -> None:
        await self.sheet.action_undo()

    async def action_redo(self) -> None:
        await self.sheet.action_redo()

    def action_type(self, step: int = 0) -> None:
        screen, field = self.screen, self._left
        is_between = self.has_focus and field is not None and field.is_attached
        if is_between:
            screen.set_focus(field)
        if step or not is_between:
            screen.focus_previous() if step < 0 else screen.focus_next()

    async def rebuild(self) -> None:
        """Show the record under edit as it is now: others may have changed it, or an editor."""
        await self.sheet.rebuild()
        await self._show_answer()
        self._show_foot()

    async def on_form_sheet_edited(self, event: FormSheet.Edited) -> None:
        event.stop()
        if event.sheet is not self.sheet and self.answer is not None:
            self.answer.write(self.edit)
            await self.sheet.rebuild()
        self._judging.begin(PAUSE, self.judge)

    def on_form_sheet_entered(self, event: FormSheet.Entered) -> None:
        event.stop()
        field = event.sheet.form.nearest(event.pointer)
        help_text = ". ".join(filter(None, (field.fixed, field.bounds, field.help)))
        text = Text.assemble(safe_text(field.name, 30, style="strong"), "  ", safe_text(help_text, 300))
        self.query_one("#help", Panel).show(text)
        self._show_foot()

    async def judge(self, *, is_finished: bool = False) -> None:
        """Look at what was typed: what is wrong, and whether it asks for other fields."""
        self._judging.end()
        await self._examine(is_finished=is_finished)
        self.post_message(self.Changed())

    async def _examine(self, *, is_finished: bool = False) -> None:
        await self.sheet.judge(is_finished=is_finished)
        await self._show_answer()
        self._show_foot()

    def action_scroll(self, pages: int) -> None:
        fields = self.query_one("#fields", VerticalScroll)
        fields.scroll_relative(y=pages * max(1, fields.size.height - 1), animate=False)

    async def _show_answer(self) -> None:
        note, before = "", self.answer
        try:
            self.answer = answer_of(self.edit, before)
        except CurateError as error:
            self.answer, note = None, f"{error.code}: {error.message}"
        has_changed = self.answer is not None and self.answer.read(self.edit)
        if self.answer is not None and self.answer.form is None:
            note = f"the answer is no JSON; it is to fit {self.answer.shape.name}"
        sheets = self.query("#answer FormSheet").results(FormSheet)
        if self.answer is before and not has_changed and not note:
            for sheet in sheets:
                await sheet.judge()
            return
        box = self.query_one("#answer", Vertical)
        await box.remove_children()
        if self.answer is not None or note:
            name = self.answer.shape.name if self.answer is not None else "schema"
            await box.mount(TitleRule(Text.assemble("answer as a form: ", safe_text(name, 30))))
        if note:
            await box.mount(Static(Text.assemble(("~ warn ", "warn"), safe_text(note, 200))))
        elif self.answer is not None and self.answer.form is not None:
            sheet = FormSheet(self.answer.form)
            await box.mount(sheet)
            await sheet.judge()

    def _show_foot(self) -> None:
        num_problems = sum(sheet.num_problems for sheet in self.query(FormSheet))
        num_unfilled = sum(sheet.num_unfilled for sheet in self.query(FormSheet))
        status = ("fits the schema, but see above", "warn") if self.has_finding else ("ok", "ok")
        if num_problems:
            status = (f"! {counted(num_problems, 'error')}", "error")
        elif num_unfilled:
            status = (f"{num_unfilled:,} to fill in", "warn")
        text = Text.assemble((" * required   ", "muted"), status)
        if self.warning:
            text.append_text(Text.assemble("   ", safe_text(self.warning, 60, style="error")))
        text.append_text(
            Text.assemble("   ", safe_text(self.note, 200, style="error" if self.note.startswith("!") else "muted"))
        )
        # Before it is laid out there is no such line yet, and then this is called again.
        for line in self.query("#foot").results(Panel):
            line.show(text)

    watch_note = watch_warning = watch_has_finding = _show_foot


_MOST_DRAFTS = 8
_NARROWEST = 8  # Cells that are left of a record's name.

# What keys of the form say where the cursor is not in what they are for.
NEEDS = {
    "turn": ("No turn of a conversation has the cursor.", "f5 adds a call of a tool to a turn, f6 changes its role."),
    "list": ("No list has the cursor.", "f9 adds an item to one, or the turn that follows."),
    "text": (
        "No text of several lines has the cursor.",
        "tab goes to the next field, f2 from the preview to the form.",
    ),
}
FALLBACKS = [
    Binding("f9", "refuse('list')", "Add next", id="edit.add_beside", show=False),
    Binding("f6", "refuse('turn')", "Role", id="edit.role", show=False),
    Binding("f5", "refuse('turn')", "Tool call", id="edit.add_call", show=False),
    Binding("f12", "refuse('text')", "Whole screen", id="edit.whole_screen", show=False),
    Binding("ctrl+f", "refuse('text')", "Find", id="edit.find", show=False),
]


def draft_note(edit: EditSession) -> str:
    """Return what is to be said of the draft."""
    if not edit.is_changed:
        return ""
    return "! draft not saved" if edit.is_draft_unwritten else "draft kept"


HELP = """
Each field is one value of the record; `tab` goes to the next. What is wrong stands under its field, and nothing is
saved until nothing is. What you type is kept as a draft in `.curate/drafts` from one second to the next.

A conversation is a list of turns: `f9` adds the next one with the role that follows, `f6` changes the role, `f5` adds a
tool call. A turn takes letters while it has the focus: `enter` opens and closes it, `a` adds one, `K` and `J` move it,
`x` takes it out, `m` shows its other fields. `f8` removes the field with the focus; where it may be null, null comes
first. `ctrl+z` or `f3` takes back what you typed, `ctrl+y` makes it again. `f12` gives a text the whole screen,
`ctrl+f` finds in it. `f7` saves and opens the next record of the list, `ctrl+r` says what can be done about a
finding.

Characters that a terminal must not see stand as `<U+202E>`: typed so in such a field, they are the character. Lists,
objects and calls of tools stand as JSON, with the same checks.

`f4` hands the whole record to your own editor as TOML, `E` as JSON. Records above 256 KB can be edited only there.
What is no JSON is shown as the text that it is, with what is wrong below it; a byte that is no text stands as `<0xFF>`.
A line that is no record yet, opened from Validate, is saved into its file; no undo takes that back.
"""


def title(edit: EditSession | None, schema: str, position: str, width: int) -> Text:
    """Return the line above the form, in ``width`` cells; ``position`` says where in its list the record stands.

    Where not all of it fits, the schema is left out first, and then the middle of the record's name.
    """
    about = Text.assemble("   ", safe_text(position, 40)) if position else Text("")
    about_schema = Text.assemble("   schema ", safe_text(schema, 30))
    head, state, name = Text(" FORM", "strong"), Text(""), ""
    if edit is not None:
        what = "line " if edit.is_line else "a new record" if edit.is_new else "record "
        head = Text.assemble(head, "  ", what)
        state = Text(f"  {edit.split}" if edit.split else "", "warn" if "frozen" in edit.split else "dim")
        state.append("  edited" if edit.is_changed else "", "warn")
        name = "" if edit.is_new and not edit.is_line else cut_middle(edit.name, 40)
    room = width - head.cell_len - state.cell_len - about.cell_len
    if cell_len(name) + about_schema.cell_len <= room:
        about.append_text(about_schema)
    elif cell_len(name) > room:
        name = cut_middle(name, max(_NARROWEST, room))
    return Text.assemble(head, (name, "accent"), state, about)


def without_form(edit: EditSession) -> Text:
    """Return why the record that is open is not shown, and what can be done."""
    text = Text("This record is larger than 256 KB. Edit it in your own editor: f4.\n", "warn")
    return text.append_text(safe_text(edit.take(edit.text)[0], 200)) if edit.text else text


def nothing_open(drafts: Sequence[str]) -> Text:
    """Return what can be opened; ``drafts`` are the names of records that have one, the newest first."""
    text = Text("n  new record      : and its id, or e in Browse, opens one\n")
    if drafts:
        text.append("\no  goes on with the newest of your drafts:\n")
    for name in drafts[:_MOST_DRAFTS]:
        text.append_text(Text.assemble("   ", safe_text(name, 60), "\n"))
    return text
