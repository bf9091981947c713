"""The parts of the Label screen as texts, by the id of the widget that shows each."""

from __future__ import annotations

from rich.text import Text

from curate.base.record import Record
from curate.sessions.labelling import FLAG, NOTE, QUALITY, LabelSession
from curate.tui.border import safe_lines
from curate.tui.screens.label import rendering
from curate.tui.screens.label.begun import Begun
from curate.tui.screens.label.reviewing import Reviewing


def session_texts(session: LabelSession, begun: Begun, room: int, *, is_several: bool) -> dict[str, Text]:
    """Return what is drawn of the record at hand; ``room`` is how many cells a line of choices has."""
    left, size = session.progress()
    head = rendering.head_line(session.wish, left, size, session.queue.num_skipped if session.queue else 0)
    last = rendering.last_text(session.done.last(rendering.LAST))
    state = session.state()
    if state is None:
        nothing = {"record": safe_lines(session.why_nothing()), "choices": Text(""), "beside": Text("")}
        return {"head": head, **nothing, "last": last}
    answers = dict(session.answers())
    own = answers.pop(session.by, None)
    values = begun.keyed(session.question.values)
    num_more = len(session.question.values) - len(values)
    answering = rendering.Answering(values, num_more, own, session.suggestion(), begun.marked, is_several, answers)
    note = session.aside(NOTE)
    has_quality = any(question.name == QUALITY for question in session.questions) and session.question.name != QUALITY
    quality = state.answers.get(QUALITY, {}).get(session.by)
    return {
        "head": head,
        "record": rendering.record_text(state.record),
        "choices": rendering.choices_text(session.question.ask or session.question.name, answering, room),
        "beside": rendering.aside_text(quality, session.aside(FLAG) is not None, str(note or ""), has_quality),
        "last": last,
    }


def review_texts(reviewing: Reviewing, record: Record | None) -> dict[str, Text]:
    """Return what is drawn of the review; ``record`` is that of the item, None where nothing waits."""
    item = reviewing.item
    return {
        "head": Text.assemble(("REVIEW", "strong"), f"  {reviewing.progress}\n", (reviewing.hidden, "muted")),
        "record": rendering.record_text(record) if record else Text(""),
        "choices": rendering.sides_text(item) if item else Text.assemble(("v: back to labelling", "muted")),
        "beside": Text(""),
        "last": Text.assemble(("s goes on, e edits, v or esc: back to labelling", "muted")),
    }


def side_text(session: LabelSession, guideline: str, lacks: str) -> Text:
    """Return what is known of the sitting; ``lacks`` says why there are no suggestions, if there are none."""
    counts = session.count("answered"), session.count("skipped"), session.count(FLAG)
    overlap = session.project.settings.label.overlap
    suggestions = session.suggester.suggestions
    parts = [
        rendering.session_text(session.by, counts, session.pace(), session.progress()[0]),
        rendering.agreement_text(session.glance(), overlap),
        rendering.guide_text(session.question.guide, guideline),
        rendering.model_text(
            suggestions.num_learned if suggestions else 0, suggestions.accuracy if suggestions else 0.0, lacks
        ),
    ]
    return Text("\n\n").join(parts)
