"""The box that shows what was understood of a file, where a column's target is changed before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from curate.base.console import line_end
from curate.base.record import CurateError
from curate.tui.border import SIGNS, Severity, safe_lines
from curate.tui.dialogs import Choose
from curate.tui.frame_table import Column, FrameTable

if TYPE_CHECKING:
    from curate.project.init import FilePreview
    from curate.schema import Shape

_STORED = "stored only"
_TARGETS = (
    ("instruction", "what is asked: the prompt"), ("output", "the answer: the completion"),
    ("input", "a text beside the prompt"), ("system", "the system message"), ("category", "the category"),
    ("id", "the id"), ("split", "train, validation or test"), ("text", "raw text, without an answer"),
    (_STORED, "kept in meta.extra and not trained on"),
)  # fmt: skip


class ColumnsDialog(ModalScreen[dict[str, str] | None]):
    """A table of the columns of a file; `y` hands over the map that was made, empty for what was recognised."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("y", "take", "Take it", id="columns.yes"),
        Binding("n,q", "dismiss", "No", id="columns.no"),
        Binding("escape", "dismiss", "No", id="columns.escape", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    ColumnsDialog FrameTable { height: 1fr; }
    ColumnsDialog #what { height: auto; max-height: 8; }
    """

    def __init__(
        self, path: Path, question: str, background: Callable[..., object], *, into: Shape | None = None
    ) -> None:
        """Ask ``question`` about the file ``path``, which is read in the background.

        ``into`` is the shape of the workspace that takes it, None for a new workspace.
        """
        super().__init__()
        self._path, self._question, self._background, self._into = path, question, background, into
        self._mapping: dict[str, str] = {}
        self._preview: FilePreview | None = None
        self._problem = "The file is still being read."  # Why nothing can be taken yet.

    def compose(self) -> ComposeResult:
        with Vertical(classes="box large"):
            yield Static(id="what")
            columns = [Column("column", 16), Column("goes to", 18), Column("example"), Column("how sure", 19)]
            yield FrameTable(columns, can_mark=False, key=4)
            keys = Text.assemble(("enter", "key"), " change   ", ("y", "key"), " take it   ", ("n", "key"), " no")
            yield Static(keys, id="keys")

    def on_mount(self) -> None:
        self._read()

    def _read(self) -> None:
        mapping = dict(self._mapping)

        def job() -> FilePreview:
            from curate.project.init import preview

            return preview(self._path, mapping or None, self._into)

        self._say("reading ...")
        self._background(job, self._show, group="read.show.columns", failed=self._refuse)

    def _refuse(self, error: CurateError) -> None:
        if not self.query(FrameTable):  # The box was closed meanwhile.
            return
        self._problem = f"{error.message}\n{error.hint}"
        if self._preview is None:
            # Of a file that is not understood there is nothing to ask.
            self._question = f"{self._path.name} is not taken in."
            self.query_one(FrameTable).display = False
            self.query_one("#keys", Static).update(Text.assemble("\n", ("esc", "key"), " go on without it"))
        self._say(self._problem, "error")

    def _say(self, text: str, severity: Severity = "ok") -> None:
        said = Text.assemble(safe_lines(f"{self._question}\n"), (SIGNS[severity], severity), safe_lines(text))
        self.query_one("#what", Static).update(said)

    def _show(self, preview: FilePreview) -> None:
        from curate.checks.spans import with_values_hidden

        if not self.query(FrameTable):
            return
        self._preview, self._problem = preview, preview.problem
        read_as = f"read as {preview.container}, rows as {preview.form}"
        self._say(preview.problem or read_as, "warn" if preview.problem else "ok")
        rows = [
            (
                line_end(with_values_hidden(use.column), 16),
                use.target,
                with_values_hidden(use.example[:200]),
                use.certainty,
                use.column,
            )
            for use in preview.columns
        ]
        table = self.query_one(FrameTable)
        table.show(rows, at=table.current)
        self.set_focus(table)

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        event.stop()
        column = event.key

        def chosen(field: str | None) -> None:
            if field is not None and self._preview is not None:
                begun = self._mapping or self._preview.mapping
                self._mapping = {name: other for name, other in begun.items() if other != column and name != field}
                self._mapping |= {field: column} if field != _STORED else {}
                self._read()

        # Of what is told as one, such as "/meta/...", there is no single value.
        if not column.endswith("/..."):
            self.app.push_screen(Choose(f"Where does {column} go?", _TARGETS), chosen)

    def action_take(self) -> None:
        if self._problem:
            self._say(f"y takes nothing yet. {self._problem}", "error")
        else:
            self.dismiss(self._mapping)
