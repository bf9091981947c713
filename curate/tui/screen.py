"""What every screen has in common: header, tab bar, status line and key line around a body of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

from rich.text import Text
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding
from textual.containers import Container
from textual.screen import Screen
from textual.visual import VisualType
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import get_current_worker

from curate.base.console import typed
from curate.base.file_guard import MOST_DOCUMENT, read_file
from curate.base.tables import counted
from curate.tui.border import safe_lines, safe_text
from curate.tui.chrome import LOWER, NARROWER, HeaderBar, KeyLine, StatusLine, TabBar, TitleRule, TooSmall, TourBar
from curate.tui.keys import key_name

if TYPE_CHECKING:
    from curate.base.record import CurateError
    from curate.project.project import Project
    from curate.tui.border import Severity
    from curate.tui.context import HostApp

T = TypeVar("T")
Watch = Callable[[str, int, int], None]
_EVERY = 0.2  # Seconds between two words about how far it is: a slow line gets few of them.
_KEY_WIDTH = 6
_LONGEST = 400


class Reason(NamedTuple):
    """Why a screen has nothing to show."""

    word: str  # In a few words, as the answer to a key.
    text: Text  # In full, with what to press.
    can_write: bool = False  # Whether a first record can be written.
    has_settings: bool = False  # Whether it may be mended in curate.toml.
    can_try: bool = False  # Whether it may be opened once more.


class Standby(Static, can_focus=True):
    """The text in place of the body; it has the focus, so that no hidden widget takes a key.

    One guard for all screens: as long as it stands there, a screen is not told of records, and its keys are answered
    with the reason instead of acting on nothing.
    """

    BINDINGS: ClassVar[list[Any]] = [
        Binding("n", "begin('first')", "First record", id="standby.first"),
        Binding("i", "begin('import')", "Import a file", id="standby.import"),
        Binding("t", "begin('tour')", "Tour", id="standby.tour"),
        Binding("e", "edit_settings", "Edit curate.toml", id="standby.settings"),
        Binding("r", "try_again", "Try again", id="standby.again"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._reason = Reason("", Text())

    @property
    def frame(self) -> HostApp:
        """The app, as what it is."""
        return cast("HostApp", self.app)

    def show(self, reason: Reason) -> None:
        """Show ``reason``."""
        self._reason = reason
        if self.content != reason.text:
            self.update(reason.text)
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        reason = self._reason
        allowed = {"begin": reason.can_write, "edit_settings": reason.has_settings, "try_again": reason.can_try}
        return allowed.get(action, True)

    def action_begin(self, name: str) -> None:
        self.frame.get_started(name)

    def action_try_again(self) -> None:
        self.frame.action_reread()

    def action_edit_settings(self) -> None:
        """Have curate.toml changed in the person's own editor, and open the workspace again."""
        from curate.base.storage import write_atomic
        from curate.sessions.own_editor import edited

        path = settings_path(self.frame.root)
        before = read_file(path, most=MOST_DOCUMENT).decode("utf-8", "surrogateescape")
        try:
            with self.app.suspend():
                after = edited(before, path.with_name(f".{path.name}.editing"))
        except SuspendNotSupported:
            self.frame.tell("An editor cannot be started from here.", "warn")
            return
        if after is not None and after != before:
            write_atomic(path, [after.encode("utf-8", "surrogateescape")])
        self.frame.action_reread()


def reading(progress: str) -> Reason:
    """Return that the records are not read yet; ``progress`` is how far that is, empty where nobody knows."""
    more = f" ({progress})" if progress else ""
    text = Text(f"Still reading the records{more}. This screen opens by itself when they are read.\n")
    return Reason(f"still reading the records{more}; press the key again in a moment", text)


def failed(error: CurateError) -> Reason:
    """Return that the records could not be read."""
    text = Text.assemble(
        ("! error ", "error"), safe_text(f"{error.code}: {error.message}", _LONGEST), "\n\n",
        safe_text(error.hint, _LONGEST), "\n" if error.hint else "", _line("r", "reads the records again"),
    )  # fmt: skip
    return Reason("the records could not be read; r reads them again", text)


def settings_path(root: Path) -> Path:
    """Return where the settings of the workspace ``root`` lie."""
    from curate.schema.settings import FILE_NAME

    return root / FILE_NAME


