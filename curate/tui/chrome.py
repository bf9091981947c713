"""The lines around every screen's body: header, tab bar, status line, key line, and what a tiny terminal gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.cells import cell_len
from rich.text import Text
from textual import events
from textual.screen import Screen
from textual.widgets import Input, Static, TextArea

from curate.tui.border import cut_middle, glyphs, safe_text
from curate.tui.keys import key_name

if TYPE_CHECKING:
    from curate.tui.context import HostApp

# Below so many columns or lines a screen says that it needs more, and takes no keys but those that leave.
NARROWER, LOWER = 60, 15
_SHORT = 4  # Letters of each tab's title, and of the name of the workspace, where not all of it fits.


class FrameLine(Static):
    """A line of the frame that is drawn anew from the app's state by `show`."""

    def __init__(self) -> None:
        super().__init__()
        self._line = Text()

    @property
    def frame(self) -> HostApp:
        """The app, as what it is."""
        return cast("HostApp", self.app)

    def show(self) -> None:
        """Draw the line, if it is another than before."""
        line = self.line(max(0, self.size.width))
        self.fit(line)
        if line != self._line or line.spans != self._line.spans:
            self._line = line
            # As high as it was it is: to lay out the screen anew takes longer than all else.
            self.update(line, layout=False)

    on_resize = show

    def on_mount(self) -> None:
        self.show()

    def fit(self, line: Text) -> None:
        """Take the room that ``line`` needs; most lines are one and stay one."""

    def line(self, width: int) -> Text:
        """Return the line, at most ``width`` cells wide."""
        raise NotImplementedError


class HeaderBar(FrameLine):
    """Product, workspace and annotator on the left; what the journal holds on the right."""

    def line(self, width: int) -> Text:
        # Return the header; where not all of it fits, the name of the workspace is cut first, and never the right end.
        app = self.frame
        right = safe_text(self._journal_state(), style="error" if self._is_unsaved else "muted")
        file = app.project.file if app.has_project else None
        name = (file or app.root.resolve()).name
        rest = Text("  one file, no workspace" if file else "")
        if app.by:
            rest.append_text(Text.assemble("  annotator: ", safe_text(app.by, 30)))
        head = Text.assemble(" ", ("curate", "strong"), "  ")
        room = width - right.cell_len - 2 - head.cell_len - rest.cell_len
        left = Text.assemble(head, (cut_middle(name, max(_SHORT, min(60, room))), "accent"), rest)
        left.truncate(max(0, width - right.cell_len - 2), overflow="crop")
        gap = max(1, width - left.cell_len - right.cell_len - 1)
        return Text.assemble(left, " " * gap, right, no_wrap=True, end="")

    @property
    def _is_unsaved(self) -> bool:
        writer = self.frame.project.writer if self.frame.has_project else None
        return writer is not None and writer.is_unsaved

    def _journal_state(self) -> str:
        app = self.frame
        if not app.has_project:
            return "opening" if app.is_opening else "no workspace"
        if self._is_unsaved:
            return "journal ! not saved"
        if app.following.is_stale:
            return "files changed: r reads them"
        if app.project.file:
            return "saved in the file"
        return f"journal ok  #{app.project.num_decisions:,}"


