"""The answers of two models to one prompt, judged by one key; which model gave which comes at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Static

from curate.base.record import CurateError
from curate.project.diff.words import sides_of
from curate.project.project import Project
from curate.sessions.blind_comparison import BlindComparison, Choice, report_lines
from curate.tui.answer_pair import marked, two_texts
from curate.tui.border import safe_lines, safe_text
from curate.tui.chrome import KeyLine, StatusLine
from curate.tui.widgets import Pane

if TYPE_CHECKING:
    from curate.tui.context import HostApp

_COLUMNS_FROM = 100  # Cells from which the answers stand beside one another.
_MOST_CHARS = 20_000


class BlindScreen(ModalScreen[None]):
    """One pair after the other; after the last the names and the result."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("1", "choose('left')", "First", id="blind.first"),
        Binding("2", "choose('right')", "Second", id="blind.second"),
        Binding("t", "choose('tie')", "Tie", id="blind.tie"),
        Binding("b", "choose('both bad')", "Both bad", id="blind.both_bad"),
        Binding("u", "undo", "Undo", id="blind.undo"),
        Binding("q,escape", "dismiss", "Quit", id="blind.leave"),
        Binding("s", "skip", "Skip", id="blind.skip"),
        Binding("d", "words", "Diff", id="blind.words"),
        Binding("r", "record", "Says", id="blind.record"),
    ]
    DEFAULT_CSS = """
    BlindScreen { align: left top; background: $surface; }
    BlindScreen #blind-head { height: 1; }
    BlindScreen Pane { height: 1fr; }
    """

    def __init__(self, project: Project, between: tuple[str, str]) -> None:
        """Compare the models ``between`` in a project that is loaded."""
        super().__init__()
        self._project, self._between = project, between
        self._comparison: BlindComparison | None = None
        self._is_marked = self._has_reference = False

    @property
    def frame(self) -> HostApp:
        """The app, as what it is."""
        return cast("HostApp", self.app)

    def compose(self) -> ComposeResult:
        yield Static(" reading the answers", id="blind-head")
        with Pane(id="blind-pane"):
            yield Static(id="blind-text")
        yield StatusLine()
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(Pane).focus()
        self.frame.background(
            lambda: BlindComparison(self._project, *self._between), self._begin, group="blind.read", failed=self._failed
        )

    def _begin(self, comparison: BlindComparison) -> None:
        self._comparison = comparison
        self._next(comparison.counts.sentence())

    def _failed(self, error: CurateError) -> None:
        self._put("head", Text(" these models cannot be compared", style="warn"))
        self._put("text", Text.assemble(safe_lines(error.message), "\n", safe_lines(error.hint)))

    def _show(self) -> None:
        comparison = self._comparison
        if comparison is None:
            return
        pair = comparison.current
        if pair is None:
            self._put("head", Text(" every pair is judged", style="strong"))
            self._put("text", Text("asking the trainer what comes of it", style="muted"))
            self.frame.background(self._result, self._show_result, group="blind.result", failed=self._failed)
            return
        number = f" {comparison.num_done + 1:,} of {len(comparison.pairs):,}  "
        self._put("head", Text.assemble((number, "strong"), safe_text(pair.category, 30), "  ", (pair.record, "muted")))
        parts: list[Text] = []
        for who, text in comparison.prompt():
            parts.append(Text.assemble(safe_text(who.upper(), 30, "muted"), "\n", _answer_text(text)))
        if self._has_reference:
            parts.append(Text.assemble(("THE RECORD SAYS\n", "muted"), _answer_text(comparison.reference())))
        self._put("text", Text("\n").join([*parts, self._answers(pair.sides)]))

    def _answers(self, texts: tuple[str, str]) -> Text:
        # One cell goes to the scroll bar.
        width = max(20, self.size.width - 2)
        if self._is_marked:
            left, right = (marked(side) for side in sides_of(*texts, _MOST_CHARS))
        else:
            left, right = map(_answer_text, texts)
        sides = ("\nanswer 1", left), ("\nanswer 2", right)
        return two_texts(*sides, self.app.console, width, columns_from=_COLUMNS_FROM)

    def _result(self) -> str:
        assert self._comparison is not None, "its pairs were judged"
        lines = list(report_lines(self._comparison))
        if path := self._comparison.write_human():
            lines += ["", f"written: {path}"]
        return "\n".join(lines)

    def _show_result(self, text: str) -> None:
        if self._comparison is not None and self._comparison.current is None:
            self._put("text", safe_lines(text))

    def _put(self, name: str, text: Text) -> None:
        self.query_one(f"#blind-{name}", Static).update(text)

    def _next(self, message: str) -> None:
        self.frame.tell(message)
        self._show()
        self.query_one(Pane).scroll_home(animate=False)

    def action_choose(self, choice: Choice) -> None:
        comparison = self._comparison
        if comparison is not None and comparison.current is not None:
            comparison.choose(choice)
            self._next(f"saved; {comparison.num_done:,} of {len(comparison.pairs):,}")

    def action_skip(self) -> None:
        if self._comparison is not None and self._comparison.current is not None:
            self._comparison.skip()
            self._next("skipped: it comes again at the end")

    def action_undo(self) -> None:
        if self._comparison is not None:
            undone = self._comparison.undo()
            self._next(undone.message if undone else "your last decision is no verdict of this comparison")

    def action_words(self) -> None:
        self._is_marked = not self._is_marked
        self._next("[ ] marks the words that the other has not" if self._is_marked else "no words are marked")

    def action_record(self) -> None:
        self._has_reference = not self._has_reference
        self._show()

    def on_resize(self) -> None:
        if self._comparison is not None and self._comparison.current is not None:
            self._show()


def _answer_text(text: str) -> Text:
    lines = safe_lines(text[:_MOST_CHARS])
    more = len(text) - _MOST_CHARS
    return Text.assemble(lines, (f"\n({more:,} characters more are not shown)", "muted")) if more > 0 else lines
