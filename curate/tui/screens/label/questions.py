"""The form over `[label]`: which questions are asked, in which order and of whom. Nothing is written until `W`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args, get_type_hints

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from curate.base.record import CurateError
from curate.schema.settings import Question
from curate.sessions.labelling import QuestionsDraft, value_lines, with_lines
from curate.tui.border import safe_text
from curate.tui.frame_table import Column, FrameTable
from curate.tui.widgets import SafeInput, SafeTextArea

if TYPE_CHECKING:
    from curate.tui.context import HostApp

KINDS: Sequence[str] = get_args(get_type_hints(Question)["kind"])
_PEOPLE = ("annotators", "overlap", "gold", "guide")
_HINTS = {
    "choice": "one value a line; VALUE = when it is right. None: any text is an answer.",
    "several": "one value a line; keys mark as many as fit, enter saves.",
    "rating": "one value a line, the worst first. None: 1 to 5.",
    "pair": "A and B are better, tie, both bad: these values stay. Behind = say when each is right.",
}


def _keys(*words: str) -> Text:
    pairs = (word.split(" ", 1) for word in words)
    return Text("  ").join(Text.assemble((key, "key"), f" {what}") for key, what in pairs)


class _KindField(Static, can_focus=True):
    """One of the kinds; space and the arrows go to the next."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("space,right", "step(1)", "Next kind", id="questions.kind"),
        Binding("left", "step(-1)", "Previous kind", id="questions.kind_back", show=False),
    ]

    def __init__(self, kind: str, then: Callable[[], object]) -> None:
        super().__init__()
        self.kind, self._then = kind, then

    def on_mount(self) -> None:
        self.action_step(0)

    def action_step(self, step: int) -> None:
        self.kind = KINDS[(KINDS.index(self.kind) + step) % len(KINDS)]
        self.update(Text("  ").join(Text(f"({'x' if kind == self.kind else ' '}) {kind}") for kind in KINDS))
        self._then()

    def on_click(self) -> None:
        self.action_step(1)