def broken(root: Path, file: Path | None, error: CurateError) -> Reason:
    """Return that the workspace ``root``, or the one ``file``, cannot be opened, and how to mend it."""
    what = "file" if file else "workspace"
    text = Text.assemble(
        (f"This {what} cannot be opened", "strong"), ": ", safe_text(str(file or root.resolve()), 200, "accent"),
        "\n\n", ("! error ", "error"), safe_lines(f"{error.code}: {error.message}"), "\n", safe_lines(error.hint),
        "\n\n" if error.hint else "\n",
        "" if file else _line("e", f"edit {settings_path(root).name} in your editor"),
        _line("r", "try again, once it is mended"), _line("q", "quit; nothing was changed"),
    )  # fmt: skip
    return Reason(f"the {what} cannot be opened; r tries again", text, has_settings=not file, can_try=True)


def empty(project: Project, *, is_standby: bool = False) -> Reason:
    """Return that there are no records, and the ways to the first one; `Standby` has keys for all of them."""
    from curate.project.drafts import Drafts

    root, catalog = project.root, project.catalog
    files = "" if project.file else f"  (record files: {', '.join(project.settings.data)})"
    shell = "" if project.file else f"{' ' * (_KEY_WIDTH + 2)}curate import FILE --into {typed(root)}\n"
    text = Text.assemble(
        ("No records yet", "strong"), " in ", safe_text((project.file or root.resolve()).name, 60, "accent"),
        safe_text(files, 80), "\n\n", _line("n", "write the first record"),
        _line("i" if is_standby else "g h i", f"import a file{'; in a shell:' if shell else ''}"),
        safe_lines(shell, "key"),
        _line("t" if is_standby else "g h t", "take the two-minute tour, in a workspace of its own"),
        _line("r", "read the record files again, after you have put one there"), _line("?", "all keys"),
    )  # fmt: skip
    if catalog.num_unread:
        text.append_text(_line("g v", f"what is wrong with lines that are no records ({catalog.num_unread:,})"))
    if num_drafts := len(Drafts(root, project.by).names()):
        text.append_text(_line("g e", f"then o: go on with {counted(num_drafts, 'draft')} of yours"))
    for remark in (*project.remarks(), *catalog.remarks):
        text.append_text(Text.assemble("\n", ("~ warn ", "warn"), safe_text(remark, _LONGEST)))
    return Reason("there are no records yet; n writes the first one", text, can_write=True)


def _line(key: str, what: str) -> Text:
    return Text.assemble("  ", (f"{key:<{_KEY_WIDTH}}", "key"), what, "\n")


