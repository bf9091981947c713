"""What stands in place of a screen's body while there are no records to show: not read yet, or none written yet.

One guard for all screens: as long as it stands there, a screen is not told of records, and its keys are answered with
the reason instead of acting on nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from rich.text import Text
from textual.binding import Binding
from textual.widgets import Static

from curate.base.tables import counted
from curate.tui.border import safe_text

if TYPE_CHECKING:
    from curate.base.record import CurateError
    from curate.project.project import Project
    from curate.tui.context import HostApp

_KEY_WIDTH = 5
_LONGEST = 400


class Reason(NamedTuple):
    """Why a screen has nothing to show."""

    word: str
    """In a few words, as the answer to a key."""
    text: Text
    """In full, with what to press."""
    can_write: bool = False
    """Whether a first record can be written."""


class Standby(Static, can_focus=True):
    """The text in place of the body; it has the focus, so that no hidden widget takes a key."""

    BINDINGS: ClassVar[list[Any]] = [Binding("n", "first_record", "First record", id="standby.first")]

    def __init__(self) -> None:
        """Make it empty."""
        super().__init__()
        self._can_write = False

    def show(self, reason: Reason) -> None:
        """Show ``reason``."""
        self._can_write = reason.can_write
        if self.content != reason.text:
            self.update(reason.text)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer a first record only where one can be written."""
        return self._can_write if action == "first_record" else True

    def action_first_record(self) -> None:
        """Write the first record."""
        cast("HostApp", self.app).go("edit", new=True)


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


def empty(project: Project) -> Reason:
    """Return that there are no records, and the ways to the first one."""
    from curate.project.drafts import Drafts

    root, globs = project.root, ", ".join(project.settings.data)
    catalog = project.catalog
    text = Text.assemble(
        ("No records yet", "strong"), " in ", safe_text(root.resolve().name, 60, "accent"), "  (record files: ",
        safe_text(globs, 60), ")\n\n", _line("n", "write the first record"),
        _line("r", "read the record files again, after you have put a file there or run, in a shell:"),
        " " * (_KEY_WIDTH + 2), safe_text(f"curate import FILE --into {root}", 200, "key"), "\n",
    )  # fmt: skip
    if catalog.num_unread:
        text.append_text(_line("g v", f"{counted(catalog.num_unread, 'line')} that are no records: what is wrong"))
    if num_drafts := len(Drafts(root, project.by).names()):
        text.append_text(_line("g e", f"then o: go on with {counted(num_drafts, 'draft')} of yours"))
    for remark in (*project.remarks(), *catalog.remarks):
        text.append_text(Text.assemble("\n", ("~ warn ", "warn"), safe_text(remark, _LONGEST)))
    return Reason("there are no records yet; n writes the first one", text, can_write=True)


def _line(key: str, what: str) -> Text:
    return Text.assemble("  ", (f"{key:<{_KEY_WIDTH}}", "key"), what, "\n")