class _TypedForm(ModalScreen[None]):
    """Fields that are typed into, and what is wrong with them; ``ctrl+s`` takes them, and closes the form."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("ctrl+s,f7", "take", "Take it", id="questions.take", priority=True),
        Binding("escape", "leave", "Cancel", id="questions.cancel", priority=True),
    ]
    DEFAULT_CSS = """
    _TypedForm .box { padding: 0 2; }
    _TypedForm VerticalScroll { height: 1fr; }
    _TypedForm TextArea { height: 1fr; min-height: 4; border: none; }
    _TypedForm Static { height: auto; }
    _TypedForm SafeInput { margin-bottom: 0; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._begun = ""

    def compose_fields(self) -> ComposeResult:
        """Yield what is typed into."""
        raise NotImplementedError

    def content(self) -> str:
        """Return all that is typed, to see whether anything was."""
        texts = [field.value for field in self.query(SafeInput)] + [area.text for area in self.query(SafeTextArea)]
        return "\0".join([*texts, *(field.kind for field in self.query(_KindField))])

    def take(self) -> None:
        """Take what is typed; E902 and others where that cannot be."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical(classes="box large"):
            with VerticalScroll(can_focus=False):
                yield from self.compose_fields()
            yield Static(id="fault")
            yield Static(_keys("tab next field", "ctrl+s take it", "esc cancel"))

    def on_mount(self) -> None:
        self._begun = self.content()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.focus_next()

    def action_take(self) -> None:
        try:
            self.take()
        except (CurateError, ValueError) as error:
            why = f"{error.message}. {error.hint}" if isinstance(error, CurateError) else str(error)
            self.query_one("#fault", Static).update(safe_text(why, 400, "error"))
        else:
            self.dismiss()

    def action_leave(self) -> None:
        if self.content() == self._begun:
            self.dismiss()
        else:
            cast("HostApp", self.app).ask("Drop what you typed here?", self.dismiss)


class _QuestionForm(_TypedForm):
    """One question."""

    def __init__(self, draft: QuestionsDraft, index: int) -> None:
        super().__init__()
        self._draft, self._index = draft, index
        questions = draft.questions
        self._question = questions[index] if index < len(questions) else Question("")
        self._values = draft.values_of(self._question) if self._question.name else []
        self._lines = value_lines(self._question, self._values)

    def compose_fields(self) -> ComposeResult:
        yield Static(Text.assemble(("QUESTION", "strong"), "  name, as answers and filters have it"))
        yield SafeInput(self._question.name, placeholder="quality", compact=True, id="name")
        yield Static("what is asked")
        yield SafeInput(self._question.ask, placeholder="How good is the answer?", compact=True)
        yield _KindField(self._question.kind, self._show_kind)
        yield Static(id="hint")
        yield SafeTextArea(self._lines, tab_behavior="focus")

    def _show_kind(self) -> None:
        kind, area = self._kind(), self.query_one(SafeTextArea)
        self.query_one("#hint", Static).update(Text(_HINTS[kind], "muted"))
        if kind != self._question.kind and not self._question.values and area.text == self._lines:
            # They came by the former kind.
            self._values = self._draft.values_of(Question("-", kind=kind))
            area.text = self._lines = value_lines(self._question, self._values)

    def _kind(self) -> Literal["choice", "several", "rating", "pair"]:
        return cast("Literal['choice', 'several', 'rating', 'pair']", self.query_one(_KindField).kind)

    def take(self) -> None:
        name, ask = (field.value.strip() for field in self.query(SafeInput))
        before, text, kind = self._question, self.query_one(SafeTextArea).text, self._kind()
        by_itself = self._draft.values_of(Question(name or "-", kind=kind))
        question = Question(name, ask, kind, guide=before.guide)
        question = with_lines(question, text, by_itself, self._values)
        if text == self._lines and (name, kind) == (before.name, before.kind):
            question = replace(before, ask=ask)
        self._draft.put(self._index, question)


class _PeopleForm(_TypedForm):
    """Who is asked, and what is given to them."""

    def __init__(self, draft: QuestionsDraft) -> None:
        super().__init__()
        self._draft = draft

    def compose_fields(self) -> ComposeResult:
        label = self._draft.label
        values = (", ".join(label.annotators), f"{label.overlap:g}", label.gold, label.guide)
        texts = (
            "who answers, with commas; empty: whoever comes, until it has its answers",
            "share of the records that a second person answers too, as 0.15 or 15%",
            "file of known answers in the workspace (JSON Lines)",
            "file of the guideline in the workspace (Markdown)",
        )
        for name, value, text in zip(_PEOPLE, values, texts, strict=True):
            yield Static(Text.assemble((name, "strong"), f"  {text}"))
            yield SafeInput(value, compact=True)

    def take(self) -> None:
        self._draft.put_people(*(field.value.strip() for field in self.query(SafeInput)))


class Questions(ModalScreen[dict[str, str]]):
    """The questions as a list; once they are written they are read anew.

    It ends with the question that was changed last, as `LabelScreen.arrive` takes it.
    """

    BINDINGS: ClassVar[list[Any]] = [
        Binding("n", "edit(True)", "New", id="questions.new"),
        Binding("e", "edit(False)", "Change", id="questions.change"),
        Binding("d", "remove", "Remove", id="questions.remove"),
        Binding("J", "move(1)", "Down", id="questions.down"),
        Binding("K", "move(-1)", "Up", id="questions.up"),
        Binding("o", "people", "Who answers", id="questions.people"),
        Binding("W", "write", "Write", id="questions.write"),
        Binding("escape,q", "leave", "Close", id="questions.close"),
    ]

    def __init__(self, draft: QuestionsDraft) -> None:
        super().__init__()
        self._draft = draft
        self._changed = ""  # The question that was changed last.

    def compose(self) -> ComposeResult:
        name, answers = Column("name", 14, is_name=True), Column("answers", 7, is_right=True)
        with Vertical(classes="box large"):
            yield Static(Text.assemble(("QUESTIONS", "strong"), "  [label] of curate.toml"))
            yield FrameTable([name, Column("kind", 8), answers, Column("values")], [], can_mark=False)
            yield Static(id="people")
            yield Static(_keys("n new", "e change", "d remove", "J/K move", "o who answers", "W write", "esc close"))

    def on_mount(self) -> None:
        self._show()

    def _show(self, at: int | None = None) -> None:
        rows = [
            (
                question.name, question.kind, f"{self._draft.num_answers[question.name]:,}",
                ", ".join(self._draft.values_of(question)) or "any text",
            )
            for question in self._draft.questions
        ]  # fmt: skip
        table, label = self.query_one(FrameTable), self._draft.label
        table.show(rows)
        if at is not None:
            table.cursor = max(0, min(at, len(rows) - 1))
        people = ", ".join(label.annotators) or "anybody"
        text = Text.assemble("answers: ", safe_text(people, 60), f"   twice: {label.overlap:.0%}")
        if self._draft.is_changed:
            text.append("\nChanged, and not written: W writes.", "warn")
        self.query_one("#people", Static).update(text)

    def on_frame_table_opened(self, event: FrameTable.Opened) -> None:
        event.stop()
        self.action_edit(False)

    def action_edit(self, is_new: bool) -> None:
        index = len(self._draft.questions) if is_new else self.query_one(FrameTable).cursor
        self.app.push_screen(_QuestionForm(self._draft, index), lambda _: self._take_in(index))

    def _take_in(self, index: int) -> None:
        if self._draft.is_changed and index < len(self._draft.questions):
            self._changed = self._draft.questions[index].name
        self._show(index)

    def action_people(self) -> None:
        self.app.push_screen(_PeopleForm(self._draft), lambda _: self._show())

    def action_remove(self) -> None:
        index = self.query_one(FrameTable).cursor
        self._draft.remove(index)
        self._show(index)

    def action_move(self, step: int) -> None:
        index = self.query_one(FrameTable).cursor
        if self._draft.move(index, step):
            self._show(index + step)

    def action_write(self) -> None:
        if not self._draft.is_changed:
            self.dismiss()
        elif texts := self._draft.consequences():
            cast("HostApp", self.app).ask("\n".join([*texts, "Write it?"]), self._write)
        else:
            self._write()

    def _write(self) -> None:
        app = cast("HostApp", self.app)
        try:
            overruled = self._draft.write()
        except CurateError as error:
            self.query_one("#people", Static).update(safe_text(f"{error.message}. {error.hint}", 400, "error"))
            return
        names = [question.name for question in self._draft.questions]
        self.dismiss({"question": self._changed} if self._changed in names else {})
        more = f", but {', '.join(overruled)} overrules them: unset it" if overruled else ""
        app.following.reload((f"questions written into curate.toml{more}", "warn" if overruled else "ok"))

    def action_leave(self) -> None:
        if self._draft.is_changed:
            cast("HostApp", self.app).ask("The changes are not written. Drop them?", self.dismiss)
        else:
            self.dismiss()
