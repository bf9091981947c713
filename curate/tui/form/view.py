"""The form of a record in a scrolling pane, with the form of its answer below where the category has a schema."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from curate.base.record import CurateError
from curate.sessions.edits import Answer, EditSession, answer_of
from curate.tui.border import safe_text
from curate.tui.chrome import TitleRule
from curate.tui.fields import update_if_other
from curate.tui.form.sheet import FormSheet

PAUSE = 0.15
"""Seconds without a key after which what was typed is judged."""


class FormView(Vertical):
    """Fields, a line of help on the one with the focus, and a line that says how things stand."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("pagedown", "scroll(1)", "Page down", id="edit.page_down", show=False),
        Binding("pageup", "scroll(-1)", "Page up", id="edit.page_up", show=False),
        Binding("i,enter", "type", "Type", id="edit.type", key_display="i"),
        Binding("tab", "type(1)", "Next field", id="edit.next_field", show=False),
        Binding("shift+tab", "type(-1)", "Previous field", id="edit.previous_field", show=False),
    ]
    DEFAULT_CSS = """
    FormView { height: 1fr; }
    FormView #fields { height: 1fr; scrollbar-size-vertical: 1; }
    FormView FormSheet, FormView #answer { height: auto; }
    FormView GroupNode { height: auto; width: 1fr; layout: vertical; }
    FormView Leaf { height: auto; width: 1fr; layout: horizontal; }
    FormView .within > Leaf, FormView .within > GroupNode, FormView .within > More { margin-left: 2; }
    FormView .within > ProblemLine { margin-left: 2; }
    FormView .name { width: 14; height: auto; }
    FormView ProblemLine { height: auto; width: 1fr; padding-left: 14; }
    FormView Head, FormView More { height: 1; width: 1fr; }
    FormView Head:focus, FormView More:focus { text-style: reverse; }
    FormView LineField { width: 1fr; background: $panel; }
    FormView LineField:disabled { background: $background; }
    FormView AreaField { width: 1fr; height: auto; padding: 0; min-height: 1; max-height: 12; background: $panel; }
    FormView MarkField { width: 1fr; height: auto; }
    FormView SelectField { width: 1fr; height: auto; }
    FormView #help { height: auto; max-height: 4; width: 1fr; padding: 0 1; }
    FormView #foot { height: 1; width: 1fr; }
    """

    class Changed(Message):
        """What is typed has changed, and nothing has been typed for a moment."""

    def __init__(self, edit: EditSession) -> None:
        super().__init__()
        self.edit = edit
        self.answer: Answer | None = None
        self.note = ""
        """What the last line says about the draft."""
        self.warning = ""
        self.has_finding = False
        """Whether the record was opened for a finding that stands above the form."""
        self._left: Widget | None = None
        self._timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Lay out the fields over the two lines."""
        with VerticalScroll(id="fields", can_focus=False):
            yield FormSheet(self.edit.form, id="line")
            yield Vertical(id="answer")
        yield Static(id="help")
        yield Static(id="foot")

    async def on_mount(self) -> None:
        """Judge what is there."""
        await self._examine()

    @property
    def sheet(self) -> FormSheet:
        """The fields of the record itself."""
        return self.query_one("#line", FormSheet)

    @property
    def is_typing(self) -> bool:
        """Whether something typed is not judged yet."""
        return self._timer is not None

    async def focus_pointer(self, pointer: str) -> bool:
        """Go to the field of ``pointer``, or the nearest one around it; return False where nothing takes the focus."""
        return await self.sheet.focus_pointer(pointer)

    async def focus_fault(self, pointer: str) -> bool:
        """Go to the text at fault at ``pointer``; return False where nothing takes the focus."""
        return await self.sheet.focus_fault(pointer)

    async def focus_unread_answer(self) -> None:
        """Go to the field of the answer's form that says nothing that can be saved."""
        form = self.answer.form if self.answer else None
        for pointer in list(form.typed)[:1] if form else ():
            await self.query_one("#answer FormSheet", FormSheet).focus_fault(pointer)

    # `esc` in a field leaves the field alone, and only a second one leaves the form.

    def leave_field(self) -> bool:
        """Take the focus out of the text field that has it, so that nothing is typed; return False where none has."""
        focused = self.screen.focused
        if not isinstance(focused, Input | TextArea) or self not in focused.ancestors:
            return False
        self._left, self.can_focus = focused, True
        self.focus()
        keys = Text.assemble(("i", "key"), " goes on typing here   ", ("esc", "key"), " leaves the form")
        self.query_one("#help", Static).update(keys)
        return True

    def on_blur(self) -> None:
        """Be no stop of the tab key: the form has the focus only between two fields."""
        self.can_focus = False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave `i`, `enter` and `tab` to the fields while one of them has the focus."""
        return self.has_focus if action == "type" else True

    def action_type(self, step: int = 0) -> None:
        """Go on in the field that was left, or in the one after or before it."""
        screen, field = self.screen, self._left
        if field is None or not field.is_attached:
            screen.focus_next()
            return
        screen.set_focus(field)
        if step:
            screen.focus_next() if step > 0 else screen.focus_previous()

    async def rebuild(self) -> None:
        """Show the record under edit as it is now: others may have changed it, or an editor."""
        await self.sheet.rebuild()
        await self._show_answer()
        self._show_foot()

    def unread_answer(self) -> str:
        """Return why the form of the answer says nothing that can be saved; empty where it does, or there is none."""
        form = self.answer.form if self.answer else None
        return "" if form is None else next((f"{name}: {typed.message}" for name, typed in form.typed.items()), "")

    def show_finding(self, *, has_finding: bool) -> None:
        """Say on the last line, too, that something is wrong which no schema tells of."""
        self.has_finding = has_finding
        self._show_foot()

    def tell(self, note: str) -> None:
        """Write about the draft on the last line."""
        self.note = note
        self._show_foot()

    def warn(self, warning: str) -> None:
        """Write a warning on the last line, or take it away."""
        self.warning = warning
        self._show_foot()

    async def on_form_sheet_edited(self, event: FormSheet.Edited) -> None:
        """Wait for a pause."""
        event.stop()
        if event.sheet is not self.sheet and self.answer is not None:
            self.answer.write(self.edit)
            await self.sheet.rebuild()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE, self.judge)

    def on_form_sheet_entered(self, event: FormSheet.Entered) -> None:
        """Help with the field that has the focus."""
        event.stop()
        field = event.sheet.form.nearest(event.pointer)
        help_text = ". ".join(filter(None, (field.fixed, field.bounds, field.help)))
        text = Text.assemble(safe_text(field.name, 30, style="strong"), "  ", safe_text(help_text, 300))
        update_if_other(self.query_one("#help", Static), text)

    async def judge(self) -> None:
        """Look at what was typed: what is wrong, and whether it asks for other fields."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        await self._examine()
        self.post_message(self.Changed())

    async def _examine(self) -> None:
        await self.sheet.judge()
        await self._show_answer()
        self._show_foot()

    def action_scroll(self, pages: int) -> None:
        """Scroll the fields."""
        fields = self.query_one("#fields", VerticalScroll)
        fields.scroll_relative(y=pages * max(1, fields.size.height - 1), animate=False)

    async def _show_answer(self) -> None:
        """Show the form of the answer, if its category has a schema."""
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
        status = (
            (f"! {num_problems} error{'' if num_problems == 1 else 's'}", "error") if num_problems else ("ok", "ok")
        )
        if self.has_finding and not num_problems:
            status = ("fits the schema, but see above", "warn")
        text = Text.assemble((" * required   ", "muted"), status)
        if self.warning:
            text.append_text(Text.assemble("   ", safe_text(self.warning, 60, style="error")))
        text.append_text(Text.assemble("   ", safe_text(self.note, 200, style="muted")))
        # Before it is laid out there is no such line yet, and then this is called again.
        for line in self.query("#foot").results(Static):
            update_if_other(line, text)
