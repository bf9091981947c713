"""The pane beside a form: the record as a chat, as JSON or in tokens, the records nearest to it, its changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from rich.console import Console
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.message import Message

from curate.base.record import Json, Source, canonical, trace_of
from curate.project.diff import field_changes, field_lines
from curate.schema import Shape
from curate.schema.form import json_text
from curate.schema.view import PART_JOINT, REASONING, at, prompt_messages, said_in, spoken_turns
from curate.sessions.edits import EditSession
from curate.sessions.nearest import Nearest
from curate.similarity.dedupe.nearest import Neighbour
from curate.tui.answer_pair import answers_text
from curate.tui.border import safe_lines, safe_text
from curate.tui.widgets import Panel

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
        self.proposed: Text | None = None
        """What a model proposes for the record, if anything."""

    def compose(self) -> ComposeResult:
        for name in ("proposed", "view", "preview", "nearest", "diff"):
            yield Panel(id=name)

    def ready(self, project: Project) -> None:
        self._nearest = Nearest(project)

    @property
    def repeated(self) -> str:
        """A record that the one under edit repeats, empty where there is none."""
        return next((neighbour.id for neighbour in self._neighbours or () if neighbour.kind == "repeat"), "")

    def show(self, edit: EditSession | None) -> None:
        """Show what ``edit`` is like now."""
        if edit is not self._edit:
            self._edit, self._neighbours, self._searched = edit, None, b""
            self.proposed = None
        self._draw()
        self._search()

    def shows(self, edit: EditSession) -> bool:
        """Whether ``edit`` is what it shows."""
        return self._edit is edit

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
        self._draw()

    def _draw(self) -> None:
        edit = self._edit
        parts = {part.id: part for part in self.query_children(Panel)}
        for part in parts.values():
            part.display = edit is not None
        # Draw while hidden, too: Textual may show a pane after a scroll without a Resize.
        if edit is None:
            return
        line, shape = edit.form.to_line(), edit.project.shape
        parts["proposed"].display = self.proposed is not None
        if self.proposed is not None:
            parts["proposed"].show(self.proposed)
        parts["view"].show(view_line(self._view))
        width = max(30, (self.size.width or self.app.size.width) - 3)
        parts["preview"].show(preview(self._view, line, shape, self.app.console, width))
        if self._nearest is not None:
            parts["nearest"].show(neighbour_lines(self._neighbours, self._nearest.threshold))
        parts["diff"].show(difference(edit.form.saved, line, width, is_new=edit.is_new and not edit.is_line))

    # Look for the nearest records in a worker, if there is anything new to look for.
    def _search(self) -> None:
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


View = Literal["chat", "json", "tokens"]
VIEWS: tuple[View, ...] = ("chat", "json", "tokens")

_MOST_CHARS = 4_000
_MOST_LINES = 200
_BYTES_A_TOKEN = 4
_KEY = r'(?m)^ *"(?:[^"\\]|\\.)*"(?=:)'
_KINDS = {
    "repeat": "! repeats it",
    "other answer": "~ same prompt, other answer",
    "same prompt": "~ same prompt",
    "": "",
}


def view_line(view: View) -> Text:
    """Return the names of the views, the present one in brackets."""
    words = [(f"[{name}]", "strong") if name == view else (f" {name} ", "muted") for name in VIEWS]
    return Text.assemble(("PREVIEW ", "strong"), *words, ("  f2 next", "muted"))


def preview(view: View, line: Mapping[str, Json], shape: Shape, console: Console, width: int) -> Text:
    """Return the line as one of the views has it, in ``width`` cells where it has columns."""
    if view == "json":
        text = safe_lines(_cut(json_text(line)))
        text.highlight_regex(_KEY, "accent")
        return text
    turns = list(turns_of(line, shape))
    if view == "chat" and shape.kind == "preference" and shape.is_valid(line):
        record = shape.record(line, Source("", 0))
        asked = list(said_in(prompt_messages(record)))
        return Text.assemble(_chat(asked), answers_text(record, console, width), "\n")
    return _tokens(turns) if view == "tokens" else _chat(turns)


def turns_of(line: Mapping[str, Json], shape: Shape) -> Iterator[tuple[str, str]]:
    """Yield who says what, as training would see it; of a line that is not valid yet, what can be told."""
    view = shape.view
    if view is None:
        return
    if shape.is_valid(line):
        yield from spoken_turns(shape.record(line, Source("", 0)))
        return
    turns = view.get(line, "messages")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict):
            if trace := trace_of(turn):
                yield REASONING, trace
            yield str(turn.get("role") or "?"), str(turn.get("content") or "")
    for name, role in (("system", "system"), ("prompt", "user"), ("completion", "assistant"), ("text", "text")):
        parts = (at(line, path) for path in view.prompt)
        prompt = PART_JOINT.join(part for part in parts if isinstance(part, str) and part)
        said = prompt if name == "prompt" else view.get(line, name)
        if isinstance(said, str) and said:
            yield role, said


def neighbour_lines(neighbours: Sequence[Neighbour] | None, threshold: float) -> Text:
    """Return the nearest records, and whether one of them is so near that dedupe would object."""
    text = Text.assemble(("NEAREST EXAMPLES", "strong"), "\n")
    if neighbours is None:
        return text.append("looking ...\n", "muted")
    if not neighbours:
        return text.append("no similar record\n", "muted")
    for neighbour in neighbours:
        text.append_text(Text.assemble(f" {neighbour.score:.2f} ", safe_text(neighbour.id, 24)))
        text.append(
            f"  {_KINDS[neighbour.kind]}\n" if neighbour.kind else "\n",
            "error" if neighbour.kind == "repeat" else "warn",
        )
    if any(neighbour.kind == "repeat" for neighbour in neighbours):
        text.append(f"! a duplicate by dedupe (from {threshold:g})\n", "error")
    return text


def difference(before: Json, after: Json, width: int, *, is_new: bool) -> Text:
    """Return what differs from what is saved."""
    text = Text.assemble(("DIFF vs saved", "strong"), "\n")
    if is_new:
        return text.append("a new record; nothing is saved yet\n", "muted")
    lines = [line for change in field_changes(before, after) for line in field_lines(change, width, show_values=True)]
    for line in lines[:_MOST_LINES]:
        text.append_text(safe_text(line.removeprefix("  ")))
        text.append("\n")
    if not lines:
        text.append("nothing\n", "muted")
    if len(lines) > _MOST_LINES:
        text.append(f"{len(lines) - _MOST_LINES:,} more lines\n", "muted")
    return text


def _chat(turns: Sequence[tuple[str, str]]) -> Text:
    text = Text()
    for role, said in turns:
        is_reasoning = role == REASONING
        text.append_text(safe_text(f"<|{role}|>", 40, style="muted" if is_reasoning else "accent"))
        text.append(" ")
        text.append_text(safe_lines(_cut(said), "muted" if is_reasoning else ""))
        text.append("\n")
    return text if turns else Text("empty\n", style="muted")


# Return a rough count: how many tokens a text has is known only to the tokenizer of the model to be trained.
def _tokens(turns: Sequence[tuple[str, str]]) -> Text:
    counts = [-(-len(said.encode("utf-8", "surrogatepass")) // _BYTES_A_TOKEN) for _, said in turns]
    names = [safe_text(role, 40).plain for role, _ in turns]
    width = max([10, *map(len, names)]) + 2
    text = Text()
    for name, count in zip(names, counts, strict=True):
        text.append(f"{name:<{width}}~{count:>7,}\n")
    text.append(f"{'in all':<{width}}~{sum(counts):>7,}\n", "strong")
    exact = "T in Browse counts what the newest dataset has, with the tokenizer of the recipe's base"
    return text.append(f"an estimate, {_BYTES_A_TOKEN} bytes a token; {exact}\n", "muted")


def _cut(text: str) -> str:
    if len(text) <= _MOST_CHARS:
        return text
    return f"{text[:_MOST_CHARS]} ... {len(text) - _MOST_CHARS:,} more characters"