class ProjectScreen(Screen[None]):
    """One of the ten screens. Subclasses give the class variables, `compose_body`, and what else they need."""

    NAME: ClassVar[str]  # The name of its file: ``app.go(NAME)`` shows it.
    # Whether there is something to show where no line of the record files is a record.
    SHOWS_LINES: ClassVar[bool] = False
    BINDINGS: ClassVar[list[Any]] = [Binding("M", "ask_models", "Ask models", id="screen.ask", show=False)]
    HELP = ""  # Markdown that `?` shows above the keys.
    _covered: Widget | None = None  # What had the focus when the terminal became too small.
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012  Textual declares it so

    if TYPE_CHECKING:

        @property
        def app(self) -> HostApp:  # type: ignore[override]
            """The app, as what it is."""

    def compose(self) -> ComposeResult:
        yield HeaderBar()
        yield TabBar(self.NAME)
        yield TitleRule()
        with Container(id="body"):
            yield from self.compose_body()
        yield Standby()
        yield StatusLine()
        yield TourBar()
        yield KeyLine()
        yield TooSmall()

    def compose_body(self) -> ComposeResult:
        raise NotImplementedError

    @property
    def project(self) -> Project:
        """The open project; only Home is ever shown without one."""
        return self.app.project

    @property
    def is_narrow(self) -> bool:
        """Whether there is room for one pane only."""
        return self.has_class("-narrow")

    def equal_command(self) -> str:
        """Return the command line that is equal to what is shown, for `y`; empty where there is none."""
        return ""

    def current_record(self) -> str:
        """Return the id of the record under the cursor; empty where there is none."""
        return ""

    def action_ask_models(self) -> None:
        if name := self.current_record():
            self.app.go("ask", record=name)
        else:
            self.tell_no_use("There is no saved record here to ask models about.")

    def in_editor(self, text: str, path: Path) -> str | None:
        """Return ``text`` as somebody leaves it in an editor of their own, None where nothing changed, which is said.

        Raises CurateError as `curate.sessions.own_editor.edited` does.
        """
        from curate.sessions.own_editor import edited

        try:
            with self.app.suspend():
                after = edited(text, path)
        except SuspendNotSupported:
            self.tell("An editor cannot be started from here.", "warn")
            return None
        if after is None or after == text:
            self.tell("the editor changed nothing")
            return None
        return after

    def record_json(self) -> str:
        """Return the record under the cursor as one line of JSON, for `Y`; empty where there is none."""
        name = self.current_record()
        if not name or self.project.catalog.find(name) is None:
            return ""
        return json.dumps(dict(self.project.state(name).record.data), ensure_ascii=False)

    def put(self, name: str, text: VisualType) -> None:
        """Show ``text``, which has come through the display border, in the `Static` called ``name``."""
        self.query_one(f"#{name}", Static).update(text)

    def arrive(self, **what: Any) -> None:
        """Take what `app.go` handed over; called each time the screen is shown by it, and never before `ready`."""

    def opened(self) -> None:
        """Called on the screen that is shown once it is known whether there is a workspace; only Home is concerned."""

    def ready(self) -> None:
        """Called when the catalog is loaded, or when the screen is first shown if it was loaded before.

        Called again after the record files were read anew: the rows then have other numbers.
        """

    def changed(self, ids: set[str]) -> None:
        """Called when records changed, by whomever; while another screen is shown, it waits until this one is."""

    def reread(self) -> None:
        """Called by `r`: read anew what this screen shows."""
        self.ready()

    def busy(self) -> str:
        """Return what this screen is computing that its keys need, as "comparing the records"; empty where nothing."""
        return ""

    def tell_no_use(self, otherwise: str) -> None:
        """Answer a key that has nothing to act on: with what is under way, else with ``otherwise``."""
        if busy := self.busy():
            self.tell(f"Still {busy}; press the key again when that is done.", "warn")
        else:
            self.tell(otherwise, "warn")

    # While there are no records.

    def lacks_records(self) -> bool:
        """Whether the records are read and this screen has nothing to show of them."""
        catalog = self.project.catalog
        return not len(catalog) and not (self.SHOWS_LINES and catalog.num_unread)

    def standby(self) -> Reason | None:
        """Return why there is nothing to show, None where there is something."""
        app, following = self.app, self.app.following
        if not app.has_project and not app.is_opening:
            return broken(app.root, app.to_begin, following.failure) if following.failure else None
        if following.is_loaded:
            return empty(self.project, is_standby=True) if self.lacks_records() else None
        return failed(following.failure) if following.failure else reading(following.progress)

    @property
    def is_on_standby(self) -> bool:
        """Whether there is nothing to show, so that the screen is told of nothing and none of its keys acts."""
        return self.standby() is not None

    def show_standby(self) -> None:
        """Show the reason in place of the body, or the body again."""
        reason, was_on_standby = self.standby(), self.has_class("-standby")
        for box in self.query(Standby):
            if reason is not None:
                box.show(reason)
                self.set_class(True, "-standby")
                self.set_focus(box)
        if reason is None and was_on_standby:
            self.set_class(False, "-standby")
            selector = self.app.AUTO_FOCUS if self.AUTO_FOCUS is None else self.AUTO_FOCUS
            candidates = self.query_one("#body").query(selector).results(Widget) if selector else ()
            self.set_focus(next((widget for widget in candidates if widget.focusable and widget.display), None))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        # Let no key of the screen itself act while there is nothing to act on.
        if self.has_class("-standby") and any(
            binding.action.partition("(")[0] == action for binding in self._own_bindings()
        ):
            return False
        return super().check_action(action, parameters)

    def refusal(self, key: str) -> str:
        """Return what to answer to ``key``, which would act if there were something to act on; else empty."""
        reason = self.standby()
        if reason is None or self.app.screen is not self or key in self.active_bindings:
            return ""
        return self.answer_to(key, reason.word)

    def answer_to(self, key: str, why: str) -> str:
        """Return what to say to ``key``, which cannot act now; empty where it is no key of this screen."""
        own = next((binding for binding in self._own_bindings() if binding.key == key), None)
        return "" if own is None else f"{own.description.lower() or key_name(key)}: {why}"

    def _own_bindings(self) -> list[Binding]:
        """Return the bindings of the screen that are ours, as the user has set their keys."""
        return [binding for several in self._bindings.key_to_bindings.values() for binding in several if binding.id]

    def has_unsaved(self) -> bool:
        """Whether leaving the app now would lose something that was typed and not kept."""
        return False

    def close_side(self) -> bool:
        """Close what is open within the screen; return False where nothing is."""
        if self.is_narrow and self.is_side_open:
            self.is_side_open = False
            return True
        return False

    @property
    def is_side_open(self) -> bool:
        """Whether, where there is room for one pane only, it is the one of class ``side``."""
        return self.has_class("-side")

    @is_side_open.setter
    def is_side_open(self, is_open: bool) -> None:
        self.set_class(is_open, "-side")

    def tell(self, message: str | Text, severity: Severity = "ok", remedy: str = "") -> None:
        """Write ``message`` on the status line, and ``remedy`` below it; plain strings are made visible first."""
        self.app.tell(message, severity, remedy)

    def on_mount(self) -> None:
        # Measure once before the first paint, and say what is waited for.
        self._judge_size()
        self.show_standby()

    def on_screen_resume(self) -> None:
        self.app.deliver(self)

    @property
    def is_too_small(self) -> bool:
        """Whether the terminal has too few columns or lines for a screen."""
        width, height = self.app.size
        return width < NARROWER or height < LOWER

    def _judge_size(self) -> None:
        # Textual takes the focus from what it hides: whoever was typing goes on typing in the same field.
        if self.is_too_small and not self.has_class("-tiny"):
            self._covered = self.focused
        elif self.has_class("-tiny") and not self.is_too_small:
            self.call_later(self.set_focus, self._covered)
        self.set_class(self.is_too_small, "-tiny")

    on_resize = _judge_size

    def pane(self) -> Widget | None:
        """Return the pane that holds the focus, for `z`: the widget of class ``pane`` around it, else itself."""
        focused = self.focused
        if focused is None:
            return None
        around = (node for node in focused.ancestors_with_self if isinstance(node, Widget))
        return next((widget for widget in around if widget.has_class("pane")), focused)


