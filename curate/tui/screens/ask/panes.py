"""The panes of Ask: one for each model, with how it stands, what it was asked and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.fuzzy import Matcher
from textual.widgets import Static

from curate.schema.view import text_of
from curate.sessions.asking import AskSession, Participant, Reply
from curate.tui.border import cut_middle, safe_lines, safe_text
from curate.tui.dialogs import Choose
from curate.tui.record_text import limited
from curate.tui.widgets import Pane, Panel, SafeTextArea

if TYPE_CHECKING:
    from curate.base.record import CurateError

_STYLES = {"failed": "error", "ready": "ok", "loading": "accent", "writing": "accent"}


def standing(model: Participant) -> Text:
    """Return in a word or two how a model stands."""
    word = "writing" if model.is_writing else model.state
    return Text(word, _STYLES.get(word, "muted"))


def render_head(model: Participant, width: int) -> Text:
    """Return the name of a model, how it stands, and the memory that it takes."""
    name = cut_middle(model.name, max(8, width))
    what = "endpoint" if model.is_endpoint else f"{model.kind}, {model.memory / 1e6:,.0f} MB" if model.kind else ""
    return Text.assemble((name, "strong"), "\n", standing(model), (f"  {what}" if what else "", "muted"))


def render_failure(error: CurateError) -> Text:
    """Return why a model cannot be asked, and what to do."""
    return Text.assemble(
        ("! error ", "error"), safe_lines(f"{error.code}: {error.message}"), "\n", safe_lines(error.hint), "\n",
        ("r", "key"), " tries again",
    )  # fmt: skip


def render_turn(messages: Sequence[Any], reply: Reply | None, model: Participant, *, is_marked: bool) -> Text:
    """Return what was messages at a turn, and what a model answered; the one that keys act on has a mark."""
    text = Text()
    for message in messages:
        text.append_text(safe_text(str(message["role"]).upper(), 20, "muted")).append("\n")
        text.append_text(limited(text_of(message), "accent")).append("\n")
    text.append("> ANSWER\n" if is_marked else "ANSWER\n", "strong" if is_marked else "muted")
    if reply is None:
        word = {"loading": "waits until the model is loaded", "failed": "not asked"}.get(model.state, "waits")
        return text.append(f"({word})\n", "muted")
    if reply.reasoning:
        text.append_text(limited(reply.reasoning, "muted")).append("\n")
    text.append_text(limited(reply.text)).append("\n" if reply.text else "")
    if reply.note:
        text.append_text(safe_lines(f"({reply.note})", "warn" if reply.state == "failed" else "muted")).append("\n")
    if reply.new_tokens is not None:
        cost = f", cost {reply.cost:.4f}" if reply.cost is not None else ""
        text.append(f"({reply.new_tokens:,} tokens, {reply.seconds:.1f} s{cost})\n", "muted")
    return text


class ModelPane(Vertical):
    """One model: its head, and below it a text for each turn."""

    DEFAULT_CSS = """
    ModelPane { width: 1fr; height: 1fr; border-left: vkey $panel; padding-left: 1; }
    ModelPane.-current { border-left: outer $accent; }
    ModelPane Panel { height: 2; width: 1fr; }
    ModelPane Pane { height: 1fr; scrollbar-size-vertical: 1; }
    """

    def __init__(self, model: Participant) -> None:
        super().__init__(classes="pane")
        self.model = model
        self._drawn: list[Text] = []

    def compose(self) -> ComposeResult:
        yield Panel()
        yield Pane()

    def show(self, session: AskSession, turn: int) -> None:
        """Draw what is new; ``turn`` is the one that keys act on."""
        model = self.model
        self.query_one(Panel).show(render_head(model, self.size.width - 2))
        replies = [*model.replies, *[None] * (len(session.turns) - len(model.replies))]
        texts = [
            render_turn(messages, reply, model, is_marked=number == turn)
            for number, (messages, reply) in enumerate(zip(session.turns, replies, strict=False))
        ]
        if model.error is not None:
            texts.append(render_failure(model.error))
        body = self.query_one(Pane)
        # Who has scrolled up to read stays there.
        is_at_end = body.scroll_y >= body.max_scroll_y - 1
        turns = list(body.query(Static))
        for widget, text, drawn in zip(turns, texts, self._drawn, strict=False):
            if text != drawn:
                widget.update(text)
        for text in texts[len(turns) :]:
            body.mount(Static(text))
        for widget in turns[len(texts) :]:
            widget.remove()
        has_new, self._drawn = texts != self._drawn, texts
        if is_at_end and has_new:
            body.scroll_end(animate=False)

    def go_to(self, turn: int) -> None:
        """Scroll to a turn."""
        turns = list(self.query_one(Pane).query(Static))
        if turn < len(turns):
            self.query_one(Pane).scroll_to_widget(turns[turn], animate=False, top=True)


class PromptField(SafeTextArea):
    """Where a prompt is typed: enter sends it, and another key begins a line."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("enter", "screen.send", "Send", id="ask_prompt.send", priority=True),
        Binding("ctrl+j,shift+enter", "line", "New line", id="ask_prompt.line", priority=True),
    ]
    DEFAULT_CSS = """
    PromptField { height: auto; min-height: 2; max-height: 6; border-top: hkey $panel; }
    """

    def action_line(self) -> None:
        self.insert("\n")


class PickModel(Choose):
    """Models to choose from, found by letters in their order; a path, a file or URL#MODEL is taken too."""

    def matches(self, typed: str) -> Sequence[tuple[str, str]]:
        if not typed:
            return self._values
        matcher = Matcher(typed)
        scored = [(max(matcher.match(name), matcher.match(note) / 4), name, note) for name, note in self._values]
        return [(name, note) for score, name, note in sorted(scored, key=lambda row: -row[0]) if score > 0]
