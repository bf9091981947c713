"""Label: one key answers one question about one record, and the next record is there."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from curate.base.record import Json
from curate.project.labels import ORDERS
from curate.sessions.labelling import FLAG, NOTE, QUALITY, LabelSession, Prepared, QuestionsDraft, Review, Wish
from curate.tui.border import safe_text
from curate.tui.chrome import TitleRule
from curate.tui.dialogs import Pages
from curate.tui.screen import ProjectScreen
from curate.tui.screens.label import rendering
from curate.tui.screens.label.begun import BackgroundWork, Begun
from curate.tui.screens.label.paper import Paper
from curate.tui.screens.label.questions import Questions
from curate.tui.widgets import Panel, SafeInput


class LabelScreen(ProjectScreen):
    """The label session of one annotator, and the review of what was answered differently."""

    NAME, TITLE = "label", "Label"
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-middle"), (28, "-high")]  # noqa: RUF012  Textual declares it so
    HELP, BINDINGS, DEFAULT_CSS = rendering.HELP, rendering.BINDINGS, rendering.CSS

    def __init__(self) -> None:
        super().__init__()
        self._session: LabelSession | None = None
        self._background: BackgroundWork | None = None
        self._review: Review | None = None
        self._wanted: dict[str, Any] = {}
        self._suggest_with = ""
        self._requested: tuple[Wish, str | None] | None = None
        self._waiting: Callable[[], object] | None = None
        self._begun = Begun()
        self._guideline = ""
        self._is_marking = False  # Whether one asked for a single value is answered with several.

    def compose_body(self) -> ComposeResult:
        with Horizontal():
            with Vertical(id="session", classes="main"):
                yield Panel(id="head")
                yield TitleRule()
                yield Paper(id="record", classes="pane")
                yield TitleRule()
                yield Panel(id="choices")
                yield Panel(id="aside")
                yield SafeInput(id="line", compact=True)
                yield Panel(id="last")
            yield Paper(id="side", classes="side pane")

    # What the app calls.

    def ready(self) -> None:
        wish, at = self._stand_up()
        if not self._begun:
            self.query_one("#record").focus()
        self.app.background(partial(self._sit_down, wish), partial(self._seated, at), group="label.prepare")

    def arrive(self, **what: Any) -> None:
        """Take ``question``, ``order``, ``is_all``, ``record``, ``suggest_with``, or ``queue`` = "review"."""
        wanted = {key: value for key, value in what.items() if value not in ("", None)}
        self._suggest_with = wanted.pop("suggest_with", self._suggest_with)
        if self._session is None:
            self._wanted = wanted
        else:
            if self._review is not None and not self._review.items:
                # Nothing is left to settle there.
                self._review = None
                self._draw()
            self._take_wanted(self._session, wanted)

    def changed(self, ids: set[str]) -> None:
        if self._session is not None:
            self._session.follow(ids)
            self._check_begun(self._session)
            self._redraw()

    def reread(self) -> None:
        if self._review is not None:
            self._redraw()
        elif self._session is not None:
            self._prepare(self._session.wish)
        elif self.app.following.is_loaded:
            self.ready()

    def busy(self) -> str:
        is_at_work = any(worker.group == "label.prepare" and worker.is_running for worker in self.app.workers)
        return "making the queue" if self._session is None and is_at_work else ""

    def refusal(self, key: str) -> str:
        busy = self.busy()
        return super().refusal(key) or (self.answer_to(key, f"still {busy}; press the key again") if busy else "")

    def has_unsaved(self) -> bool:
        is_search = self._begun.typing == "value" and self._session and self._session.question.values
        return bool(self._begun.typing and not is_search and self.query_one("#line", Input).value)

    def close_side(self) -> bool:
        if self._begun.typing:
            self._stop_typing()
        elif self._is_marking or self._begun.marked or self._begun.sought:
            self._is_marking = False
            self._forget()
        elif self._review is not None:
            self._review = None
        else:
            return super().close_side()
        self._draw()
        return True

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Let the keys of the review act in the review, and those of labelling where one labels."""
        is_other = action in (rendering.LABELLING if self._review is not None else rendering.REVIEW)
        return not is_other and super().check_action(action, parameters)

    def on_click(self, event: events.Click) -> None:
        """Go back to the record of a line of those that were decided last."""
        session, done = self._session, self._session.done.last(rendering.LAST) if self._session else []
        if event.widget is self.query_one("#last") and self._review is None and event.y < len(done) and session:
            session.visit(done[event.y].record)
            self._forget()
            self._draw()

    def on_unmount(self) -> None:
        if self._session is not None:
            self._session.close()

    def equal_command(self) -> str:
        root = shlex.quote(str(self.app.root))
        if self._review is not None:
            return f"curate review {root} --plain"
        if self._session is None:
            return ""
        wish = self._session.wish
        more = f" --question {shlex.quote(wish.question.name)} --order {wish.order}" + (" --all" if wish.is_all else "")
        return f"curate label {root} --plain{more}"

    def current_record(self) -> str:
        if self._review is not None:
            return self._review.item.record if self._review.item else ""
        return self._session.current if self._session else ""

    # Beginning a session, and asking another question.

    def _stand_up(self) -> tuple[Wish | None, str]:
        """End the session, if there is one; return what it asked and of which record. What is being typed stays."""
        session = self._session
        if self._review is not None:
            self._wanted = self._wanted or {"queue": "review"}
        self._session = self._background = self._review = self._requested = self._waiting = None
        self._begun.marked, self._begun.sought = [], ""
        if session is None:
            return None, ""
        session.close()
        return session.wish, session.current

    def _sit_down(self, wish: Wish | None) -> tuple[LabelSession, Prepared, str]:
        session = LabelSession(self.project, self.app.following.listener, self._suggest_with)
        # The settings were read anew as well, and may ask something else.
        if wish is not None and wish.question.name in {question.name for question in session.questions}:
            wish = session.wish_for(wish.question.name, wish.order, is_all=wish.is_all)
        else:
            wish = session.wish
        return session, session.prepare(wish), session.guideline()

    def _seated(self, at: str, started: tuple[LabelSession, Prepared, str]) -> None:
        session, prepared, self._guideline = started
        if not session.is_current:
            # The records were read once more, and `ready` comes again.
            return
        self._session = session
        self._background = BackgroundWork(self.app, session, partial(self._after_learning, session), self._draw)
        session.begin(prepared, at)
        self._check_begun(session)
        wanted, self._wanted = self._wanted, {}
        self._take_wanted(session, wanted)
        self._draw()
        if self._requested is None:
            self._count_and_learn()

    def _take_wanted(self, session: LabelSession, what: Mapping[str, Any]) -> None:
        if what.get("queue") == "review":
            self._review = Review(session)
            self._draw()
        elif what:
            self._review = None
            with self.app.attempt():
                wish = session.wish_for(what.get("question", ""), what.get("order"), is_all=what.get("is_all"))
                self._prepare(wish, str(what.get("record", "")))
                if self._begun:
                    self.tell("The new question waits: save (enter) or drop (esc) what you began here.", "warn")

    def _prepare(self, wish: Wish, at: str | None = None) -> None:
        """Ask what ``wish`` says, from its first record or from ``at``; None stays with what is then at hand."""
        session = self._session
        assert session is not None, "there is a session"
        self._requested, self._waiting = (wish, at), None

        def begin(prepared: Prepared) -> None:
            if self._is_mine(session):
                self._waiting = partial(self._begin, session, prepared, at)
                self._go_on()

        self.app.background(partial(session.prepare, wish), begin, group="label.prepare")

    def _begin(self, session: LabelSession, prepared: Prepared, at: str | None) -> None:
        self._requested = None
        session.begin(prepared, session.current if at is None else at)
        self._draw()
        self._count_and_learn()

    def _count_and_learn(self) -> None:
        if self._background is not None:
            self._background.learn_if_due()
            self._background.count_shares()

    def _go_on(self) -> None:
        """Do what waits, but not under the fingers of somebody who types, marks or has found values for a record."""
        if self._waiting is not None and not self._begun:
            act, self._waiting = self._waiting, None
            with self.app.attempt():
                act()

    def _after_learning(self, session: LabelSession) -> None:
        if not self._is_mine(session):
            return
        wish, at = self._requested or (session.wish, None)
        if wish.order == "uncertain" and session.suggester.suggestions is not None:
            self._prepare(wish, at)
        self._draw()

    def _is_mine(self, session: LabelSession) -> bool:
        """Whether ``session`` is the current one, and its rows are still those of the project."""
        is_open = self.app.has_project and session.project is self.project
        return is_open and session is self._session and session.is_current

    def _save(self, session: LabelSession, save: Callable[[], object], *, ends: bool = False) -> None:
        """Save something about the record at hand, and show it; where it ``ends`` what was begun there, forget that."""
        name = session.current
        save()
        self.app.following.acted(self.NAME, {name})
        if ends:
            self._forget()
        self._draw()

    def _check_begun(self, session: LabelSession) -> None:
        """Handle what was begun at a record that another person's decision has taken away."""
        if not self._begun or session.current == self._begun.record:
            return
        if not self._begun.typing:
            self._forget()
        self._tell_out_of_hand()

    def _tell_out_of_hand(self) -> None:
        fate = "is not saved; esc drops it" if self._begun.typing else "is dropped"
        record = safe_text(self._begun.record, 40)
        self.tell(record.append(f" is not at hand any more: what was begun there {fate}", ""), "warn")

    def _forget(self) -> None:
        """Forget what was marked, found or begun to be typed for the record at hand."""
        if self._begun.typing:
            self._stop_typing()
        self._begun.forget()

    def _stop_typing(self) -> None:
        self._begun.typing = ""
        self.remove_class("-typing")
        self.query_one("#record").focus()

    # Answering.

    def action_choose(self, index: int) -> None:
        # Answer with a value, or mark it where several may be.
        values, session = self._values(), self._session
        if session is None or not session.current:
            return
        if index >= len(values):
            self.tell(f"{session.question.name} has no value {index + 1}.", "warn", "Q changes it.")
        elif self._is_several:
            self._begun.mark(values[index], session.current)
            self._draw()
        else:
            self._answer(values[index])

    def action_settle(self, index: int) -> None:
        review, item = self._review, self._review.item if self._review else None
        if review is not None and item is not None and index < len(item.sides):
            review.settle(item, item.sides[index])
            self._tell_answered(item.record, item.sides[index].name)
            self._draw()
        elif item is not None:
            self.tell(f"There is no choice {index + 1}.", "warn")

    def action_accept(self) -> None:
        suggestion = self._session.suggestion() if self._session else None
        if suggestion is None:
            self.tell("Nothing is suggested here.", "warn")
        else:
            self._answer(suggestion.value)

    def action_reject(self) -> None:
        if self._session is not None:
            self._session.reject()
            self._draw()

    def action_several(self) -> None:
        self._is_marking, self._begun.marked = not self._is_marking, []
        self._draw()

    def action_save_several(self) -> None:
        if self._is_several and self._begun.marked and self._session is not None:
            self._answer(sorted(self._begun.marked, key=list(self._session.question.values).index))

    def action_quality(self, index: int) -> None:
        session = self._session
        if session is None or not session.current:
            return
        values = next((question.values for question in session.questions if question.name == QUALITY), [])
        if index >= len(values):
            self.tell(f"No question named {QUALITY} has {index + 1} values.", "warn")
        elif session.question.name == QUALITY:
            self._answer(values[index])
        else:
            self._save(session, lambda: session.answer_other(QUALITY, values[index]))

    def action_skip(self) -> None:
        session = self._session
        if self._review is not None:
            self.action_move(1)
        elif session is not None and session.current:
            name = session.current
            session.skip()
            self._forget()
            self._draw()
            self.tell(Text.assemble(safe_text(name, 40), " skipped"))

    def action_flag(self) -> None:
        session = self._session
        if session is not None and session.current:
            self._save(session, session.flag)
            done = " flagged" if session.aside(FLAG) is not None else " not flagged any more"
            self.tell(Text.assemble(safe_text(session.current, 40), done))

    def action_move(self, step: int) -> None:
        target = self._review or self._session
        if target is None:
            return
        if target.move(step):
            self._forget()
            self._draw()
        else:
            self.tell("There is nothing in that direction.", "warn")

    def _answer(self, value: Json) -> None:
        session = self._session
        assert session is not None, "there is a session"
        record, name = session.current, session.name_of(value)
        self._save(session, lambda: session.answer(value), ends=True)
        self._tell_answered(record, name)
        if self._background is not None:
            self._background.learn_if_due()

    def _tell_answered(self, record: str, answer: str) -> None:
        self.tell(Text.assemble(safe_text(record, 40), " -> ", safe_text(answer, 60, "accent"), "  (u undo)"))

    # Typing a note, or a value.

    def action_type(self, what: Literal["note", "value"]) -> None:
        session = self._session
        if session is None or not session.current:
            return
        self._begun.type(what, session.current)
        line = self.query_one("#line", Input)
        line.placeholder = "a note; enter saves" if what == "note" else "part of a value, or the answer; enter takes it"
        note = session.aside(NOTE)
        line.value = note if what == "note" and isinstance(note, str) else ""
        self.add_class("-typing")
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if self._begun.typing == "value" and event.input.id == "line":
            self._begun.sought = event.value.strip()
            self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "line":
            with self.app.attempt():
                self._take_typed(event.value.strip())

    def _take_typed(self, typed: str) -> None:
        session, values = self._session, self._values()
        if session is None:
            self.tell("The records are being read; press enter again when they are.", "warn")
        elif session.current != self._begun.record:
            self._tell_out_of_hand()
        elif self._begun.typing == "note":
            self._save(session, lambda: session.note(typed))
            self._stop_typing()
        elif typed and not session.question.values:
            self._answer(typed)
        elif len(values) == 1 and not self._is_several:
            self._answer(values[0])
        else:
            # The keys of the values are free again, and what was found stays.
            self._stop_typing()
            self._draw()

    # What is asked.

    def action_order(self) -> None:
        if self._session is not None:
            order = ORDERS[(ORDERS.index(self._session.wish.order) + 1) % len(ORDERS)]
            self._forget()
            self._prepare(self._session.wish_for(order=order), "")

    def action_question(self) -> None:
        if self._session is not None:
            names = [question.name for question in self._session.questions]
            name = names[(names.index(self._session.question.name) + 1) % len(names)]
            self._forget()
            self._prepare(self._session.wish_for(name))

    def action_questions(self) -> None:
        form = Questions(QuestionsDraft(self.project))
        self.app.push_screen(form, lambda wanted: self._wanted.update(wanted or {}))

    def action_all(self) -> None:
        if self._session is not None:
            self._forget()
            self._prepare(self._session.wish_for(is_all=not self._session.wish.is_all), "")

    def action_review(self) -> None:
        if self._session is None:
            return
        self._review = None if self._review else Review(self._session)
        if self._review and self._review.hidden:
            self.tell(". ".join(self._review.hidden))
        self._draw()

    def action_guide(self) -> None:
        guide = self._session.question.guide if self._session else {}
        self.app.push_screen(Pages("Guide", rendering.pages_text(guide, self._guideline)))

    def action_edit(self) -> None:
        if name := self.current_record():
            self.app.go("edit", record=name)

    def action_pane(self) -> None:
        self.is_side_open = self.is_narrow and not self.is_side_open

    def action_scroll(self, lines: int) -> None:
        self.query_one("#side" if self.is_side_open else "#record", Paper).scroll_lines(lines)

    # Drawing.

    def _values(self) -> Sequence[str]:
        """Return the values that have a key now."""
        return self._begun.keyed(self._session.values) if self._session else []

    @property
    def _is_several(self) -> bool:
        return self._is_marking or (self._session is not None and self._session.question.kind == "several")

    def _redraw(self) -> None:
        if self._review is not None:
            self._review.refresh()
        self._draw()

    def _draw(self) -> None:
        """Draw everything anew; what has not changed costs little."""
        session, review = self._session, self._review
        if session is None or self._background is None:
            return
        if (review is not None) != self.has_class("-review"):
            self.set_class(review is not None, "-review")
            self.refresh_bindings()
        room = max(20, self.query_one("#choices").size.width - 2)
        if review is None:
            texts = rendering.session_texts(session, self._begun, room, is_several=self._is_several)
        else:
            texts = rendering.review_texts(review, room)
        texts["side"] = rendering.side_text(session, self._guideline, self._background)
        for widget_id, text in texts.items():
            widget = self.query_one(f"#{widget_id}")
            assert isinstance(widget, Paper | Panel), "all of them are"
            widget.show(text)
        if self._waiting is not None:
            self.call_later(self._go_on)  # Not before what is being done now has come to its end.
