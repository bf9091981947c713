"""The pane beside a form: what the record looks like, the records nearest to it, and its unsaved changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.widgets import Static

from curate.base.record import canonical
from curate.sessions.edits import EditSession
from curate.sessions.nearest import Nearest
from curate.similarity.dedupe.nearest import Neighbour
from curate.tui.fields import update_if_other
from curate.tui.form.preview import VIEWS, View, difference, neighbour_lines, preview, view_line

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.tui.context import HostApp


class EditSide(VerticalScroll):
    """Preview, neighbours and differences of one record under edit."""

    DEFAULT_CSS = """
    EditSide Static { height: auto; width: 1fr; }
    EditSide #preview, EditSide #nearest { margin-bottom: 1; }
    """

    class NeighboursKnown(Message):
        """The nearest records are known; ``repeated`` is one that dedupe would call the same, empty where none is."""

        def __init__(self, repeated: str) -> None:
            super().__init__()
            self.repeated = repeated

    def __init__(self) -> None:
        super().__init__(classes="side pane")
        self._edit: EditSession | None = None
        self._view: View = VIEWS[0]
        self._nearest: Nearest | None = None
        self._neighbours: list[Neighbour] | None = None
        self._searched = b""

    def compose(self) -> ComposeResult:
        """Lay the parts one under the other."""
        for name in ("view", "preview", "nearest", "diff"):
            yield Static(id=name)

    def ready(self, project: Project) -> None:
        """Begin to look for neighbours in ``project``."""
        self._nearest = Nearest(project)

    @property
    def repeated(self) -> str:
        """A record that the one under edit repeats, empty where there is none."""
        return next((neighbour.id for neighbour in self._neighbours or () if neighbour.kind == "repeat"), "")

    def show(self, edit: EditSession | None) -> None:
        """Show what ``edit`` is like now."""
        if edit is not self._edit:
            self._edit, self._neighbours, self._searched = edit, None, b""
        self._draw()
        self._search()

    def next_view(self) -> View:
        """Show the preview in the next way, and return which that is."""
        self._view = VIEWS[(VIEWS.index(self._view) + 1) % len(VIEWS)]
        self._draw()
        return self._view

    def search_anew(self) -> None:
        """Look for the nearest records again."""
        self._searched = b""
        self._search()

    def on_resize(self, _event: Resize) -> None:
        """Lay out the differences for another width."""
        self._draw()

    def _draw(self) -> None:
        edit = self._edit
        parts = {part.id: part for part in self.query_children(Static)}
        for part in parts.values():
            part.display = edit is not None
        if edit is None:
            return
        line, shape = edit.form.to_line(), edit.project.shape
        update_if_other(parts["view"], view_line(self._view))
        update_if_other(parts["preview"], preview(self._view, line, shape))
        if self._nearest is not None:
            update_if_other(parts["nearest"], neighbour_lines(self._neighbours, self._nearest.threshold))
        width = max(30, self.size.width - 3)
        update_if_other(
            parts["diff"], difference(edit.form.saved, line, width, is_new=edit.is_new and not edit.is_line)
        )

    def _search(self) -> None:
        """Look for the nearest records in a worker, if there is anything new to look for."""
        edit, nearest = self._edit, self._nearest
        if edit is None or nearest is None:
            return
        line, name = edit.form.to_line(), edit.name
        searched = canonical(line)
        if searched == self._searched:
            return
        self._searched = searched

        def show(neighbours: list[Neighbour]) -> None:
            if self._edit is edit:
                self._neighbours = neighbours
                self._draw()
                self.post_message(self.NeighboursKnown(self.repeated))

        app = cast("HostApp", self.app)
        app.background(lambda: nearest.find(line, without=name), show, group="edit.nearest")
