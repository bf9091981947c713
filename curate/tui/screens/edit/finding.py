"""What the record under edit was opened for: the lines above the form."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text
from textual.message import Message
from textual.widgets import Static

from curate.base.record import Finding
from curate.sessions.edits import field_of, is_standing
from curate.tui.border import FINDING_SIGNS, safe_text

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.tui.context import HostApp


class FindingLine(Static):
    """What the record was opened for; nothing where it was opened for itself."""

    if TYPE_CHECKING:

        @property
        def app(self) -> HostApp:  # type: ignore[override]
            """The app, as what it is."""

    finding: Finding | None = None

    class Fixed(Message):
        """The finding is no longer there."""

    def show(self, project: Project, finding: Finding | None) -> None:
        """Show ``finding`` of a record of ``project``."""
        self.finding = finding
        self._put(Text("") if finding is None else finding_text(finding, field_of(finding, project.shape)))

    def examine(self, project: Project) -> None:
        """See whether the finding is still there, now that its record was saved."""
        finding = self.finding
        if finding is None:
            return

        def examined(is_still_wrong: bool) -> None:
            if self.finding is finding and not is_still_wrong:
                self.finding = None
                self._put(fixed_text(finding))
                self.post_message(self.Fixed())

        self.app.background(partial(is_standing, project, finding), examined, group="edit.finding")

    def _put(self, text: Text) -> None:
        self.display = bool(text)
        self.update(text)


def finding_text(finding: Finding, pointer: str) -> Text:
    """Return what is wrong with the record that was opened for it, where, and what can be done about it."""
    sign, style = FINDING_SIGNS[finding.severity]
    where = (
        Text.assemble(("in ", "muted"), safe_text(pointer, 80, "accent")) if pointer else Text("about the whole record")
    )
    fix = Text.assemble("   ", safe_text(finding.fix, 300)) if finding.fix else Text("")
    head = Text.assemble(" ", (sign, style), " ", (f"{finding.code} {finding.name}", "strong"), "  ")
    return Text.assemble(head, safe_text(finding.message, 400), "\n   ", where, fix)


def fixed_text(finding: Finding) -> Text:
    """Return that what the record was opened for is no longer wrong."""
    return Text.assemble(" ", ("ok ", "ok"), (f"{finding.code} {finding.name}", "strong"), "  is no longer found")
