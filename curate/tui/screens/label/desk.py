"""What the Label screen is made of, before any key: the desk, the review, what is typed, and how all of it is drawn."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any, Literal

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from curate.agreement import LiveAgreement
from curate.tui.border import shown_lines
from curate.tui.chrome import Rule
from curate.tui.fields import SafeInput
from curate.tui.screen import WorkshopScreen
from curate.tui.screens.label import told
from curate.tui.screens.label.learning import Learning
from curate.tui.screens.label.paper import Panel, Paper
from curate.tui.screens.label.reviewing import Reviewing
from curate.workshop.labelling import FLAG, NOTE, QUALITY, Desk, Queue, Wish, last_done

Prepared = tuple[Queue, LiveAgreement, set[str]]
_MOST_FOUND = len(told.KEYS)


class DeskScreen(WorkshopScreen):
    """A desk and what is drawn of it; `LabelScreen` adds what the keys do."""

    def __init__(self) -> None:
        super().__init__()
        self._desk: Desk | None = None
        self._learning: Learning | None = None
        self._reviewing: Reviewing | None = None
        self._wanted: dict[str, Any] = {}
        self._guideline = ""
        self._is_acting = self._is_several = False
        self._chosen: list[str] = []
        self._sought = ""
        self._typing: Literal["", "note", "value"] = ""

    def compose_body(self) -> ComposeResult:
        """Lay the record and its choices beside what is known of the sitting."""
        with Horizontal():
            with Vertical(id="desk", classes="main"):
                yield Panel(id="head")
                yield Rule()
                yield Paper(id="record", classes="pane")
                yield Rule()
                yield Panel(id="choices")
                yield Panel(id="beside")
                yield SafeInput(id="line", compact=True)
                yield Panel(id="last")
            yield Paper(id="side", classes="side pane")

    # What the app calls.

    def ready(self) -> None:
        """Sit down at the desk."""
        self.query_one("#record").focus()
        self.app.background(self._sit_down, self._seated, group="label.prepare")

    def arrive(self, **what: Any) -> None:
        """Take what is asked for: ``question``, ``order``, ``is_all``, ``record``, or ``queue`` = "review"."""
        self._wanted = {key: value for key, value in what.items() if value not in ("", None)}
        if self._desk is not None:
            self._take_wanted(self._desk)

    def changed(self, ids: set[str]) -> None:
        """Take in what changed, whoever did it."""
        if self._desk is None:
            return
        self._desk.follow(ids)
        if not self._is_acting:
            self._redraw()

    def reread(self) -> None:
        """Make the queue anew."""
        if self._reviewing is not None:
            self._redraw()
        elif self._desk is not None:
            self._prepare(self._desk.wish)

    def has_unsaved(self) -> bool:
        """Whether a note is being typed."""
        return self._typing == "note" and bool(self.query_one("#line", Input).value)

    def close_side(self) -> bool:
        """Close the line that is typed into, what is marked or found, the review, or the pane beside."""
        if self._typing:
            self._stop_typing()
        elif self._is_several or self._sought:
            self._is_several = False
            self._forget()
        elif self._reviewing is not None:
            self._reviewing = None
        else:
            return super().close_side()
        self._draw()
        return True

    def on_unmount(self) -> None:
        """End what learns beside the work."""
        if self._desk is not None:
            self._desk.close()

    def equal_command(self) -> str:
        """Return the command that asks the same line by line."""
        root = shlex.quote(str(self.app.root))
        if self._reviewing is not None:
            return f"curate review {root} --plain"
        if self._desk is None:
            return ""
        wish = self._desk.wish
        more = f" --question {shlex.quote(wish.question.name)} --order {wish.order}" + (" --all" if wish.is_all else "")
        return f"curate label {root} --plain{more}"

    def record_json(self) -> str:
        """Return the line of the record at hand."""
        name = self._at_hand()
        return json.dumps(dict(self.workshop.state(name).record.data)) if name else ""

    # Sitting down, and asking for something else.

    def _sit_down(self) -> tuple[Desk, Prepared, str]:
        desk = Desk(self.workshop)
        return desk, desk.prepare(desk.wish), desk.guideline()

    def _seated(self, found: tuple[Desk, Prepared, str]) -> None:
        desk, prepared, self._guideline = found
        self._desk = desk
        self._learning = Learning(self.app, desk, self._learnt)
        desk.begin(prepared)
        if self._wanted:
            self._take_wanted(desk)
        else:
            self._draw()
            self._learning.begin_if_due()

    def _take_wanted(self, desk: Desk) -> None:
        what, self._wanted = self._wanted, {}
        if what.get("queue") == "review":
            self._reviewing = Reviewing(self.workshop, desk)
            self._draw()
        elif what:
            self._reviewing = None
            with self.app.attempt():
                wish = desk.wish_for(what.get("question", ""), what.get("order"), is_all=what.get("is_all"))
                self._prepare(wish, str(what.get("record", "")))

    def _prepare(self, wish: Wish, at: str = "") -> None:
        desk = self._desk
        assert desk is not None, "there is a desk"

        def begin(prepared: Prepared) -> None:
            desk.begin(prepared, at)
            self._forget()
            self._draw()
            assert self._learning is not None, "it came with the desk"
            self._learning.begin_if_due()

        self.app.background(lambda: desk.prepare(wish), begin, group="label.prepare")

    def _learnt(self) -> None:
        desk = self._desk
        if desk is not None and desk.wish.order == "uncertain" and desk.suggester.found is not None:
            self._prepare(desk.wish, desk.current)
        self._draw()

    def _act(self, act: Callable[[], object]) -> None:
        """Do something to the record at hand, and draw once."""
        self._is_acting = True
        try:
            act()
        finally:
            self._is_acting = False
        self._draw()

    def _forget(self) -> None:
        """Forget what was marked, found or begun to be typed for the record at hand."""
        self._chosen, self._sought = [], ""
        if self._typing:
            self._stop_typing()

    def _stop_typing(self) -> None:
        self._typing = ""
        self.remove_class("-typing")
        self.query_one("#record").focus()

    # Drawing.

    def _at_hand(self) -> str:
        if self._reviewing is not None:
            return self._reviewing.item.record if self._reviewing.item else ""
        return self._desk.current if self._desk else ""

    def _values(self) -> Sequence[str]:
        """Return the values that have a key now."""
        values = self._desk.question.values if self._desk else []
        sought = self._sought.casefold()
        return [one for one in values if sought in one.casefold()][:_MOST_FOUND]

    def _redraw(self) -> None:
        if self._reviewing is not None:
            self._reviewing.look()
        self._draw()

    def _draw(self) -> None:
        """Draw everything anew; what has not changed costs little."""
        desk, reviewing = self._desk, self._reviewing
        if desk is None:
            return
        if reviewing is None:
            texts = self._desk_texts(desk)
        else:
            item = reviewing.item
            texts = {
                "head": Text.assemble(("REVIEW", "strong"), f"  {reviewing.progress}\n", (reviewing.hidden, "muted")),
                "record": told.record_text(self.workshop.state(item.record).record) if item else Text(""),
                "choices": told.sides_text(item) if item else Text.assemble(("v goes back to the desk", "muted")),
                "beside": Text(""),
                "last": Text.assemble(("s goes on, e edits, v or esc goes back to the desk", "muted")),
            }
        for place, text in texts.items():
            widget = self.query_one(f"#{place}")
            assert isinstance(widget, Paper | Panel), "all of them are"
            widget.show(text)
        self.query_one("#side", Paper).show(self._side_text(desk))

    def _desk_texts(self, desk: Desk) -> dict[str, Text]:
        left, size = desk.progress()
        head = told.head_line(desk.wish, left, size, desk.queue.num_skipped if desk.queue else 0)
        state = desk.state()
        last = told.last_text(last_done(desk, told.LAST))
        if state is None:
            return {
                "head": head, "record": shown_lines(desk.why_nothing()), "choices": Text(""), "beside": Text(""),
                "last": last,
            }  # fmt: skip
        answers = dict(desk.answers())
        own = answers.pop(desk.by, None)
        values = self._values()
        num_more = len(desk.question.values) - len(values)
        one = told.Answering(values, num_more, own, desk.suggestion(), self._chosen, self._is_several, answers)
        note = desk.aside(NOTE)
        has_quality = any(asked.name == QUALITY for asked in desk.questions) and desk.question.name != QUALITY
        quality = state.answers.get(QUALITY, {}).get(desk.by)
        return {
            "head": head,
            "record": told.record_text(state.record),
            "choices": told.choices_text(desk.question.ask or desk.question.name, one, self._room()),
            "beside": told.beside_text(quality, desk.aside(FLAG) is not None, str(note or ""), has_quality),
            "last": last,
        }

    def _side_text(self, desk: Desk) -> Text:
        counts = desk.count("answered"), desk.count("skipped"), desk.count(FLAG)
        overlap = self.workshop.workspace.settings.label.overlap
        found = desk.suggester.found
        lacks = self._learning.lacks if self._learning else ""
        parts = [
            told.session_text(desk.by, counts, desk.pace(), desk.progress()[0]),
            told.agreement_text(desk.glance(), overlap),
            told.guide_text(desk.question.guide, self._guideline),
            told.model_text(found.num_learned if found else 0, found.accuracy if found else 0.0, lacks),
        ]
        return Text("\n\n").join(parts)

    def _room(self) -> int:
        """Return how many cells a line of the desk has."""
        return max(20, self.query_one("#choices").size.width - 2)
