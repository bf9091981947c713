"""The box with what can be done about a finding, the same wherever one is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from curate.base.record import Finding
from curate.sessions.remedies import Remedy, change_lines, remedies_of
from curate.tui.border import dotted, safe_lines, safe_text

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.tui.context import HostApp


def offer_remedies(app: HostApp, project: Project, finding: Finding, done: Callable[[str], object]) -> None:
    """Ask what to do about ``finding``, do it, and hand what was done to ``done``, in words."""

    def take(remedy: Remedy) -> None:
        app.background(remedy.act, done, group="write.remedy")

    def ask(remedies: list[Remedy]) -> None:
        if remedies:
            app.ask_with(Remedies(finding, remedies), take)
        else:
            more = "enter on it goes to what it is about." if finding.line else finding.fix or of_all(finding)
            app.tell("This is not about one record.", "warn", more)

    app.background(partial(remedies_of, project, finding), ask, group="remedies.show")


def of_all(finding: Finding) -> str:
    """Return what tells what can be done about a finding of all records together, for which there is no key."""
    return f"No key settles it: `curate rule {finding.code}` says what can be done."


class Remedies(ModalScreen[Remedy | None]):
    """What can be done about one finding."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("escape", "dismiss", "Cancel", id="remedies.cancel"),
    ]

    def __init__(self, finding: Finding, remedies: Sequence[Remedy]) -> None:
        super().__init__()
        self._finding = finding
        self._remedies = remedies

    def compose(self) -> ComposeResult:
        finding = self._finding
        lines = [
            Text.assemble((f"{finding.code} {finding.name}", "strong"), "  ", safe_text(finding.message, 200)),
            Text(""),
        ]
        for remedy in self._remedies:
            lines.append(Text.assemble((f"{remedy.key}  ", "key"), safe_text(remedy.text, 200)))
            lines += [
                safe_lines(f"   {dotted(line)}", "muted") for line in (change_lines(remedy.fix) if remedy.fix else ())
            ]
        lines += [Text(""), Text.assemble("u takes each of them back   ", ("esc", "key"), " cancel")]
        with Vertical(classes="box"):
            yield Static(Text("\n").join(lines))

    def on_key(self, event: events.Key) -> None:
        remedy = next((remedy for remedy in self._remedies if remedy.key == event.character), None)
        if remedy is not None:
            event.stop()
            self.dismiss(remedy)