class _Stopped(Exception):  # noqa: N818  it is no error
    """Somebody does not want to wait any longer."""


class ComparingScreen(ProjectScreen):
    """A screen that compares all records with one another, in a thread that `esc` stops."""

    PROGRESS: ClassVar[str]  # The name of the line that says how far the comparison is.

    def __init__(self) -> None:
        super().__init__()
        self.is_stale = False  # Whether records have changed since, and `r` is waited for.
        self.is_comparing = False
        self._stop = Event()

    def compare(self, job: Callable[[Watch], T], then: Callable[[T], object]) -> None:
        """Run ``job`` in a thread, in place of the one before, and hand what it returns to ``then``."""
        self._stop.set()
        self._stop = stop = Event()
        self.is_comparing = True
        self.show_progress("comparing records  (esc stops)")

        def run() -> tuple[T] | None:
            try:
                return (job(self._watch(stop)),)
            except _Stopped:
                return None
            finally:
                if stop is self._stop:
                    self.is_comparing = False

        def done(result: tuple[T] | None) -> None:
            if result is not None:
                then(result[0])
            else:
                self.tell("Stopped; r compares anew.", "warn")
                self.stopped()

        self.app.background(run, done, group=f"{self.NAME}.compare")

    def stopped(self) -> None:
        """Called when the comparison was stopped."""

    def close_side(self) -> bool:
        was_comparing, self.is_comparing = self.is_comparing, False
        self._stop.set()
        return was_comparing or super().close_side()

    def is_outdated(self) -> bool:
        """Whether what is shown must not be written, because the records have changed; and say so."""
        if self.is_stale or self.is_comparing:
            self.tell_no_use("The records have changed; r compares them anew, then write.")
        return self.is_stale or self.is_comparing

    def show_progress(self, line: str) -> None:
        """Say how far the comparison is; while the app ends its widgets are gone before the screen is."""
        if self.is_mounted and self.app.is_running:
            self.put(self.PROGRESS, Text(line, "accent", no_wrap=True, end=""))

    def _watch(self, stop: Event) -> Watch:
        worker = get_current_worker()
        last = 0.0

        def watch(stage: str, done: int, total: int) -> None:
            nonlocal last
            if stop.is_set() or worker.is_cancelled:
                raise _Stopped
            if time.monotonic() - last >= _EVERY:
                last = time.monotonic()
                share = f" {done / total:.0%}" if total else f" {done:,}"
                self.app.call_from_thread(self.show_progress, f"{stage}{share}  (esc stops)")

        return watch
