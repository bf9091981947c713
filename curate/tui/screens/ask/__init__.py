"""Ask: one prompt, several models side by side, and what to do with an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.timer import Timer

from curate.project.drafts import Drafts
from curate.sessions.answer_drafts import keep_prompt, line_of, mark_wrong
from curate.sessions.asking import AskSampling, AskSession, Opening, Reply, choices_of, opening_of
from curate.sessions.contestants import private_question, usual_names
from curate.tui.border import safe_text
from curate.tui.dialogs import Ask
from curate.tui.screen import ProjectScreen
from curate.tui.screens.ask.panes import ModelPane, PickModel, PromptField, standing
from curate.tui.widgets import Pane, Panel

_EVERY = 0.1  # Seconds between two looks at what was written.
_TEMPERATURES = (0.0, 0.3, 0.7, 1.0, 1.5)


class AskScreen(ProjectScreen):
    """A conversation with one to four models."""

    NAME, TITLE = "ask", "Ask"
    AUTO_FOCUS = "ModelPane Pane"
    HELP = """
`i` goes to the prompt, and `enter` sends it to every model; `ctrl+j` begins a new line, `f4` opens your editor. `M` in
Browse, Edit, Compare and other lists asks what a record asks. The conversation goes on, each model from its own
answers. `esc` stops what is being written and keeps it; once more leaves the field.

Keys act on the answer with the mark: `tab` goes to the next model, `n` and `p` to the other turns. `a` puts the answer
into the record, or into a new one, as a draft in Edit; `e` opens it in your editor before. Nothing is saved by itself.
`d` marks the record for a second look (`g q`); a prompt of no record becomes a draft without an answer.

