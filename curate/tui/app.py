"""The app: its tabs and what goes between them, what every screen may call, and the keys that work everywhere."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from rich.text import Text
from textual import events
from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.filter import LineFilter
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input, Static, TextArea
from textual.worker import get_current_worker

from curate.base.file_guard import system_refused
from curate.base.record import CurateError
from curate.tui import ways_in
from curate.tui.border import ASCII, PRETTY, SIGNS, Severity, glyphs, is_ascii_wanted, safe_text, use_glyphs
from curate.tui.chrome import HeaderBar, StatusLine, draw_frame
from curate.tui.dialogs import Ask, Pages, Prompt
from curate.tui.following import Following, Opener
from curate.tui.help import LoggedCommand, command_log, keys_page
from curate.tui.keys import Chord, KeysInTurn, key_name
from curate.tui.palette import CommandPalette, open_palette
from curate.tui.screen import ProjectScreen
from curate.tui.screens import TABS, UNTABBED, Tab, screen_class
from curate.tui.themes import Harmless, StylesByName, names_of, themes
from curate.tui.tour import TourGuide

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.tui.context import HostApp

T = TypeVar("T")
_LONGEST_MESSAGE = 2000
_IN_ONE_GO = 0.5  # Seconds between two keys at most that are one text.
_FOR_A_FILE = ("browse", "edit", "validate", "queue")  # The screens of a file without a workspace.
EXPIRES = 20.0  # Seconds after which a message that is no warning goes: what was done is old news then.


class CurateApp(App[int]):
    """A project on a terminal."""

    TITLE = "curate"
    CSS_PATH = "app.tcss"
    DEFAULT_MODE = "home"
    BINDINGS: ClassVar[list[Any]] = [
        Binding("question_mark,f1", "help", "Keys", id="app.help", key_display="?"),
        Binding("colon,ctrl+p", "command_palette", "Palette", id="app.palette"),
        # Before the focused widget: the second key may come before the first one has bubbled up.
        Binding("g", "goto", "Go to", id="app.goto", show=False, priority=True),
        Binding("left_square_bracket", "next_tab(-1)", "Previous tab", id="app.previous_tab", show=False),
        Binding("right_square_bracket", "next_tab(1)", "Next tab", id="app.next_tab", show=False),
        Binding("u", "undo", "Undo", id="app.undo"),
        Binding("U", "redo", "Redo", id="app.redo", show=False),
        Binding("y", "copy_command", "Copy command", id="app.copy", show=False),
        Binding("Y", "copy_record", "Copy record", id="app.copy_record", show=False),
        Binding("z", "zoom", "Zoom", id="app.zoom", show=False),
        Binding("r", "reread", "Refresh", id="app.refresh", show=False),
        Binding("at", "command_log", "Command log", id="app.log", show=False),
        Binding("escape", "back", "Back", id="app.back", show=False),
        Binding("q,ctrl+q", "leave", "Quit", id="app.quit"),
    ]

    def __init__(
        self, root: Path, *, project: Project | None = None, opener: Opener | None = None, by: str = "",
        is_ascii: bool = False, poll: float | None = 1.0, theme: str = "dark",
    ) -> None:  # fmt: skip
        """Make the app for the folder ``root``, with its open ``project`` if it is a workspace.

        ``opener`` opens it once the first screen is drawn, and returns None where ``root`` is no workspace. ``by`` is
        the annotator's name where there is no project yet. ``poll`` is how many seconds lie between two
        looks at what others decided; None never looks.
        """
        use_glyphs(ASCII if is_ascii or is_ascii_wanted() else PRETTY)
        super().__init__()
        self.stylesheet = self._styles = StylesByName(variables=self.get_css_variables())
        self.message: Text = Text("")  # What the status line says; from its second line on, what to do about it.
        self._expiry: Timer | None = None
        self.logged_commands: list[LoggedCommand] = []
        self.crash = ""  # The traceback of the mistake of ours that ended the app.
        for registered in themes():
            self.register_theme(registered)
        has_colour = not self.no_color
        self._last_filter = Harmless(has_colour=has_colour)
        self.choose_theme(theme if has_colour else "mono")
        self.root = root
        self.by = project.by if project else by
        self.to_begin: Path | None = None  # The file that Home offers to make a workspace of at once, if any.
        self.may_train = True  # Whether training may be started through a browser.
        self.tabs: list[Tab] = list(TABS)
        self.following = Following(cast("HostApp", self), poll, opener)
        self.guide = TourGuide(cast("HostApp", self))
        self._arrivals: dict[str, dict[str, Any]] = {}
        self._chord = Chord(self, self._endings)
        self._keys = KeysInTurn(self, lambda: self.following.is_reading)
        self._refused = 0.0  # When the last key came that the records were not there for.
        for tab in (*self.tabs, *UNTABBED):
            # Imported and made when it is first shown.
            self.add_mode(tab.name, partial(_new_screen, tab.name))
        if os.environ.get("SSH_CONNECTION"):
            self.animation_level = "none"
        self.set_class(glyphs().is_ascii, "-ascii")
        if project:
            self.following.hold(project)

    # What screens use.

    @property
    def project(self) -> Project:
        """The open project.

        Raises:
            LookupError: when there is none; only Home is shown then.
        """
        return self.following.project

    @property
    def is_opening(self) -> bool:
        """Whether it is not known yet if there is a workspace."""
        return self.following.is_opening

    @property
    def has_project(self) -> bool:
        """Whether a workspace is open."""
        return self.following.has_project

    def go(self, name: str, **what: Any) -> None:
        """Show the screen called ``name`` and hand ``what`` to its `arrive`."""
        if not self.is_open(name):
            if self.has_project:
                remedy = "For labels, splits and training make a workspace of it: g h, then 8."
                self.tell("One file is for reading, checking and editing.", "warn", remedy)
            else:
                reason = self.present().standby()
                self.tell(reason.word if reason else "Open or make a workspace first.", "warn")
        elif name == self.current_mode:
            self._arrivals[name] = what
            self.hand_over(self.present())
        else:
            self._arrivals[name] = what
            # What was said is about the screen that is left.
            self.clear_message()
            self._keys.is_arriving = True
            self.switch_mode(name)

    def open(self, root: Path) -> None:
        """Work on the workspace in ``root`` from now on."""
        from curate.project.project import open_project

        with self.attempt():
            project = open_project(root, self.by)
            self.following.hold(project)
            self.following.load()
            self.present().refresh(recompose=True)

    def get_started(self, name: str) -> None:
        """Take one of the ways to a first record, as `ways_in.take` has them."""
        ways_in.take(cast("HostApp", self), name)

    # Tabs.

    def is_open(self, name: str) -> bool:
        """Whether the tab called ``name`` can be gone to."""
        return name == "home" or (self.has_project and (self.project.file is None or name in _FOR_A_FILE))

    def deliver(self, screen: ProjectScreen) -> None:
        """Hand ``screen``, which is shown now, what waited for it."""
        self.hand_over(screen)
        draw_frame(screen)
        self._keys.arrived()

    def hand_over(self, screen: ProjectScreen) -> None:
        """Tell ``screen`` of the records, and then what it was gone to for; both wait while it is on standby."""
        if not screen.is_mounted:
            # It is told once it is shown.
            return
        screen.show_standby()
        if not screen.is_on_standby:
            self.following.deliver(screen)
            what = self._arrivals.pop(screen.NAME, None)
            if what is not None:
                screen.arrive(**what)

    def present(self) -> ProjectScreen:
        """Return the project screen at the bottom, whatever dialog lies over it."""
        screen = self.screen_stack[0]
        assert isinstance(screen, ProjectScreen), "modes hold nothing else"
        return screen

    def _endings(self) -> dict[str, tuple[str, Callable[[], object]]]:
        # A dialog is answered before anything else is gone to.
        destinations = [] if self.screen.is_modal else [*self.tabs, *UNTABBED]
        endings: dict[str, tuple[str, Callable[[], object]]] = {
            tab.key: (tab.title, partial(self.go, tab.name)) for tab in destinations
        }
        return endings | {"g": ("first row", self._to_top)}

    def _to_top(self) -> None:
        for action in ("top", "first", "cursor_document_start", "scroll_home"):
            if self.focused is not None and hasattr(self.focused, f"action_{action}"):
                self.call_later(self.run_action, action, self.focused)
                return

    # What screens ask for.

    def tell(self, message: str | Text, severity: Severity = "ok", remedy: str = "") -> None:
        """Write ``message`` on the status line of whatever screen is shown; a plain string is made visible first.

        ``remedy``, which says what to do, stands on a line of its own. What is no warning goes after `EXPIRES`; all of
        it goes with the next message, or when another screen is gone to.
        """
        text = safe_text(message, _LONGEST_MESSAGE) if isinstance(message, str) else message
        more = Text.assemble("\n", safe_text(remedy, _LONGEST_MESSAGE)) if remedy else Text("")
        self._put_message(Text.assemble((SIGNS[severity], "" if severity == "ok" else severity), text, more))
        if severity == "ok":
            self._expiry = self.set_timer(EXPIRES, self.clear_message)

    def clear_message(self) -> None:
        """Take the message away: its cause has gone."""
        self._put_message(Text(""))

    def _put_message(self, message: Text) -> None:
        if self._expiry is not None:
            self._expiry.stop()
            self._expiry = None
        self.message = message
        draw_frame(self.screen, StatusLine)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run a block; what it cannot do is written on the status line."""
        try:
            yield
        except (CurateError, OSError) as error:
            self.tell_error(_as_error(error))

    def tell_error(self, error: CurateError) -> None:
        """Write on the status line what went wrong and what to do."""
        if error.number == "E906":
            # It may have been the journal that could not be written.
            draw_frame(self.screen, HeaderBar)
        self.tell(f"{error.code}: {error.message}", "error", error.hint)

    def background(
        self,
        job: Callable[[], T],
        then: Callable[[T], object],
        *,
        group: str,
        message: str = "",
        failed: Callable[[CurateError], object] | None = None,
    ) -> None:
        """Run ``job`` in a thread, and hand what it returns to ``then`` on this one.

        A newer job of the same ``group`` takes the place of an older one, whose result is dropped. A `CurateError` is
        handed to ``failed``, by default to the status line. A group whose name begins with "write" is not left behind
        when the app ends, and keys wait for one with the word `keys.SHOW` in it: ``then`` shows what they are meant
        for. ``message`` is on the status line while the job is at work. What comes while the app ends is dropped.
        """
        if message:
            self.tell(message)
        meanwhile = self.message

        def run() -> None:
            worker = get_current_worker()
            end: Callable[[], object]
            try:
                end = partial(then, job())
            except (CurateError, OSError) as error:
                end = partial(failed or self.tell_error, _as_error(error))
            if not worker.is_cancelled:
                self.call_from_thread(finish, end)

        def finish(end: Callable[[], object]) -> None:
            if not self.is_running:  # Textual closes the widgets before it cancels the workers
                return
            if message and self.message is meanwhile:
                self.clear_message()
            with self.attempt():
                end()

        self.run_worker(run, thread=True, exclusive=True, group=group)

    def log_command(self, command: str, result: str) -> None:
        """Add to the command log what was done, as a command line, and what came of it."""
        self.logged_commands.append(LoggedCommand(datetime.now().astimezone().strftime("%H:%M"), command, result))

    def ask(self, question: str, then: Callable[[], object]) -> None:
        """Ask a question that `y` answers with yes, and only then call ``then``."""
        self.ask_with(Ask(question), lambda is_sure: then() if is_sure else None)

    def prompt(self, question: str, then: Callable[[str], object], *, value: str = "") -> None:
        """Ask for a line of text, and call ``then`` with it unless the user cancels."""
        self.ask_with(Prompt(question, value), then)

    def ask_with(self, box: Screen[Any], then: Callable[[Any], object]) -> None:
        """Show a box, and call ``then`` with what it ends with, unless the user cancels."""

        def answered(answer: Any) -> None:
            if answer is not None:
                with self.attempt():  # Textual calls this outside of any action.
                    then(answer)

        self.push_screen(box, answered)

    def choose_theme(self, name: str) -> None:
        """Draw with the colours of the theme called ``name``, one of `themes.PALETTES`."""
        self.theme = name
        self.console.push_theme(names_of(name))
        self._styles.choose(name)
        if self.is_running:
            # What was made of style names has kept the colours that they had.
            for screen in self.screen_stack:
                for widget in screen.query(Static):
                    widget.update(widget.content)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Let nothing harmful, and with NO_COLOR no colour, through to the terminal."""
        return [self._last_filter]

    @contextmanager
    def batch_update(self) -> Iterator[None]:
        """Draw nothing within the block, and then whatever is on top.

        At its end Textual (8.2) wakes the app alone: a question that came meanwhile would be drawn with the next key.
        """
        with super().batch_update():
            yield
        if self.is_running and self._screen_stack:
            self.screen.refresh()

    async def run_action(self, action: Any, default_namespace: DOMNode | None = None, namespaces: Any = None) -> bool:
        """Run an action; what it cannot do is written on the status line and ends nothing."""
        try:
            return await super().run_action(action, default_namespace, namespaces)
        except (CurateError, OSError) as error:
            self.tell_error(_as_error(error))
            return True

    # Keep the traceback of a mistake of ours for `terminal.run`; Textual's own shows the values of variables.
    def _fatal_error(self) -> None:
        self.crash = traceback.format_exc()
        self.panic()

    def on_mount(self) -> None:
        self.call_after_refresh(self.following.begin)

    def on_unmount(self) -> None:
        self.following.release()

    # Keys.

    async def on_event(self, event: events.Event) -> None:
        # Let a chord that waits have the next key, and a terminal that is too small only what leaves.
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            if not self._keys.has_to_wait(event):
                target = self.focused or self.screen
                await self._take(event)
                self._keys.follow(event, target)
        else:
            await super().on_event(event)

    async def _take(self, event: events.Key | events.Paste) -> None:
        if isinstance(event, events.Paste):
            await super().on_event(event)
        elif self._chord.is_waiting:
            if not self._chord.finish(event.key) and event.key != "escape":
                self.tell(f"g {key_name(event.key)} is no screen; g ? lists them.", "warn")
        elif self.present().is_too_small and self.screen is self.present():
            # Nothing that cannot be seen takes a key; a question lies above the cover.
            if event.key in ("q", "ctrl+q"):
                self.action_leave()
        elif not self.following.is_reading and event.time - self._refused < _IN_ONE_GO:
            # The end of a text whose beginning was refused.
            self._refused = event.time
            self.tell("The records are read now; what was typed before is not taken. Type it again.", "warn")
        elif answer := self.present().refusal(event.key):
            self._refused = event.time if self.following.is_reading else 0.0
            self.following.refuse(answer)
        elif event.key == "ctrl+j" and event.key not in self.screen.active_bindings:
            # A terminal that is not the app's yet, as in the first second, makes a new line of enter.
            await super().on_event(events.Key("enter", "\r"))
        elif self._is_idle(event):
            self.tell(f"{key_name(event.key)} does nothing here; ? shows the keys.", "warn")
        else:
            await super().on_event(event)

    def _is_idle(self, event: events.Key) -> bool:
        """Whether a key does nothing here; a box, and an open list, takes letters without a binding."""
        key, focused = event.key, self.focused
        is_typed = self.screen is not self.present() or isinstance(focused, Input | TextArea)
        is_typed |= focused is not None and focused.check_consume_key(key, event.character)
        is_function = key.startswith("f") and key[1:].isdecimal()
        is_taken = (is_typed and not is_function) or key.startswith("<")
        return not is_taken and key not in self.screen.active_bindings

    def on_key_done(self) -> None:
        self._keys.done()

    def action_goto(self) -> None:
        self._chord.begin()

    def action_next_tab(self, step: int) -> None:
        names = [tab.name for tab in self.tabs if self.is_open(tab.name)]
        present = names.index(self.current_mode) if self.current_mode in names else 0
        self.go(names[(present + step) % len(names)])

    async def action_back(self) -> None:
        # Close one thing: a text field, the side pane, a filter. What is typed next is meant for this screen.
        if self.present().close_side():
            return
        if isinstance(self.focused, Input | TextArea):
            self.present().set_focus(None)
        elif self.current_mode != "home" or not self.guide.end():
            self.tell("Nothing is open here that esc closes: g h Home, g ? all screens.")

    def action_help(self) -> None:
        screen = self.present()
        page = keys_page(screen, type(self), self.tabs, dict(self._keymap), self.size.width - 6)
        self.push_screen(Pages(f"Keys: {screen.TITLE}", page))

    def action_command_log(self) -> None:
        project = self.project if self.has_project else None
        self.push_screen(Pages("Command log", command_log(self.message, self.logged_commands, project)))

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, CommandPalette):
            open_palette(cast("HostApp", self))

    def action_undo(self) -> None:
        self.following.reverse("undo")

    def action_redo(self) -> None:
        self.following.reverse("redo")

    def action_copy_command(self) -> None:
        self._copy(self._equal_command, "the command")

    def _equal_command(self) -> str:
        file = self.project.file if self.has_project else None
        return f"curate {quote(str(file))}" if file else self.present().equal_command()  # Of a workspace.

    def action_copy_record(self) -> None:
        self._copy(self.present().record_json, "the record")

    def _copy(self, text_of: Callable[[], str], what: str) -> None:
        text = "" if self.present().is_on_standby else text_of()
        if text:
            self.copy_to_clipboard(text)
            self.tell(f"copied {what}: {text}")
        else:
            self.tell("There is nothing to copy here.", "warn")

    def action_zoom(self) -> None:
        screen = self.present()
        if screen.maximized is not None:
            screen.minimize()
        elif not screen.is_on_standby and (pane := screen.pane()) is not None:
            screen.maximize(pane, container=False)

    def action_reread(self) -> None:
        self.following.reread()
        if not self.present().is_on_standby:
            self.present().reread()

    async def action_quit(self) -> None:
        self.action_leave()

    def action_help_quit(self) -> None:
        self.tell("q quits; ctrl+c copies what is selected")

    def _unsaved(self) -> list[str]:
        screens = [screen for stack in self._screen_stacks.values() for screen in stack[:1]]
        return [
            screen.TITLE or screen.NAME
            for screen in screens
            if isinstance(screen, ProjectScreen) and screen.has_unsaved()
        ]

    def is_typing(self) -> bool:
        """Whether something is being typed, or was typed and is not saved."""
        return isinstance(self.focused, Input | TextArea) or bool(self._unsaved())

    def action_leave(self) -> None:
        # End the app; ask first where something typed would be lost, and let what is being written be written.
        if any(worker.group.startswith("write") and worker.is_running for worker in self.workers):
            self.tell("Something is still being written; quit when it is done.", "warn")
            return
        if names := self._unsaved():
            self.ask(f"{', '.join(names)}: what you typed is not saved. Quit all the same?", lambda: self.exit(0))
        else:
            self.exit(0)


def _new_screen(name: str) -> ProjectScreen:
    return screen_class(name)()


def _as_error(error: CurateError | OSError) -> CurateError:
    return system_refused(error) if isinstance(error, OSError) else error