class TabBar(FrameLine):
    """The nine tabs, the present one in brackets; a click goes there."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._current = name
        self._spans: list[tuple[int, int, str]] = []

    def line(self, width: int) -> Text:
        text, self._spans = Text(no_wrap=True, end=""), []
        needed = sum(len(tab.title) + 2 for tab in self.frame.tabs)
        gap = " " if width >= needed + len(self.frame.tabs) else ""
        for tab in self.frame.tabs:
            is_current = tab.name == self._current
            title = tab.title if width >= needed else tab.title[:_SHORT]
            word = f"[{title}]" if is_current else f" {title} "
            style = "tab" if is_current else ("" if self.frame.is_open(tab.name) else "muted")
            self._spans.append((text.cell_len, text.cell_len + len(word), tab.name))
            text.append(word, style)
            text.append(gap)
        return text

    def on_click(self, event: events.Click) -> None:
        name = next((name for start, end, name in self._spans if start <= event.x < end), "")
        if name:
            self.frame.go(name)


class StatusLine(FrameLine):
    """The last message, whole: as many lines as it needs, up to a third of the screen."""

    def fit(self, line: Text) -> None:
        """Take as many lines as the message has."""
        height = line.plain.count("\n") + 1
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height

    def line(self, width: int) -> Text:
        # Return the message, wrapped to ``width``; what is longer than there is room for says where the rest is.
        most = max(2, self.app.size.height // 3)
        lines = list(self.frame.message.wrap(self.app.console, max(1, width - 2)))
        rest = Text("")
        if len(lines) > most:
            lines, rest = lines[:most], Text(f" {glyphs().ellipsis} @ shows all of it", style="key")
            lines[-1].truncate(max(1, width - 2 - rest.cell_len))
        wrapped = Text("\n").join(Text.assemble(" ", row) for row in lines)
        return Text.assemble(wrapped, rest, no_wrap=True, end="")


class TourBar(FrameLine):
    """What to do next in the tour, and why; not there without a tour."""

    def fit(self, line: Text) -> None:
        """Take as many lines as there are, none without a tour."""
        height = line.plain.count("\n") + 1 if line else 0
        if self.display != bool(line) or (line and self.styles.height and self.styles.height.value != height):
            self.display, self.styles.height = bool(line), height

    def line(self, width: int) -> Text:
        return Text("\n").join(self.frame.guide.text.wrap(self.app.console, max(1, self.screen.size.width)))


class KeyLine(FrameLine):
    """What the keys do here, made from the bindings that are active now."""

    ALWAYS: ClassVar[tuple[str, ...]] = ("edit.next_field", "edit.save", "app.help")  # Ids at the end.

    def __init__(self) -> None:
        super().__init__()
        self._clickable: list[tuple[int, int, str]] = []  # From which column to which a click is which key.

    def on_mount(self) -> None:
        super().on_mount()
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self.show())

    def line(self, width: int) -> Text:
        """Return as many keys as fit, those of the focused widget first, and last the one that shows all of them."""
        is_typing = isinstance(self.screen.focused, Input | TextArea)
        text = Text.assemble(" ", ("INSERT", "strong"), "  ") if is_typing else Text(" ")
        pieces, self._clickable = self._pieces(is_typing=is_typing), []
        last = [piece for piece in pieces if piece[0] in self.ALWAYS]
        fitting = []
        room = width - text.cell_len - sum(piece.cell_len for _, _, piece in last)
        for piece in pieces:
            if piece[0] not in self.ALWAYS and piece[2].cell_len <= room:
                fitting.append(piece)
                room -= piece[2].cell_len
        for _, key, drawn in (*fitting, *last):
            self._clickable.append((text.cell_len, text.cell_len + drawn.cell_len - 1, key))
            text.append_text(drawn)
        text.no_wrap, text.end = True, ""
        return text

    def on_click(self, event: events.Click) -> None:
        # What is clicked is the key: whatever has the focus takes it.
        key = next((key for start, end, key in self._clickable if start <= event.x < end), "")
        if key:
            self.app.simulate_key(key)

    def _pieces(self, *, is_typing: bool) -> list[tuple[str, str, Text]]:
        """Return the id of each binding that is shown, its key, and key and word as they are drawn."""
        keys: dict[str, tuple[list[tuple[str, str]], str, str]] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            # Where no workspace is open there is nothing to undo.
            is_idle = binding.id == "app.undo" and not self.frame.has_project
            if binding.show and binding.description and active.enabled and not is_idle:
                names, _, _ = keys.setdefault(binding.action, ([], binding.description, binding.id or ""))
                # Where one types, a key that is a character is typed.
                label = key_name(binding.key) if is_typing else binding.key_display or key_name(binding.key)
                names.append((label, binding.key))
        # Of several keys the plain one: it is the one that people remember.
        plain = [(min(names, key=lambda pair: len(pair[0])), word, name) for names, word, name in keys.values()]
        return [
            (name, key, Text.assemble((label, "key"), " ", word.lower(), "  ")) for (label, key), word, name in plain
        ]


class TooSmall(Static):
    """What a terminal with too few cells gets in place of the screen."""

    def render(self) -> Text:
        width, height = self.app.size
        return Text(f"The terminal is {width}x{height}. curate needs {NARROWER}x{LOWER}. Make it larger, or press q.")


class TitleRule(Static):
    """A line across its pane, with a word in it if one is given."""

    def __init__(self, title: str | Text = "") -> None:
        """Make a rule; ``title`` may be data."""
        super().__init__()
        self._title = title if isinstance(title, Text) else safe_text(title, 60)

    def render(self) -> Text:
        mark = glyphs().rule
        if not self._title.plain:
            return Text(mark * self.size.width, style="muted", no_wrap=True, end="")
        rest = max(0, self.size.width - cell_len(self._title.plain) - 4)
        return Text.assemble((mark * 2 + " ", "muted"), self._title, (" " + mark * rest, "muted"), no_wrap=True, end="")


def draw_frame(screen: Screen[Any], kind: type[FrameLine] = FrameLine) -> None:
    """Draw the lines around the body of ``screen`` anew, or those of one ``kind``: each costs something at every key.

    Keys and tabs change with the focus and with the workspace, never with what is said or decided.
    """
    for line in screen.children:
        if isinstance(line, kind):
            line.show()
