"""A screen that writes down what it is told, for tests of what is around the screens."""

from __future__ import annotations

from textual.binding import Binding
from textual.widgets import Static

from curate.base.events import Drop
from curate.base.record import CurateError
from curate.tui.border import safe_text
from curate.tui.frame_table import Column, FrameTable
from curate.tui.screen import ProjectScreen
from curate.tui.widgets import SafeInput


class ProbeScreen(ProjectScreen):
    """A screen that writes down what it is told."""

    NAME, TITLE = "probe", "Probe"
    HELP = "# Probing\nPress `d` to drop [/b]."
    BINDINGS = [Binding("d", "drop", "Drop", id="probe.drop"), Binding("f", "fail", "Fail", id="probe.fail")]  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.told = []
        self.unsaved = False

    def compose_body(self):
        yield FrameTable([Column("id", 8), Column("prompt")], id="rows", classes="main pane")
        yield SafeInput(id="field")
        yield Static(safe_text("[/foo] detail"), id="detail", classes="side")

    def ready(self):
        self.told.append("ready")
        rows = [(state, "x") for state in ("r000", "r001", "r002")]
        self.query_one("#rows", FrameTable).show(rows)

    def arrive(self, **what):
        self.told.append(("arrive", what))

    def changed(self, ids):
        self.told.append(("changed", ids))

    def reread(self):
        self.told.append("reread")

    def has_unsaved(self):
        return self.unsaved

    def equal_command(self):
        return "curate list ws"

    def record_json(self):
        return '{"id": 1}'

    def action_drop(self):
        names = self.query_one("#rows", FrameTable).chosen()
        self.project.apply([Drop(name, reason="[/b] asked") for name in names])

    def action_fail(self):
        raise CurateError("E906 write-failed", "the disk [/b] is full\x1b[2J", "Make room.")


def probe(pilot) -> ProbeScreen:
    screen = pilot.app.screen
    assert isinstance(screen, ProbeScreen)
    return screen
