"""The project behind the app: loaded in a thread, followed as others decide, told to the screens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Literal

from curate.base.file_guard import FileStamp, stamp_of
from curate.base.record import CurateError
from curate.base.tables import counted
from curate.tui.chrome import HeaderBar, draw_frame
from curate.tui.keys import checked_keymap
from curate.tui.screen import settings_path
from curate.tui.screens import known_bindings

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.project.transactions import Undone
    from curate.tui.border import Severity
    from curate.tui.context import HostApp
    from curate.tui.screen import ProjectScreen

Opener = Callable[[], "Project | None"]


class Following:
    """Keeps an open project and the screens in step.

    All methods but `_open`, `_load` and `_check_for_changes` run on the app's thread.
    """

    def __init__(self, app: HostApp, poll: float | None, opener: Opener | None) -> None:
        """Follow for ``app``, looking every ``poll`` seconds at what others decided; None never looks."""
        self._app = app
        self._opener = self._reopener = opener
        self._poll = poll
        self._is_looking = False
        self._project: Project | None = None
        self._unsubscribe: Callable[[], object] = _nothing
        # By the name of each screen that knows of the records: those that changed while it was not shown.
        self._waiting: dict[str, set[str]] = {}
        self._num_decisions = 0  # Decisions of the project that the header has told of.
        self._thread = threading.get_ident()
        self._progress_message = self._refusal = ""
        self._news: tuple[str, Severity] | None = None  # What to tell once the records are read again.
        self._stamp: FileStamp | None = None  # Of curate.toml, when it was last looked at.
        self._is_settings_broken = False  # Whether curate.toml could not be read when it was last looked at.
        self._new_settings = ""  # The tables of curate.toml that are not taken over yet, in words.
        self.is_stale = False  # Whether another program has changed the record files since they were read.
        self.progress = ""  # How far reading the records is; empty before it is known.
        self.failure: CurateError | None = None  # What has kept the records from being read.

    @property
    def project(self) -> Project:
        """The open project.

        Raises:
            LookupError: when there is none.
        """
        if self._project is None:
            raise LookupError("no project is open")
        return self._project

    @property
    def has_project(self) -> bool:
        """Whether there is one."""
        return self._project is not None

    @property
    def is_opening(self) -> bool:
        """Whether it is not known yet if there is one."""
        return self._opener is not None

    @property
    def is_loaded(self) -> bool:
        """Whether the records are read."""
        return self._project is not None and self._project.is_loaded

    @property
    def is_reading(self) -> bool:
        """Whether the records will be there soon, so that a key that needs them can wait."""
        return self.is_opening or (self.has_project and not self.is_loaded and self.failure is None)

    def hold(self, project: Project) -> None:
        """Follow ``project`` in place of what was followed, which is closed, with the keys of its settings.

        Raises:
            CurateError: E902 for keys that are none, or for what is not there.
        """
        wanted = project.settings.keys
        self._app.set_keymap(checked_keymap(wanted, known_bindings()) if wanted else {})
        self.release()
        self._project = project
        self._waiting.clear()
        self._num_decisions = project.num_decisions
        self._unsubscribe = project.subscribe(self.listener)
        self.failure = None
        self._stamp, self._new_settings = stamp_of(settings_path(project.root), ""), ""
        self._app.root = project.file.parent if project.file else project.root
        self._app.by = project.by

    def release(self) -> None:
        """Close the project; all that was decided is saved already."""
        self._unsubscribe()
        self._unsubscribe = _nothing
        if self._project is not None:
            self._project.close()
            self._project = None

    def begin(self) -> None:
        """Open the project and read the records in a thread, and look at the journal from time to time."""
        self._thread = threading.get_ident()
        if self._opener is not None:
            self._app.run_worker(partial(self._open, self._opener), thread=True, group="load", exclusive=True)
        else:
            self.load()
        if self._poll is not None:
            self._app.set_interval(self._poll, self.check_for_changes)

    def load(self) -> None:
        """Read the records in a thread, unless they are."""
        if self._project is not None and not self._project.is_loaded:
            if self.failure is not None:
                self._app.clear_message()
            self.failure, self.progress = None, ""
            self._app.present().show_standby()
            self._app.run_worker(self._load, thread=True, group="load", exclusive=True)

    def check_for_changes(self) -> None:
        """Read in a thread what others decided since the last look, unless such a look is under way."""
        if self.is_loaded and not self._is_looking:
            self._is_looking = True
            self._app.run_worker(self._check_for_changes, thread=True, group="look")

    def reread(self, message: str = "", severity: Severity = "ok") -> None:
        """Look at the journal, and where the record files have changed under us, read them anew.

        What could not be opened is opened again. ``message`` is told when it is done, in place of the usual one.
        """
        self._news = (message, severity) if message else None
        if self._project is None and self._reopener is not None and self.failure is not None:
            self._opener, self.failure = self._reopener, None
            self._app.present().show_standby()
            self._app.run_worker(partial(self._open, self._opener), thread=True, group="load", exclusive=True)
        elif not self.is_loaded:
            self.load()
        elif self._new_settings or not self.project.is_current():
            self.reload()
        else:
            if self._news:
                self._app.tell(*self._news)
            self.check_for_changes()

    def _exchange(self, exchange: Callable[[], set[str]]) -> set[str]:
        """Put what was read anew in the place of the old: at no moment is a row of the old asked of the new."""
        self._waiting.clear()
        changed = exchange()
        if self._new_settings:
            self._app.set_keymap(checked_keymap(self.project.settings.keys, known_bindings()))
            self._news = f"taken over from curate.toml: {self._new_settings}", "ok"
            self._new_settings = ""
        self._num_decisions = self.project.num_decisions
        self.is_stale = False
        self._app.tell(*(self._news or (f"read again: {counted(len(self.project.catalog), 'record')}", "ok")))
        self._news = None
        draw_frame(self._app.screen, HeaderBar)
        self._app.hand_over(self._app.present())
        return changed

    def deliver(self, screen: ProjectScreen) -> None:
        """Tell ``screen``, which is shown now, that the records are there and which changed while it was not."""
        if not self.is_loaded:
            return
        ids = self._waiting.get(screen.NAME)
        self._waiting[screen.NAME] = set()
        if ids is None:
            screen.ready()
        elif ids:
            screen.changed(ids)

    def reverse(self, what: Literal["undo", "redo"]) -> None:
        """Take back the annotator's last act, or do again what was taken back last, and say what it was."""
        if self._has_records(what):
            undone = None
            if self.has_project:
                undone = self.project.redo(self.listener) if what == "redo" else self.project.undo(self.listener)
            self._show_undone(undone, f"There is nothing to {what}.")

    def _has_records(self, what: str) -> bool:
        """Whether there is nothing to read first; the project would read it here, on the thread of the screens."""
        is_reading = self.has_project and not self.is_loaded
        if is_reading and self.failure:
            self._app.tell(f"{what}: the records could not be read")
        elif is_reading:
            self.refuse(f"{what}: still reading the records")
        return not is_reading

    def refuse(self, message: str) -> None:
        """Say why a key cannot act now; where it waits for the records, that is unsaid once they are read."""
        self._app.tell(message, "warn")
        self._refusal = "" if self.is_loaded else self._app.message.plain

    def _show_undone(self, undone: Undone | None, nothing: str) -> None:
        if undone is None:
            self._app.tell(nothing)
            return
        self._spread(set(undone.ids))
        if undone.remark:
            self._app.tell(f"{undone.message}; {undone.remark}", "warn")
        else:
            self._app.tell(undone.message)

    def reload(self, news: tuple[str, Severity] | None = None) -> None:
        """Read settings, records and decisions anew in a thread, and tell the screens. ``news`` is told then."""
        self._news = news or self._news
        within = partial(self._app.call_from_thread, self._exchange)
        reload = partial(self.project.reload, within=within)
        self._app.background(reload, _nothing, group="load", message="reading the records again")

    def _open(self, opener: Opener) -> None:
        try:
            project = opener()
        except CurateError as error:
            self._app.call_from_thread(self._failed, error)
            return
        self._app.call_from_thread(self._opened, project)

    def _failed(self, error: CurateError) -> None:
        """Say what is wrong with the workspace, and leave it closed."""
        self._opener, self.failure = None, error
        draw_frame(self._app.screen)
        self._app.present().show_standby()

    def _opened(self, project: Project | None) -> None:
        if project is not None:
            try:
                self.hold(project)
            except CurateError as error:
                project.close()
                self._failed(error)
                return
        self._opener = None
        self.load()
        draw_frame(self._app.screen)
        self._app.present().show_standby()
        self._app.present().opened()

    def _load(self) -> None:
        project = self.project
        try:
            project.load(self._progressed)
        except CurateError as error:
            self._app.call_from_thread(self._not_loaded, error)
            return
        self._app.call_from_thread(self._loaded)

    def _not_loaded(self, error: CurateError) -> None:
        self.failure = error
        self._app.tell_error(error)
        self._app.present().show_standby()

    def _progressed(self, done: int, whole: int) -> None:
        self._app.call_from_thread(self._show_progress, f"{done / whole if whole else 1.0:.0%}")

    def _show_progress(self, share: str) -> None:
        self.progress = share
        self._app.present().show_standby()
        self._tell_progress(f"reading the records: {share}")

    def _tell_progress(self, text: str) -> None:
        """Say how far reading is, but never in place of what somebody has to read."""
        if self._app.message.plain in ("", self._progress_message):
            self._app.tell(text)
            self._progress_message = text

    def _loaded(self) -> None:
        # That a key had to wait for the records is over now.
        if self._refusal and self._app.message.plain == self._refusal:
            self._app.clear_message()
        self._num_decisions = self.project.num_decisions
        self._tell_progress(counted(len(self.project.catalog), "record"))
        draw_frame(self._app.screen, HeaderBar)
        self._app.hand_over(self._app.present())

    def _check_for_changes(self) -> None:
        try:
            self._check_settings()
            self.project.refresh()
            if not self.is_stale and not self.project.is_current():
                self.is_stale = True
                self._app.call_from_thread(self._tell_stale)
        except CurateError as error:
            self._app.call_from_thread(self._app.tell_error, error)
        finally:
            self._is_looking = False

    def _check_settings(self) -> None:
        stamp = stamp_of(settings_path(self.project.root), "")
        if stamp == self._stamp:
            return
        self._stamp, was_broken = stamp, self._is_settings_broken
        self._is_settings_broken = True
        from curate.schema.settings import read_settings

        if not settings_path(self.project.root).is_file():
            message, hint = "curate.toml is gone; what it said before holds.", "Put it back, or no command works here."
            self._app.call_from_thread(self._app.tell, message, "error", hint)
            return
        try:
            new, old = read_settings(self.project.root), self.project.settings
            checked_keymap(new.keys, known_bindings())
        except CurateError as error:
            message = f"curate.toml was changed and is not taken over; what it said before holds. {error.message}"
            self._app.call_from_thread(self._app.tell, message, "error", error.hint)
            return
        self._is_settings_broken = False
        changed = [item.name for item in fields(new) if getattr(new, item.name) != getattr(old, item.name)]
        if changed:
            self._app.call_from_thread(self._renew, ", ".join(name.rstrip("_") for name in changed))
        elif was_broken:
            self._app.call_from_thread(self._app.tell, "curate.toml can be read again; it says what it said before.")

    def _renew(self, changed: str) -> None:
        """Take over what is new in curate.toml, or say how: reading anew must not disturb who is typing."""
        if self._news is not None:
            # It was written here, and is being read.
            return
        self._new_settings = changed
        if self._app.is_typing():
            self._app.tell(f"curate.toml has changed: {changed}.", "warn", "Save what you type; then r takes it over.")
        else:
            self.reread()

    def _tell_stale(self) -> None:
        message, remedy = "The record files were changed by another program.", "r reads them again."
        if self._app.is_typing():
            remedy = "Nothing can be saved before they are read: press esc, then r. What you type is kept."
        self._app.tell(message, "warn", remedy)
        draw_frame(self._app.screen, HeaderBar)

    def listener(self, ids: set[str]) -> None:
        """Take a change from any thread: decisions on many records are saved in one of their own.

        A screen that shows its own act itself acts in the name of this listener, and calls `acted`.
        """
        if threading.get_ident() == self._thread:
            self._spread(ids)
        else:
            self._app.call_from_thread(self._spread, ids)

    def _spread(self, ids: set[str]) -> None:
        """Tell the screen that is shown, and keep the change for the others until they are."""
        self.acted("", ids)
        self._app.hand_over(self._app.present())

    def acted(self, name: str, ids: set[str]) -> None:
        """Keep a change for all screens but the one called ``name``, which shows it itself."""
        for other in self._waiting.keys() - {name}:
            self._waiting[other] |= ids
        # At the first reading, and when records are exchanged, no screen knows of any, and all that was read is old.
        new = self.project.since(self._num_decisions) if self._waiting else []
        self._num_decisions = self._num_decisions + len(new) if self._waiting else self.project.num_decisions
        # What was done here has its own message; the same person may also decide in another terminal.
        writer = self.project.writer
        elsewhere = [event for event in new if writer is None or event.session not in writer.sessions]
        others = {event.id for event in elsewhere if event.by != self.project.by}
        own = {event.id for event in elsewhere if event.by == self.project.by}
        parts = [f"others decided on {counted(len(others), 'record')}"] if others else []
        parts += [f"you decided on {counted(len(own), 'record')} in another session"] if own else []
        if parts:
            self._app.tell("; ".join(parts))
        draw_frame(self._app.screen, HeaderBar)


def _nothing(_changed: object = None) -> None:
    """Everything is done already."""
