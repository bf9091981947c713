"""Edit: write a record, or change one, in a form made from its schema."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical

from curate.base.console import typed
from curate.base.record import CurateError, Finding, canonical
from curate.project.drafts import Drafts
from curate.sessions.answer_drafts import put_answer
from curate.sessions.edits import (
    CHANGED_MEANWHILE,
    NOTHING_CHANGED,
    EditSession,
    copied_edit,
    field_of,
    new_edit,
    open_edit,
)
from curate.sessions.lines import RowEdit
from curate.sessions.opening import open_any
from curate.sessions.own_editor import edited
from curate.tui.border import safe_line
from curate.tui.remedies import offer_remedies
from curate.tui.screen import ProjectScreen, empty
from curate.tui.screens.edit.finding import FindingLine
from curate.tui.screens.edit.proposal import Answerer
from curate.tui.screens.edit.raw import RawText
from curate.tui.screens.edit.side import VIEWS, EditSide
from curate.tui.screens.edit.view import FALLBACKS, HELP, NEEDS, FormView, draft_note, nothing_open, title, without_form
from curate.tui.widgets import Panel, Pause

if TYPE_CHECKING:
    from curate.base.events import Proposal
    from curate.tui.context import Listing

KEEP = 1.0  # Seconds after the last key until what is typed is written to the draft.
TWO_PANES = 140  # Columns from which a conversation has room for the other pane beside it.


class EditScreen(ProjectScreen):
    """One record, its form, and what it looks like."""

    NAME, TITLE = "edit", "Edit"
    HELP = HELP
    BINDINGS: ClassVar[list[Any]] = [
        Binding("ctrl+s,W", "save", "Save", id="edit.save"),
        Binding("f7", "save_and_next", "Save + next", id="edit.save_and_next"),
        Binding("ctrl+r", "remedy", "Remedies", id="edit.remedy"),
        Binding("f4", "editor", "$EDITOR", id="edit.editor"),
        Binding("E", "editor(True)", "$EDITOR, JSON", id="edit.editor_json", show=False),
        Binding("f2", "next_view", "Chat/JSON", id="edit.view"),
        Binding("n", "new", "New", id="edit.new"),
        Binding("ctrl+n", "save_and_new", "Save + new", id="edit.save_and_new", show=False),
        Binding("c", "copy", "Duplicate", id="edit.copy"),
        Binding("D", "discard", "Discard draft", id="edit.discard", show=False),
        Binding("p", "next_problem", "Next problem", id="edit.problem"),
        Binding("ctrl+g", "propose", "Ask a model", id="edit.propose"),
        Binding("o", "resume", "Last draft", id="edit.resume", show=False),
        *FALLBACKS,
    ]
    DEFAULT_CSS = """
    EditScreen #form.main { width: 3fr; } EditScreen EditSide { width: 2fr; }
    EditScreen.-solo .side, EditScreen.-solo.-side #form.main { display: none; }
    EditScreen.-solo.-side .side { display: block; width: 1fr; border-left: none; padding-left: 0; }
    EditScreen #title { height: 1; width: 1fr; } EditScreen #nothing { padding: 1 2; }
    EditScreen #finding { height: auto; max-height: 5; width: 1fr; display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.edit: EditSession | None = None
        self._listing: Listing | None = None  # The list that the record was opened from.
        self._opened: dict[str, Any] = {}  # What `arrive` was called with for the entry of the list.
        self._following: dict[str, Any] | None = None  # What to open once a line is written.
        self._is_resting = False  # Whether the record that is being opened gets no cursor in a text.
        self._saving_draft = Pause(self)
        self._waiting: dict[str, Any] | None = None
        self._side = EditSide()
        self._num_shows = 0
        self._answerer = Answerer()
        self._show_lock = asyncio.Lock()

    def compose_body(self) -> ComposeResult:
        with Horizontal():
            with Vertical(classes="main pane", id="form"):
                yield Panel(id="title")
                yield FindingLine(id="finding")
                yield Panel(id="nothing")
            yield self._side

    def ready(self) -> None:
        self._side.ready(self.project)
        self._say_nothing_open()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.arrive(**waiting)

    @property
    def is_narrow(self) -> bool:
        """Whether there is room for one pane only: nobody is to type a conversation in a third of the screen."""
        return super().is_narrow or self.has_class("-solo")

    def on_resize(self) -> None:
        self._share_width()
        if self.app.has_project:
            self.call_after_refresh(self._show_title)

    def arrive(
        self, *, pointer: str = "", finding: Finding | None = None, listing: Listing | None = None,
        answer: str | None = None, answered: Proposal | None = None, **what: Any,
    ) -> None:  # fmt: skip
        """Open what `open_any` knows.

        With ``finding`` that is what the record is opened for: it stands above the form, and the cursor in its field.
        f7 goes on in ``listing``. ``answer`` replaces the record's own, and ``new`` may be the line to begin
        with; ``answered`` is the model's answer in them, as `Edit.proposal` has it.
        """
        if what:
            self._listing = listing
            self._opened = what | ({"pointer": pointer} if pointer else {}) | ({"finding": finding} if finding else {})
        if finding is not None:
            pointer = field_of(finding, self.project.shape)
        record, file = (str(what.get(part, "")) for part in ("record", "file"))
        name = f"{file}:{what.get('line', 0)}" if file else record
        with self.app.attempt():
            if name and self.edit is not None and self.edit.name == name and "proposal" not in what:
                self._show_finding(finding)
                self._focus(pointer)
            elif (edit := open_any(self.project, what)) is not None:
                self._begin(edit, pointer, finding)
            if answered is not None and self.edit is not None:
                self.edit.proposal = answered
                if answer is not None:
                    put_answer(self.edit, answer)
                self._show_soon()

    def lacks_records(self) -> bool:
        return False

    def changed(self, ids: set[str]) -> None:
        edit = self.edit
        if edit is None or edit.is_new or edit.name not in ids:
            return
        try:
            notes = edit.follow()
        except CurateError:
            more = "What you typed is kept as a draft." if edit.is_changed else "U brings it back."
            self._close(f"{edit.name} is gone: the decision that added it was undone. {more}")
            if isinstance(edit, RowEdit):
                self.arrive(**edit.opens, listing=self._listing)
            return
        for note in notes:
            self.tell(note, "warn")
        self._show_soon()

    def close_side(self) -> bool:
        view = self._form_view()
        if view is not None and view.close_field():
            return True
        return super().close_side() or (view is not None and view.leave_field())

    def current_record(self) -> str:
        return self.edit.name if self.edit and not (self.edit.is_new or self.edit.is_line) else ""

    def equal_command(self) -> str:
        if self.edit is None or (self.edit.is_new and not self.edit.is_line):
            return f"curate edit --new {typed(self.app.root)}"
        return f"curate edit {typed(self.edit.name)} {typed(self.app.root)}"

    def record_json(self) -> str:
        return canonical(self.edit.form.to_line()).decode() if self.edit else ""

    def has_unsaved(self) -> bool:
        if self.edit is None:
            return False
        with suppress(CurateError):
            self.edit.keep()
        return self.edit.is_changed

    def reread(self) -> None:
        self._side.search_anew()

    # Actions.

    async def action_save(self) -> None:
        self._following = None
        await self._save()

    async def action_save_and_new(self) -> None:
        category = self.edit.category if self.edit is not None else ""
        if await self._save():
            self._begin_new(category)

    async def action_save_and_next(self) -> None:
        """Save, and open the next entry of the list that the record was opened from."""
        if self._listing is None:
            self.tell("There is no list to go on in.", "warn", "ctrl+s saves. f7 is for records that a list opened.")
            return
        self._following = self._neighbour()
        if await self._save():
            await self._go_on()

    # Asked before a save: what is saved may leave the list.
    def _neighbour(self) -> dict[str, Any] | None:
        return self._listing.neighbour(self._opened, 1) if self._listing is not None else None

    def action_remedy(self) -> None:
        finding = self._finding_line.finding
        if finding is None or self.edit is None or self.edit.is_line:
            self.tell("No finding of a record is open.", "warn", "enter on one in Validate opens its record here.")
        elif self.edit.is_changed:
            self.tell("What you typed is not saved yet.", "warn", "ctrl+s saves it; D discards it.")
        else:
            self._following = self._neighbour()
            offer_remedies(self.app, self.project, finding, partial(self.call_next, self._acted))

    async def _go_on(self) -> None:
        """Open the next entry of the list, or go back to the list where there is none."""
        following, self._following = self._following, None
        if following is not None:
            self.arrive(**{**following, "listing": self._listing})
            return
        if self._listing:
            self.app.go(self._listing.NAME)
        self.tell("That was the last one of the list.")

    def action_new(self) -> None:
        self.app.clear_message()
        self._begin_new()

    def _begin_new(self, category: str = "") -> None:
        self._listing, self._opened = None, {}
        self._begin(new_edit(self.project, category=category))

    def action_copy(self) -> None:
        if self.edit is None or self.edit.is_new:
            self.tell("Only a saved record can be duplicated.", "warn")
            return
        self._begin(copied_edit(self.project, self.edit.name))

    def action_resume(self) -> None:
        names = Drafts(self.project.root, self.project.by).names()
        name = next((name for name in names if self.edit is None or name != self.edit.name), "")
        self.arrive(draft=name) if name else self.tell("There is no other draft.", "warn")

    def action_discard(self) -> None:
        edit = self.edit
        if edit is None or not edit.is_changed:
            self.tell("Nothing to discard: nothing is typed that is not saved.", "warn")
            return

        def sure() -> None:
            with self.app.attempt():
                edit.discard()
                self._show_soon()
                self.tell(f"draft discarded: the {'form' if edit.is_new else 'record'} is as it was")

        self.app.ask("Discard what you typed here?", sure)

    def action_propose(self) -> None:
        self._answerer.press(self, self.edit, self._side, self._show_soon)

    def action_next_view(self) -> None:
        # Show the preview in another way; where there is room for one pane only, go to it and back.
        if self.is_narrow and not self.is_side_open:
            self.is_side_open = True
        elif self._side.next_view() == VIEWS[0] and self.is_narrow:
            self.is_side_open = False

    def action_refuse(self, what: str) -> None:
        message, remedy = NEEDS[what]
        self.tell(message, "warn", remedy)

    async def action_next_problem(self) -> None:
        view = self._form_view()
        if view is None or not await view.go_to_problem(after=view.sheet.focused_pointer()):
            self.tell("Nothing is wrong.")

    async def action_editor(self, as_json: bool = False) -> None:
        edit = self.edit
        if edit is None:
            self.tell("There is no record to edit.", "warn")
            return
        self._save_draft()
        before = edit.written(as_json=as_json)
        after = self.in_editor(before, edit.editor_path(before))
        if after is None:
            return
        faults = edit.take(after)
        notes = edit.follow()
        self._save_draft()
        await self._show()
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            self.tell(f"{faults[0]}{more}; your text is kept, f4 goes back to it", "error")
        else:
            self.tell(f"taken from the editor; {notes[0] if notes else 'not saved yet'}", "warn" if notes else "ok")

    # Events.

    def on_form_view_changed(self, event: FormView.Changed) -> None:
        event.stop()
        self._saving_draft.begin(KEEP, self._save_draft)
        self._side.show(self.edit)
        if self.app.is_running:  # One that ends closes its screens in turn, and the title asks the list for its row.
            self._show_title()

    def on_edit_side_neighbours_known(self, event: EditSide.NeighboursKnown) -> None:
        event.stop()
        if (view := self._form_view()) is not None:
            view.warning = f"! repeats {event.repeated}" if event.repeated else ""

    async def _acted(self, done: str) -> None:
        self.app.log_command(self.equal_command(), done)
        # With the cursor in a text, the u that undoes would be typed into it.
        if self._listing:
            self._is_resting = self._following is not None
            await self._go_on()
        elif (view := self._form_view()) is not None:
            view.leave_field()
        self._finding_line.examine(self.project)
        self.tell(f"{done} (u undoes)")

    def on_finding_line_fixed(self, event: FindingLine.Fixed) -> None:
        event.stop()
        if (view := self._form_view()) is not None:
            view.has_finding = False

    def on_screen_suspend(self) -> None:
        self._save_draft()

    def on_unmount(self) -> None:
        self.has_unsaved()

    # Inside.

    async def _save(self) -> bool:
        edit, view = self.edit, self._form_view()
        if edit is None:
            self.tell("There is nothing to save.", "warn")
            return False
        for raw in self.query(RawText):
            raw.judge()
            if not edit.text:
                await self._show()
                view = self._form_view()
        if view is not None:
            await view.judge(is_finished=True)
            if reason := await view.find_unread_answer():
                self.tell(f"The answer is not saved: {reason}", "error")
                return False
        if edit.is_line and not edit.text and not edit.form.problems():
            self._write_line(edit)
            return False
        was_new, repeated = edit.is_new, self._side.repeated
        try:
            result = edit.save()
        except CurateError as error:
            self._save_draft()
            if error.code == CHANGED_MEANWHILE:
                await self._show()
            elif view is not None:
                self.is_side_open = False
                await view.go_to_problem()
            raise
        self.app.log_command(self.equal_command(), result)
        await self._show()
        self._finding_line.examine(self.project)
        if repeated:
            self.tell(f"{result}; it repeats {repeated}", "warn")
        else:
            self.tell(result + ("" if was_new or result == NOTHING_CHANGED else "  (u undoes)"))
        return True

    # Save a line in a thread, for its whole file is written anew, and open the record that it is then.
    def _write_line(self, edit: EditSession) -> None:
        command = self.equal_command()
        self._save_draft()

        def written(result: str) -> None:
            self.app.log_command(command, result)
            if self.edit is edit:
                following, self._following = self._following, None
                self._waiting = {"record": edit.name} if following is None else {**following, "listing": self._listing}
                self._close(result)
            self.app.action_reread()

        self.app.background(edit.save, written, group="write.edit")

    def _show_finding(self, finding: Finding | None) -> None:
        self._finding_line.show(self.project, finding)
        if (view := self._form_view()) is not None:
            view.has_finding = finding is not None

    # Show another record; the draft of the one before is written first.
    def _begin(self, edit: EditSession, pointer: str = "", finding: Finding | None = None) -> None:
        self._save_draft()
        self.edit = edit
        self._show_finding(finding)
        for note in edit.notes:
            self.tell(note, "warn")

        async def begin() -> None:
            await self._show()
            if self.edit is edit:
                self._focus(pointer)

        self.run_worker(begin(), group="edit.show")

    def _close(self, message: str) -> None:
        self._save_draft()
        self.edit = None
        self._show_finding(None)
        self.tell(message, "warn")
        self._show_soon()

    def _show_soon(self) -> None:
        self.run_worker(self._show(), group="edit.show")

    async def _show(self) -> None:
        """Show the record that is open, and what stands beside it.

        One after the other, and never cancelled: whoever waits for a removal in Textual takes the removed widgets'
        tasks with it when it is cancelled, and the app, which waits for the same tasks, then stops for good.
        """
        self._num_shows += 1
        number = self._num_shows
        async with self._show_lock:
            if number == self._num_shows:  # else a newer one is waiting
                await self._show_open_record()

    async def _show_open_record(self) -> None:
        edit, view = self.edit, self._form_view()
        kind = None if edit is None or edit.is_huge else RawText if edit.text else FormView
        with self.app.batch_update():
            self.query_one("#nothing").display = kind is None
            if kind is None:
                self._say_nothing_open()
            if kind is FormView and view is not None and view.edit is edit:
                await view.rebuild()
            else:
                await self.query("FormView, RawText").remove()
                if edit is not None and kind is not None:
                    await self.query_one("#form", Vertical).mount(kind(edit))
            if edit is not None and (view := self._form_view()) is not None:
                view.has_finding = self._finding_line.finding is not None
                view.note = draft_note(edit)
        self._share_width()
        self._show_title()
        self._side.show(edit)

    # Give a conversation, and what has no preview, the whole width where there is none to spare.
    def _share_width(self) -> None:
        edit = self.edit
        is_wide = edit is not None and (bool(edit.text) or edit.has_turns)
        self.set_class(is_wide and self.app.size.width < TWO_PANES, "-solo")

    def _say_nothing_open(self) -> None:
        if self.edit is not None:
            text = without_form(self.edit)
        elif super().lacks_records():
            text = empty(self.project).text
        else:
            text = nothing_open(Drafts(self.project.root, self.project.by).names())
        self.query_one("#nothing", Panel).show(text)

    def _show_title(self) -> None:
        position = self._listing.position(self._opened) if self._listing else ""
        width = self.query_one("#form").size.width
        self.query_one("#title", Panel).show(title(self.edit, self.project.shape.name, position, width))

    def _save_draft(self) -> None:
        self._saving_draft.end()
        edit, view = self.edit, self._form_view()
        if edit is None:
            return
        with self.app.attempt():
            edit.keep()
        if view is not None:
            view.note = draft_note(edit)

    def _focus(self, pointer: str) -> None:
        if not self.is_side_open:
            self.run_worker(self._focus_pointer(pointer), group="edit.show.focus")

    async def _focus_pointer(self, pointer: str) -> None:
        async with self._show_lock:
            for raw in self.query(RawText):
                raw.go_to_start()
            if (view := self._form_view()) is not None:
                await (view.sheet.focus_pointer(pointer) if pointer else view.go_to_start())
                if self._is_resting:
                    # Textual gives the focus a moment later, and in turn.
                    self._is_resting = False
                    self.app.call_later(view.leave_field)

    @property
    def _finding_line(self) -> FindingLine:
        return self.query_one(FindingLine)

    def _form_view(self) -> FormView | None:
        return next(iter(self.query(FormView)), None)
