"""A verb of the command line in a box: its parameters to fill in, the command line that is equal, and its output."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Checkbox, Input, Select, Static

from curate.sessions.verbs import Verb, VerbProcess
from curate.tui.border import safe_lines, safe_text
from curate.tui.widgets import Pane, SafeInput

if TYPE_CHECKING:
    from curate.sessions.verbs import Parameter
    from curate.tui.context import HostApp

_MOST_LINES = 5000  # Of a verb's output that are shown; the file or a shell has the rest.
_ENDED = {0: "done", 1: "ended: see what it says"}  # By exit code; all others are failures.
_EVERY = 0.2  # Seconds between two looks at what a verb has printed.


class Switch(Checkbox):
    """A box with a cross, or with none: Textual's own tells them apart by colour alone."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802
        return "X" if self.value else " "


class VerbDialog(ModalScreen[tuple[list[str], list[str]] | None]):
    """The parameters of a verb; it hands over the command line to run, and the one that shows first what it would do.

    The second is empty where nothing needs to be shown first.
    """

    BINDINGS: ClassVar[list[Any]] = [
        Binding("ctrl+s,f2", "run", "Run", id="verb.run"),
        Binding("escape", "dismiss", "Cancel", id="verb.cancel"),
    ]
    DEFAULT_CSS = """
    VerbDialog VerticalScroll { height: 1fr; }
    VerbDialog Input, VerbDialog Select { width: 1fr; }
    VerbDialog .label { margin-top: 1; }
    """

    def __init__(self, verb: Verb, root: str) -> None:
        """Ask for the parameters of ``verb``, for the workspace ``root``."""
        super().__init__()
        self._verb = verb
        self._values = {item.name: item.default for item in verb.parameters}
        for item in verb.parameters:
            if item.name in ("root", "paths") or ("DIR" in item.hint and not (item.on or item.is_required)):
                # Ids are typed before the workspace.
                self._values[item.name] = f" {shlex.quote(root)}" if item.name == "words" else root

    def compose(self) -> ComposeResult:
        with Vertical(classes="box large"):
            yield Static(Text.assemble((self._verb.name, "strong"), "  ", self._verb.summary))
            with VerticalScroll(can_focus=False):
                for number, item in enumerate(self._verb.parameters):
                    yield Static(_label(item), classes="label")
                    yield self._field(item, f"p{number}")
            yield Static(id="equal")
            keys = ("ctrl+s", "key"), " or ", ("f2", "key"), " run   ", ("enter", "key"), " next   "
            yield Static(Text.assemble(*keys, ("esc", "key"), " cancel"))

    def _field(self, item: Parameter, name: str) -> Widget:
        value = self._values[item.name]
        if item.kind == "flag":
            return Switch(item.hint, value == "true", id=name, compact=True)
        if item.kind == "choice":
            choices = [(choice, choice) for choice in item.choices]
            return Select(choices, value=value or Select.NULL, id=name, compact=True)
        field = SafeInput(value, id=name, compact=True, select_on_focus=False)
        field.cursor_position = 0 if item.name == "words" else len(value)
        return field

    def on_mount(self) -> None:
        self._show_command()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._take(event.input, event.value)

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        self._take(event.checkbox, "true" if event.value else "false")

    def on_select_changed(self, event: Select.Changed) -> None:
        self._take(event.select, "" if event.value is Select.NULL else str(event.value))

    def _take(self, widget: Widget, value: str) -> None:
        self._values[self._verb.parameters[int((widget.id or "p0")[1:])].name] = value
        self._show_command()

    def _show_command(self) -> None:
        try:
            line = Text.assemble(("$ ", "muted"), safe_lines(shlex.join(self._verb.command(self._values)), "key"))
        except ValueError as error:
            line = Text.assemble(("~ warn ", "warn"), safe_lines(str(error)))
        self.query_one("#equal", Static).update(line)

    def on_input_submitted(self) -> None:
        # One key more must run nothing: some commands rewrite files.
        self.focus_next()

    def action_run(self) -> None:
        try:
            self.dismiss((self._verb.command(self._values), self._verb.preview(self._values)))
        except ValueError as error:
            cast("HostApp", self.app).tell(str(error), "warn")


def _label(item: Parameter) -> Text:
    head = "" if item.kind == "flag" else item.hint
    required = " required" if item.is_required else ""
    several = " several, parted by blanks" if item.takes_several else ""
    return Text.assemble((head, "accent"), (required, "warn"), (several, "muted"), "  " if head else "", item.help)


class RunPage(ModalScreen[None]):
    """A verb that runs as a process of its own, and what it prints."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape,q", "close", "Close", id="run_page.close"),
        Binding("y", "confirm", "Do it", id="run_page.confirm"),
    ]

    def __init__(self, words: list[str], preview: Sequence[str] = ()) -> None:
        """Run the command line ``words``; where there is a ``preview``, run that, and ``words`` after a yes."""
        super().__init__()
        self._words, self._next = list(preview) or words, words if preview else []
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._num_lines = self._num_drawn = 0
        self._process: VerbProcess | None = None
        self._is_running, self._is_stopped = True, False

    @property
    def frame(self) -> HostApp:
        """The app, as what it is."""
        return cast("HostApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical(classes="box large"):
            yield Static(safe_text(f"$ {shlex.join(self._words)}", None, "strong"))
            with Pane(id="output"):
                yield Static(id="printed")
            yield Static(Text("running; esc stops it", "muted"), id="ended")

    def on_mount(self) -> None:
        self.query_one("#output").focus()
        self.set_interval(_EVERY, self._show_lines)
        width = max(40, self.app.size.width - 6)

        def job() -> int:
            self._process = VerbProcess(self._words, width, self.frame.by)
            if self._is_stopped:
                self._process.stop()
            return self._process.follow(self._printed)

        # Its name begins so that the app does not leave while it may be writing.
        self.frame.background(job, self._ended, group="write.verb")

    def _printed(self, line: str) -> None:
        self._lines.append(line)
        self._num_lines += 1

    def _show_lines(self) -> None:
        if self.is_mounted and self._num_lines != self._num_drawn:
            self._num_drawn = self._num_lines
            gone = self._num_lines - len(self._lines)
            head = Text(f"(the first {gone:,} lines are not shown)\n", "muted") if gone else Text()
            self.query_one("#printed", Static).update(Text.assemble(head, safe_lines("".join(self._lines))))

    def _show_end(self, text: str) -> None:
        if self.is_mounted:
            self.query_one("#ended", Static).update(Text(text, "muted"))

    def _ended(self, code: int) -> None:
        self._is_running = False
        self._show_lines()
        result = "stopped" if self._is_stopped else _ENDED.get(code, "failed: see what it says")
        if self._is_stopped or code not in _ENDED:
            self._next = []
        if self._next and self.is_mounted:
            # The sums are at the end.
            self.call_after_refresh(self.query_one("#output").scroll_end, animate=False)
        self._show_end("Nothing is done yet: y does it, esc does not" if self._next else f"{result}; esc closes")
        self.frame.log_command(shlex.join(self._words), result)
        # What it decided or wrote is shown at once.
        if self.frame.has_project:
            self.frame.following.reread()

    def action_confirm(self) -> None:
        if self._next and not self._is_running:
            self.app.switch_screen(RunPage(self._next))

    def action_close(self) -> None:
        if not self._is_running:
            self.dismiss()
            return
        self._is_stopped = True
        if self._process is not None:
            self._process.stop()
