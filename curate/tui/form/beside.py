"""The pane beside a form: what the record looks like, the records nearest to it, and its unsaved changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.message import Message
from textual.widgets import Static

from curate.dedupe.nearest import Neighbour
from curate.record import canonical
from curate.tui.form.nodes import update_if_other
from curate.tui.form.preview import VIEWS, View, difference, neighbour_lines, preview, view_line
from curate.workshop.edits import Edit
from curate.workshop.nearest import Nearest

if TYPE_CHECKING:
    from curate.tui.app import CurateApp
    from curate.workshop import Workshop


class Beside(VerticalScroll):
    """Preview, neighbours and differences of one record under edit."""

    DEFAULT_CSS = """
    Beside Static { height: auto; width: 1fr; }
    Beside #preview, Beside #nearest { margin-bottom: 1; }
    """

    class Found(Message):
        """The nearest records are known; ``repeated`` is one that dedupe would call the same, empty where none is."""

        def __init__(self, repeated: str) -> None:
            super().__init__()
            self.repeated = repeated

    def __init__(self) -> None:
        super().__init__(classes="side pane")
        self._edit: Edit | None = None
        self._view: View = VIEWS[0]
        self._nearest: Nearest | None = None
        self._neighbours: list[Neighbour] | None = None
        self._asked = b""

    def compose(self) -> ComposeResult:
        """Lay the parts one under the other."""
        for name in ("view", "preview", "nearest", "diff"):
            yield Static(id=name)

    def ready(self, workshop: Workshop) -> None:
        """Begin to look for neighbours in ``workshop``."""
        self._nearest = Nearest(workshop)

    @property
    def repeated(self) -> str:
        """A record that the one under edit repeats, empty where there is none."""
        return next((one.id for one in self._neighbours or () if one.kind == "repeat"), "")

    def show(self, edit: Edit | None) -> None:
        """Show what ``edit`` is like now."""
        if edit is not self._edit:
            self._edit, self._neighbours, self._asked = edit, None, b""
        self._draw()
        self._look()

    def next_view(self) -> View:
        """Show the preview in the next way, and return which that is."""
        self._view = VIEWS[(VIEWS.index(self._view) + 1) % len(VIEWS)]
        self._draw()
        return self._view

    def look_anew(self) -> None:
        """Look for the nearest records again."""
        self._asked = b""
        self._look()

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
        line, shape = edit.form.to_line(), edit.workshop.workspace.shape
        update_if_other(parts["view"], view_line(self._view))
        update_if_other(parts["preview"], preview(self._view, line, shape))
        if self._nearest is not None:
            update_if_other(parts["nearest"], neighbour_lines(self._neighbours, self._nearest.threshold))
        width = max(30, self.size.width - 3)
        update_if_other(
            parts["diff"], difference(edit.form.saved, line, width, is_new=edit.is_new and not edit.is_line)
        )

    def _look(self) -> None:
        """Look for the nearest records in a worker, if there is anything new to look for."""
        edit, nearest = self._edit, self._nearest
        if edit is None or nearest is None:
            return
        line, name = edit.form.to_line(), edit.name
        asked = canonical(line)
        if asked == self._asked:
            return
        self._asked = asked

        def found(neighbours: list[Neighbour]) -> None:
            if self._edit is edit:
                self._neighbours = neighbours
                self._draw()
                self.post_message(self.Found(self.repeated))

        app = cast("CurateApp", self.app)
        app.background(lambda: nearest.find(line, without=name), found, group="edit.nearest")
