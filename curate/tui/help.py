"""What `?` and `@` show: every key, and what was run and decided."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen

from curate.tui.border import safe_text
from curate.tui.context import UNTABBED
from curate.tui.keys import bindings_of, key_name

if TYPE_CHECKING:
    from curate.base.events import Event
    from curate.project.project import Project
    from curate.tui.context import Tab
    from curate.tui.screen import ProjectScreen

_CODE = re.compile(r"`([^`]+)`")
_TERM = re.compile(r"\A- ((?:`[^`]+`[ ,]*)+): (.*)", re.DOTALL)
_TERM_WIDTH = 30
_NUMBER = re.compile(r"_[0-9]+\Z")
_SEVERAL = 94  # Cells of a page from which on keys stand in several columns: those of a terminal of 100.
_MOST_EVENTS = 200
_COPYING = (
    "Copying: `y` takes the command and `Y` the record, by OSC 52; tmux needs `set -g set-clipboard on` for it."
    " Dragging selects text inside the app; to select with the terminal itself hold shift, or start with --no-mouse."
)


@dataclass(frozen=True)
class LoggedCommand:
    """One line of the command log: when (HH:MM), the equal command, and what came of it."""

    at: str
    command: str
    result: str


def keys_page(
    screen: ProjectScreen, app_class: type[DOMNode], tabs: Iterable[Tab], keymap: Mapping[str, str], width: int
) -> Text:
    """Return the help of ``screen`` for ``width`` columns: its own words, then all keys with their ids.

    ``app_class`` has the keys that work everywhere, ``keymap`` the user's own by id. Where there is room for several
    columns without the ids alone, they are left out.
    """
    text = Text()
    if screen.HELP:
        text.append_text(marked_up(screen.HELP)).append("\n\n")
    around = [] if screen.focused is None else [type(node) for node in screen.focused.ancestors_with_self]
    inner = [kind for kind in around if not issubclass(kind, Screen) and kind is not app_class]
    title = screen.TITLE or screen.NAME
    for heading, kinds in ((title, [type(screen)]), ("Where the focus is", inner), ("Everywhere", [app_class])):
        if rows := _rows(keymap, bindings_of(kinds)):
            text.append(f"{heading}\n", "strong").append_text(_in_columns(rows, width)).append("\n\n")
    text.append("Go to\n", "strong")
    text.append("  " + "   ".join(f"g {tab.key} {tab.title}" for tab in (*tabs, *UNTABBED)) + "   g g first row\n\n")
    return text.append_text(marked_up(_COPYING))


def marked_up(markdown: str) -> Text:
    """Return our own Markdown as text: headings, and `code` as keys; lines of a paragraph flow into one another."""
    text = Text()
    for line in _flowing(markdown):
        if line.startswith("#"):
            text.append(line.lstrip("# ") + "\n", "strong")
            continue
        for index, piece in enumerate(_CODE.split(_TERM.sub(_as_row, line))):
            text.append(piece, "key" if index % 2 else "")
        text.append("\n")
    text.rstrip()
    return text


def _as_row(term: re.Match[str]) -> str:
    """Return an item of a list that explains a term as a row of a table."""
    width = _TERM_WIDTH + term[1].count("`")
    return f"  {term[1]:<{width}}{term[2]}" if len(term[1]) < width else term[0]


def _flowing(markdown: str) -> Iterator[str]:
    """Yield the lines of ``markdown`` with each paragraph and each item of a list on one line."""
    paragraph = ""
    for line in markdown.strip().splitlines():
        is_apart = not line.strip() or line.startswith(("#", "|", "- ", "* "))
        if paragraph and (is_apart or paragraph.startswith(("#", "|"))):
            yield paragraph
            paragraph = ""
        if not line.strip():
            yield ""
        else:
            paragraph = f"{paragraph} {line.strip()}" if paragraph else line
    yield paragraph


def command_log(message: Text, commands: Sequence[LoggedCommand], project: Project | None) -> Text:
    """Return the page for `@`: the last message, what this app has run, and what was decided, the newest first."""
    text = Text.assemble(("Last message\n", "strong"), message, "\n\n") if message else Text("")
    text.append("Run from here\n", "strong")
    for entry in reversed(commands):
        parts = safe_text(entry.command, 200, "key"), "  ", safe_text(entry.result, 200), "\n"
        text.append_text(Text.assemble(f"  {entry.at}  ", *parts))
    text.append("" if commands else "  nothing yet\n").append("\nDecided\n", "strong")
    if project is not None:
        from curate.sessions.overview import is_redo

        for event in project.recent(_MOST_EVENTS):
            line = event_line(event, is_hidden=project.hides_event(event), is_redo=is_redo(project, event))
            text.append_text(line).append("\n")
    return text


def event_line(event: Event, *, is_hidden: bool = False, is_redo: bool = False) -> Text:
    """Return one decision on one line: time, annotator, what, on which record; without the answer if it is hidden."""
    from curate.base.events import summary_of

    value = event.decision.fields.get("value")
    answer = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    detail = summary_of(event.decision, "shown once you have answered" if is_hidden else answer)
    op = "redo" if is_redo else event.op
    return Text.assemble(
        f"  {event.at[11:16]} ", safe_text(event.by, 12), f"  {op:8}", safe_text(event.id, 30, "accent"), "  ",
        safe_text(detail, 80),
    )  # fmt: skip


def _in_columns(rows: Sequence[tuple[str, str, str]], width: int) -> Text:
    """Return keys, words and ids as lines; from `_SEVERAL` columns on beside one another, as there is room."""
    wide = [max(len(row[index]) for row in rows) + 2 for index in range(3)]
    has_ids = width < _SEVERAL or 2 * (sum(wide) + 2) <= width
    widths = wide if has_ids else wide[:2]
    num = max(1, width // (sum(widths) + 2)) if width >= _SEVERAL else 1
    height = -(-len(rows) // num)
    lines = []
    for number in range(height):
        line = Text()
        for row in rows[number::height]:
            line.append("  ")
            for value, style, size in zip(row, ("key", "", "muted"), widths, strict=False):
                line.append(f"{value:<{size}}", style)
        line.rstrip()
        lines.append(line)
    return Text("\n").join(lines)


def _rows(keymap: Mapping[str, str], bindings: Sequence[Binding]) -> list[tuple[str, str, str]]:
    by_action: dict[str, tuple[list[str], Binding]] = {}
    for binding in bindings:
        # Keys that are numbered, such as those of answers, share a line.
        by_action.setdefault(_NUMBER.sub("", binding.id or binding.action), ([], binding))[0].append(binding.key)
    rows = []
    for keys, binding in by_action.values():
        own = keymap.get(binding.id or "")
        names = " ".join(map(key_name, own.split(",") if own else keys))
        rows.append((names, binding.description, binding.id or ""))
    return rows
