"""The line that says where the cursor of Browse stands, and the field that counts what the filter lets through."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from curate.base.record import CurateError
from curate.tui.border import safe_text
from curate.tui.frame_table import FrameTable

_LONGEST = 400


class FixedLine(Static):
    """A line that keeps its size: other words in it move nothing around it, and the same ones cost nothing."""

    def show(self, text: Text) -> None:
        """Show ``text``."""
        if not isinstance(self.content, Text) or text.plain != self.content.plain:
            # To lay out the whole screen anew would cost more than the table itself.
            self.update(text, layout=False)


class Count(FixedLine):
    """How many of the records the filter lets through, with room for all of them."""

    def count(self, number: int, whole: int) -> None:
        """Say that ``number`` of ``whole`` are let through."""
        word = f"{whole:,}"
        self.styles.width = 2 * len(word) + len(" of ") + 2
        self.show(Text(f"{number:,} of {word}"))


class Standing(FixedLine):
    """Where the cursor is, how many are marked, and in which order; or what is wrong with the filter."""

    def stand(self, table: FrameTable, order: str) -> None:
        """Say where the cursor of ``table`` is; ``order`` says how its rows and columns were chosen."""
        self.styles.height = 1
        number = table.source.num_rows
        position = f"row {table.cursor + 1:,}/{number:,}" if number else "no record"
        marked = f"   range {len(table.span):,}" if table.has_range else ""
        marked += f"   marked {len(table.marks):,}" if table.marks else ""
        self.show(Text(f"{position}{marked}   {order}", style="muted"))

    def fault(self, error: CurateError) -> None:
        """Say what is wrong with the filter."""
        text = Text.assemble(("! error ", "error"), safe_text(error.message, _LONGEST))
        if error.hint:
            text.append_text(Text.assemble("\n", safe_text(error.hint, _LONGEST)))
        self.styles.height = len(text.wrap(self.app.console, max(1, self.size.width - 2)))
        self.show(text)
