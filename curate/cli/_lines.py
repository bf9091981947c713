"""Labelling and reviewing line by line: what is asked goes to stdout, what is said about it to stderr.

A line of stdin is one command, so that screen readers, dumb terminals and scripts have the same as the screen. Every
decision is saved before the next record is shown; the end of the input, like Ctrl-C, loses nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from curate.base import console
from curate.base.record import CurateError, Json
from curate.base.tables import counted
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.project.transactions import Undone
    from curate.sessions.labelling import LabelSession, Review, ReviewItem

_HELP = """\
number      answer with the value of that number; several, as 1,3, answer with all of them
= TEXT      answer with this text, where any text is an answer, or a value of that name
a           accept what is suggested        s  skip: the record comes again later
u           take the last decision back     p  n  the record before, the one after
f           mark for a second look          c TEXT  note TEXT; c alone takes the note away
i           the guideline                   q  quit; everything is saved"""
_REVIEW_HELP = """\
number      settle it so                    s  leave it, and go on
u           take the last decision back     q  quit; everything is saved"""
_QUIT = "q"
# Bytes of a line; what is longer is taken for several.
_LONGEST = 1 << 20


def label_lines(session: LabelSession, source: IO[bytes], *, has_suggestions: bool) -> None:
    """Ask for answers until none is lacking or nobody answers any more."""
    printed = None
    if not session.current:
        console.talk(console.visible(session.why_nothing("--all asks about them anyway")))
    while session.current or session.done:
        # Here it waits for the model: in a script each suggestion must be the same at the same place.
        if session.current and has_suggestions and session.suggester.is_due:
            session.learn()
        if session.current and session.current != printed:
            _show(session)
        printed = session.current
        console.data(_prompt(session))
        line = next_line(source)
        if line is None or line == _QUIT or (not session.current and line != "u"):
            break
        before = session.current
        try:
            # A line that is no command is answered, and the same record is asked about again.
            _obey(session, line)
        except _RefusalError as refusal:
            console.talk(console.visible(str(refusal)))
        # What was taken back may be of this very record, whose answer is to be seen again.
        if session.current == before and line in ("u", "n", "p"):
            printed = None
    left, _ = session.progress()
    console.talk(f"{counted(session.done.count('answered'), 'answer')} saved; {counted(left, 'record')} left")


class _RefusalError(Exception):
    """A line that is no command here, and why."""


def _obey(session: LabelSession, line: str) -> None:
    name = session.current
    word, _, rest = line.partition(" ")
    plain: dict[str, Callable[[], None]] = {
        "": session.skip, "s": session.skip, "a": lambda: _accept(session), "u": lambda: tell_undone(session.undo()),
        "n": lambda: _move(session, 1), "p": lambda: _move(session, -1), "i": lambda: _guide(session),
        "?": lambda: console.talk(_HELP),
    }  # fmt: skip
    if line in plain:
        plain[line]()
    elif line == "f":
        console.talk("flagged (saved)" if session.flag() else "no flag any more (saved)")
    elif word == "c":
        session.note(rest.strip())
        console.talk("noted (saved)" if rest.strip() else "no note any more (saved)")
    else:
        _answer(session, _parse_answer(session, line))
    if line in ("", "s"):
        console.talk(f"{console.one_line(name, 60)}: skipped")


def _parse_answer(session: LabelSession, line: str) -> Json:
    values = session.values
    if line.startswith("="):
        text = line[1:].strip()
        if not text or (values and text not in values):
            raise _RefusalError("there is no such value; ? lists the commands")
        return text
    parts = [part.strip() for part in line.split(",")]
    if not values or not all(part.isdecimal() for part in parts):
        raise _RefusalError(
            f"{console.one_line(line, 40)}: no command; ? lists them" + ("" if values else ", = TEXT answers")
        )
    if not all(1 <= int(part) <= len(values) for part in parts):
        raise _RefusalError(f"there are values 1 to {len(values)}")
    indices = sorted({int(part) - 1 for part in parts})
    return values[indices[0]] if len(parts) == 1 else [values[index] for index in indices]


def _answer(session: LabelSession, value: Json) -> None:
    name, said = session.current, session.name_of(value)
    try:
        session.answer(value)
    except CurateError as error:
        # An approval that would not count is refused like a line that is no command.
        if error.number != "E992":
            raise
        raise _RefusalError(f"{error.message}. {error.hint}") from error
    console.talk(f"{console.one_line(name, 60)} -> {console.one_line(said, 60)} (saved)")


def _accept(session: LabelSession) -> None:
    suggestion = session.suggestion()
    if suggestion is None:
        raise _RefusalError("nothing is suggested here")
    _answer(session, suggestion.value)


def tell_undone(undone: Undone | None) -> None:
    """Say what was taken back."""
    if undone is None:
        console.talk("there is nothing to take back")
    else:
        console.talk(undone.message)
        if undone.remark:
            console.talk(f"warning: {undone.remark}")


def _move(session: LabelSession, step: int) -> None:
    if not session.move(step):
        raise _RefusalError("there is no record in that direction")


def _guide(session: LabelSession) -> None:
    guideline = session.guideline()
    for value, text in session.question.guide.items():
        console.talk(f"{console.one_line(value, 40)}: {console.visible(text)}")
    if guideline or not session.question.guide:
        console.talk(console.visible(guideline or "there is no guideline"))


def _show(session: LabelSession) -> None:
    from curate.sessions.labelling import spelled_value

    state = session.state()
    assert state is not None, "there is a record at hand"
    left, size = session.progress()
    console.data()
    console.data(f"{console.one_line(session.current, 60)}   {left:,} of {size:,} left")
    print_lines(_turns(session.turns(state, session.question.name)))
    console.data(console.visible(session.question.ask or session.question.name))
    for number, value in enumerate(session.values, start=1):
        console.data(f"  {number} {console.one_line(session.name_of(value), 60)}")
    own = session.answers().get(session.by)
    if own is not None:
        console.data(f"your answer: {console.one_line(session.name_of(own), 60)}")
    elif session.has_lapsed:
        console.data("asked again: what you answered about has changed since")
    if session.aside("flag"):
        console.data("flagged")
    if note := session.aside("note"):
        console.data(f"note: {console.one_line(spelled_value(note), 300)}")
    suggestion = session.suggestion()
    if suggestion is not None:
        console.data(f"suggested: {console.one_line(suggestion.value, 60)} ({suggestion.score:.2f})")


def _turns(turns: Iterable[tuple[str, str, int]]) -> Iterator[str]:
    for who, text, num_more in turns:
        yield f"{console.one_line(who, 30)}:"
        yield console.visible(text)
        if num_more:
            yield f"({num_more:,} characters more are not shown)"


def _prompt(session: LabelSession) -> str:
    values = session.question.values
    if not session.current:
        return "nothing left [u undo, q quit] >"
    numbers = f"1-{len(values)}" if len(values) > 1 else "1" if values else "= text"
    accept = "a accept, " if session.suggestion() else ""
    return f"label [{numbers}, {accept}s skip, u undo, ? help, q quit] >"


def review_lines(session: LabelSession, source: IO[bytes]) -> int:
    """Ask how each disagreement and conflict is to be settled, and return how many are left, hidden ones included."""
    from curate.sessions.labelling import Review

    review = Review(session)
    # An item that was passed over comes again in the next call, not in this one.
    left_alone: set[tuple[str, str]] = set()
    for text in review.hidden:
        console.talk(text)
    while item := next((candidate for candidate in review.items if candidate.key not in left_alone), None):
        _show_item(review, item)
        line = next_line(source)
        if line is None or line == _QUIT:
            break
        if line == "u":
            tell_undone(session.project.undo())
        elif line in ("", "s"):
            left_alone.add(item.key)
        elif line == "?":
            console.talk(_REVIEW_HELP)
        else:
            _settle(review, item, line)
        # To settle one item may settle others, or begin one.
        review.refresh()
    console.talk(f"{counted(len(review.items), 'item')} left to settle")
    return len(review.items) + review.num_unanswered + review.num_others_own


def _settle(review: Review, item: ReviewItem, line: str) -> None:
    if not line.isdecimal() or not 1 <= int(line) <= len(item.sides):
        console.talk(f"{console.one_line(line, 40)}: no command; ? lists them")
        return
    side = item.sides[int(line) - 1]
    try:
        review.settle(item, side)
    except CurateError as error:
        # That the schema refuses this side is for the reviewer, who may choose another; a full disk is not.
        if error.number != "E972":
            raise
        console.talk(console.visible(f"{error.message} {error.hint}"))
        return
    console.talk(f"{console.one_line(item.record, 60)} -> {console.one_line(side.name, 300)} (saved)")


def _show_item(review: Review, item: ReviewItem) -> None:
    console.data()
    title = console.one_line(item.title, 200)
    console.data(f"{console.one_line(item.record, 60)}   {title}   {len(review.items):,} left")
    print_lines(_turns(review.turns(item)))
    for number, side in enumerate(item.sides, start=1):
        people = f"   {console.one_line(', '.join(side.people), 60)}" if side.people else ""
        console.data(f"  {number} {console.one_line(side.name, 300)}{people}")
    console.data(f"settle [1-{len(item.sides)}, s leave, u undo, ? help, q quit] >")


def next_line(source: IO[bytes]) -> str | None:
    """Return the next line without blanks around it, None at the end of the input."""
    console.flush()
    line = source.readline(_LONGEST)
    # Whatever stands there that is not UTF-8 is no command, and no reason to end.
    return line.decode("utf-8", "replace").strip() if line else None


def has_screen() -> bool:
    """Whether there is a terminal that the terminal UI can draw on."""
    return sys.stdin.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def show(root: Path, by: str, name: str, **what: Any) -> NoReturn:
    """Run the terminal UI on the workspace in ``root`` from the screen called ``name`` on; it ends the process."""
    from curate.project.project import open_project
    from curate.tui.app import CurateApp
    from curate.tui.terminal import leave, run

    app = CurateApp(root, project=open_project(root, by), by=by)
    # Not before the app runs: the screen is made by its event loop.
    app.call_later(app.go, name, **what)
    leave(run(app))
    raise AssertionError("the process has ended")