A model that is not there is loaded when it is first asked. Nothing leaves this machine but to a url that you wrote. A
record with findings of personal data (X7xx) is sent to one only after you said yes. Test records are not asked about.
"""
    BINDINGS: ClassVar[list[Any]] = [
        Binding("i,enter", "write", "Write", id="ask.write"),
        Binding("f4", "editor", "$EDITOR", id="ask.editor", show=False),
        Binding("a", "accept", "To draft", id="ask.accept"),
        Binding("e", "edit", "In editor, to draft", id="ask.edit"),
        Binding("d", "wrong", "Wrong", id="ask.wrong"),
        Binding("tab,l,right", "other(1)", "Next model", id="ask.next_model"),
        Binding("shift+tab,h,left", "other(-1)", "Previous model", id="ask.previous_model", show=False),
        Binding("n", "turn(1)", "Next turn", id="ask.next_turn", show=False),
        Binding("p", "turn(-1)", "Previous turn", id="ask.previous_turn", show=False),
        Binding("r", "again", "Ask again", id="ask.again"),
        Binding("s", "seed(1)", "Seed", id="ask.seed"),
        Binding("S", "seed(-1)", "Seed before", id="ask.seed_before", show=False),
        Binding("t", "temperature", "Temperature", id="ask.temperature"),
        Binding("c", "add", "Add a model", id="ask.add"),
        Binding("x", "remove", "Take out", id="ask.remove"),
        Binding("N", "new", "New conversation", id="ask.new", show=False),
    ]
    DEFAULT_CSS = """
    AskScreen #about, AskScreen #models { height: auto; padding: 0 1; }
    AskScreen #panes { layout: horizontal; height: 1fr; }
    AskScreen.-wide #models { display: none; }
    AskScreen.-narrow ModelPane { display: none; border-left: none; padding-left: 0; }
    AskScreen.-narrow ModelPane.-current { display: block; }
    AskScreen.-narrow ModelPane Panel { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._session: AskSession | None = None
        self._index = 0  # Of the model that keys act on.
        self._turn: int | None = None  # The turn that keys act on; None is the last.
        self._num_drawn = -1
        self._timer: Timer | None = None

    def compose_body(self) -> ComposeResult:
        yield Panel(id="about")
        yield Panel(id="models")
        yield Container(id="panes")
        yield PromptField(
            soft_wrap=True, compact=True, show_line_numbers=False, tab_behavior="focus",
            placeholder="i: what do you ask? enter sends, ctrl+j begins a line", highlight_cursor_line=False,
        )  # fmt: skip

    # The session.

    @property
    def session(self) -> AskSession:
        """The conversation; it begins with whom is asked by default. Raises CurateError as `usual_names` does."""
        if self._session is None or self._session.project is not self.project:
            self._begin(usual_names(self.project.data))
        assert self._session is not None, "it was begun"
        return self._session

    def _begin(self, names: Sequence[str], sampling: AskSampling | None = None) -> None:
        self.on_unmount()
        self._session, self._index = AskSession(self.project, names, sampling), 0

    def ready(self) -> None:
        def show() -> None:
            with self.app.attempt():
                self._show_models()

        # Whom to ask may come at once after this, by `arrive`.
        self.call_later(show)

    def arrive(
        self, *, record: str = "", models: Sequence[str] = (), sampling: AskSampling | None = None, **_: Any
    ) -> None:
        """Ask what ``record`` asks; ``models`` take the place of those that there are, and are loaded at once."""
        with self.app.attempt():
            if models:
                self._begin(models, sampling)
                if self._may_start():
                    self.session.load()
            elif sampling is not None:
                self.session.sampling = sampling
            self._show_models()
        if record:
            self.app.background(partial(opening_of, self.project, record), self._open, group="ask.open")

    def _open(self, opening: Opening) -> None:
        if self._may_start():
            self._turn = None
            self.session.begin(opening)
            self._seek_consent()

    def _may_start(self) -> bool:
        if self.app.is_web and not self.app.may_train:
            self.tell("Models cannot be started from the browser.", "warn", "`curate serve --allow-train` allows it.")
            return False
        return True

    def _seek_consent(self) -> None:
        """Follow what is written, and ask whether an endpoint may have a record that it does not get unasked."""
        self._follow()
        session, withheld = self.session, self.session.withheld
        if not withheld:
            return

        def send() -> None:
            session.allow(withheld)
            self._follow()

        self.app.ask(private_question(session.opening.record, [model.name for model in withheld]), send)

    def on_unmount(self) -> None:
        if self._session is not None:
            self._session.close()

    def has_unsaved(self) -> bool:
        return bool(self.query(PromptField) and self._field.text.strip())

    # What is shown.

    @property
    def _field(self) -> PromptField:
        return self.query_one(PromptField)

    @property
    def _panes(self) -> list[ModelPane]:
        """The panes that can be drawn: one taken out may still be there, and a new one not yet have its parts."""
        models = self.session.participants
        return [pane for pane in self.query(ModelPane) if pane.is_mounted and pane.model in models]

    def _focus_pane(self) -> None:
        """Give the focus to the model that keys act on."""
        panes = [pane for pane in self._panes if pane.model is self.session.participants[self._index]]
        self.set_focus(panes[0].query_one(Pane) if panes else None)

    def _show_models(self) -> None:
        """Have a pane for each model."""
        session = self.session
        panes, container = list(self.query(ModelPane)), self.query_one("#panes")
        for pane in panes:
            if pane.model not in session.participants:
                pane.remove()
        known = [pane.model for pane in panes]
        mounting = container.mount_all(ModelPane(model) for model in session.participants if model not in known)
        self._index = max(0, min(self._index, len(session.participants) - 1))

        async def draw_whole() -> None:
            # A refresh may come before a pane has its parts.
            await mounting
            self._draw()
            if self.focused is None:
                self._focus_pane()

        self.call_after_refresh(draw_whole)

    def _follow(self) -> None:
        """Draw, and go on doing so while a model is at work."""
        # Asked before it is drawn: what comes between the two is drawn by the next look.
        is_active = self._session is not None and self._session.is_active
        if self._session is not None and self._session.num_changes != self._num_drawn and self.app.present() is self:
            self._draw()
        if is_active and self._timer is None:
            self._timer = self.set_interval(_EVERY, self._follow)
        elif not is_active and self._timer is not None:
            self._timer.stop()
            self._timer = None

    def _draw(self) -> None:
        session = self._session
        if session is None:
            return
        self._num_drawn = session.num_changes
        sampling = session.sampling
        drawn = f"temperature {sampling.temperature:g}" + ("" if sampling.temperature else " (the likeliest)")
        about = Text.assemble(
            (f"seed {sampling.seed}  {drawn}  at most {sampling.max_new_tokens:,} tokens", "muted"), "  ",
            safe_text(f"record {session.opening.record}" if session.opening.record else "", 80, "accent"),
        )  # fmt: skip
        self.query_one("#about", Panel).show(about)
        names = Text("  ").join(
            Text.assemble(
                safe_text(f"[{model.name}]" if number == self._index else model.name, 40),
                " ", standing(model), f" {model.memory / 1e6:,.0f} MB" if model.memory else "",
            )
            for number, model in enumerate(session.participants)
        )  # fmt: skip
        self.query_one("#models", Panel).show(names if names else Text("no model: c adds one", "warn"))
        turn = self._present_turn()
        for pane in self._panes:
            pane.set_class(session.participants.index(pane.model) == self._index, "-current")
            pane.show(session, turn)

    def _present_turn(self) -> int:
        last = len(self.session.turns) - 1
        return last if self._turn is None else min(self._turn, last)

    def on_screen_resume(self) -> None:
        self._follow()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def on_descendant_focus(self) -> None:
        around = self.focused.ancestors if self.focused is not None else ()
        pane = next((node for node in around if isinstance(node, ModelPane)), None)
        if pane is not None and pane.model in self.session.participants:
            self._index = self.session.participants.index(pane.model)
            self._draw()

    def close_side(self) -> bool:
        if self._session is not None and self._session.is_active and self._session.stop():
            self.tell("Stopped; what was written stays. r asks once more.")
            self._follow()
            return True
        return super().close_side()

    # What is asked.

    def action_send(self) -> None:
        text = self._field.text.strip()
        if not text:
            self.tell("There is no prompt to send.", "warn")
        elif self._has_models() and self._may_start():
            self._field.clear()
            self._turn = None
            self.session.ask(text)
            self._follow()

    def _has_models(self) -> bool:
        if self.session.participants:
            return True
        self.tell_no_use("There is no model to ask: c adds one.")
        return False

    def action_write(self) -> None:
        self.set_focus(self._field)

    def action_editor(self) -> None:
        """Have the prompt written in the person's own editor."""
        if (after := self.in_editor(self._field.text, self._editor_path("prompt"))) is not None:
            self._field.load_text(after)
            self.tell("taken from the editor; enter sends it")

    def action_again(self) -> None:
        if not self.session.turns:
            self.tell_no_use("Nothing was asked yet.")
        elif self._has_models() and self._may_start():
            self.session.again()
            self._seek_consent()

    def action_new(self) -> None:
        self.app.clear_message()
        self.session.begin()
        self._turn = None
        self._follow()
        self.set_focus(self._field)

    def action_seed(self, step: int) -> None:
        sampling = self.session.sampling
        self._sample(replace(sampling, seed=max(0, sampling.seed + step)))

    def action_temperature(self) -> None:
        sampling = self.session.sampling
        following = next((other for other in _TEMPERATURES if other > sampling.temperature), _TEMPERATURES[0])
        self._sample(replace(sampling, temperature=following))

    def _sample(self, sampling: AskSampling) -> None:
        self.session.sampling = sampling
        self._draw()
        has_use = sampling.temperature or sampling.seed == 0
        self.tell("r asks again with it" if has_use else "At temperature 0 every seed gives the same; t raises it.")

    # The models.

    def action_add(self) -> None:
        session = self.session

        def add(name: str) -> None:
            session.add(name)
            self._show_models()
            if any(model.name == name for model in session.withheld):
                self._seek_consent()
            self._follow()

        def choose(choices: list[tuple[str, str]]) -> None:
            names = [model.name for model in session.participants]
            left = [pair for pair in choices if pair[0] not in names]
            question = "Add which model? A run, a folder, a .gguf file, URL#MODEL or a .toml file."
            self.app.ask_with(PickModel(question, left, is_open=True, head="model"), add)

        if self._may_start():
            self.app.background(partial(choices_of, self.project.data), choose, group="ask.show.choices")

    def action_remove(self) -> None:
        if self._has_models():
            self.session.remove(self._index)
            # The focus of what is removed would go to the prompt, where keys are letters.
            self.set_focus(None)
            self._show_models()
            self._follow()

    def action_other(self, step: int) -> None:
        if self._has_models():
            self._index = (self._index + step) % len(self.session.participants)
            self._draw()
            self._focus_pane()

    def action_turn(self, step: int) -> None:
        if not self.session.turns:
            self.tell_no_use("Nothing was asked yet.")
            return
        self._turn = max(0, min(self._present_turn() + step, len(self.session.turns) - 1))
        self._draw()
        for pane in self._panes:
            pane.go_to(self._turn)

    # What becomes of an answer.

    def _reply(self) -> Reply | None:
        """Return the answer that keys act on; say so where there is none."""
        turn, participants = self._present_turn(), self.session.participants
        replies = participants[self._index].replies if participants else []
        if 0 <= turn < len(replies) and replies[turn].text:
            return replies[turn]
        self.tell_no_use("There is no answer here.")
        return None

    def action_accept(self) -> None:
        if (reply := self._reply()) is not None:
            self._to_draft(reply.text)

    def action_edit(self) -> None:
        reply = self._reply()
        text = self.in_editor(reply.text, self._editor_path("answer")) if reply is not None else None
        if text is not None:
            self._to_draft(text)

    def _editor_path(self, name: str) -> Path:
        return Drafts(self.project.root, self.project.by).editor_path(name).with_suffix(".md")

    def _to_draft(self, answer: str) -> None:
        session, turn = self.session, self._present_turn()
        model = session.participants[self._index]
        answered = {"model": model.source, "text": model.replies[turn].text}
        if turn == 0 and session.opening.is_exam:
            hint = "The score would be measured against what a model wrote. Type the answer in Edit."
            self.tell(f"{session.opening.record} is a validation record, whose answer no model writes.", "warn", hint)
            return
        if turn == 0 and session.opening.record:
            self.app.go("edit", record=session.opening.record, answer=answer, answered=answered)
            message = "The answer stands in the draft; ctrl+s saves it, ctrl+z takes it out, D discards the draft."
        else:
            self.app.go("edit", new=line_of(session, model, turn, answer), answered=answered)
            message = "A draft of a new record; ctrl+s saves it."
        self.app.call_later(self.tell, message)

    def action_wrong(self) -> None:
        session, turn = self.session, self._present_turn()
        if turn < 0:
            self.tell_no_use("Nothing was asked yet.")
        elif turn == 0 and (name := session.opening.record):
            is_new = mark_wrong(self.project, name)
            self.tell(f"{name} is marked for a second look (u undoes; g q lists it)" if is_new else "marked already")
        else:
            model = session.participants[self._index] if session.participants else None
            keep_prompt(session, model, turn)
            self.tell("No record asks this: it is a draft now, without an answer (g q, unsaved drafts)")

    def current_record(self) -> str:
        return self._session.opening.record if self._session is not None else ""

    def equal_command(self) -> str:
        return self._session.command() if self._session is not None and self._session.turns else ""
