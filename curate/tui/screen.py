"""What every screen has in common: header, tab bar, status line and key line around a body of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.screen import Screen
from textual.widget import Widget

from curate.tui import standby
from curate.tui.chrome import LOWER, NARROWER, HeaderBar, KeyLine, StatusLine, TabBar, TitleRule, TooSmall
from curate.tui.keymap import key_name
from curate.tui.standby import Reason, Standby

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.tui.context import HostApp
    from curate.tui.status import Severity


class ProjectScreen(Screen[None]):
    """One of the nine screens. Subclasses give the class variables, `compose_body`, and what else they need."""

    NAME: ClassVar[str]
    """The name of its file: ``app.go(NAME)`` shows it."""
    KEY: ClassVar[str]
    """``g`` and this key go there."""
    SHOWS_LINES: ClassVar[bool] = False
    """Whether there is something to show where no line of the record files is a record."""
    HELP = ""
    """Markdown that `?` shows above the keys."""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012  Textual declares it so

    if TYPE_CHECKING:

        @property
        def app(self) -> HostApp:  # type: ignore[override]
            """The app, as what it is."""

    def compose(self) -> ComposeResult:
        """Lay the body between the lines that all screens share."""
        yield HeaderBar()
        yield TabBar(self.NAME)
        yield TitleRule()
        with Container(id="body"):
            yield from self.compose_body()
        yield Standby()
        yield StatusLine()
        yield KeyLine()
        yield TooSmall()

    def compose_body(self) -> ComposeResult:
        """Yield what lies between the tab bar and the status line."""
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

    def record_json(self) -> str:
        """Return the record under the cursor as one line of JSON, for `Y`; empty where there is none."""
        return ""

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
            return None
        if following.is_loaded:
            return standby.empty(self.project) if self.lacks_records() else None
        return standby.failed(following.failure) if following.failure else standby.reading(following.progress)

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
            wanted = self.app.AUTO_FOCUS if self.AUTO_FOCUS is None else self.AUTO_FOCUS
            self.set_focus(
                next((widget for widget in self.query("#body *").results(Widget) if _is_wanted(widget, wanted)), None)
            )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let no key of the screen itself act while there is nothing to act on."""
        if self.has_class("-standby") and any(_name(binding.action) == action for binding in self._own_bindings()):
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
        """Go back one level within the screen; return False where there is none and `esc` should leave it."""
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
        """Measure once before the first paint, and say what is waited for."""
        self._judge_size()
        self.show_standby()

    def on_resize(self) -> None:
        """Refuse to draw where there is no room."""
        self._judge_size()

    def on_screen_resume(self) -> None:
        """Hand over what waited for this screen."""
        self.app.deliver(self)

    @property
    def is_too_small(self) -> bool:
        """Whether the terminal has too few columns or lines for a screen."""
        width, height = self.app.size
        return width < NARROWER or height < LOWER

    def _judge_size(self) -> None:
        self.set_class(self.is_too_small, "-tiny")

    def pane(self) -> Widget | None:
        """Return the pane that holds the focus, for `z`: the widget of class ``pane`` around it, else itself."""
        focused = self.focused
        if focused is None:
            return None
        panes = (
            widget for widget in focused.ancestors_with_self if isinstance(widget, Widget) and widget.has_class("pane")
        )
        return next(panes, focused)


def _name(action: str) -> str:
    """Return the name of an action without what is handed to it."""
    return action.partition("(")[0]


def _is_wanted(widget: Widget, selector: str | None) -> bool:
    return bool(selector) and widget.focusable and widget.display and widget in widget.screen.query(str(selector))
