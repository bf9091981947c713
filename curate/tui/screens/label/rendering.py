"""What the Label screen shows: its keys, its help, and its parts as texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding

from curate.base.record import Json
from curate.base.tables import counted
from curate.project.labels import WORDS
from curate.schema.view import REASONING
from curate.sessions.agreement import RELIABLE, TENTATIVE, grade
from curate.sessions.labelling import (
    FLAG,
    NOTE,
    QUALITY,
    AnnotatorShare,
    Done,
    LabelSession,
    Review,
    ReviewItem,
    spelled_value,
)
from curate.tui.border import bar, cell, glyphs, safe_lines, safe_text
from curate.tui.screens.label.begun import KEYS, BackgroundWork, Begun

LAST = 5
_BEHIND = 0.1  # How much less one has done than the others to be named as behind.
_MARKS = {"ok": "", "warn": " ~", "error": " !", "": ""}
_NARROW_CELL = 12
_GUIDE_LINES = 12
_HEAD = "1-9,0"
_SIGNS = {"warn": f"~ below {RELIABLE:g}: tentative", "error": f"! below {TENTATIVE:.2f}: too little"}


def _value(index: int, key: str) -> Binding:
    is_first = index == 0
    word = "Label" if is_first else f"Value {index + 1}"
    return Binding(
        key, f"choose({index})", word, show=is_first, key_display=_HEAD if is_first else None,
        id=f"label.value_{index + 1}",
    )  # fmt: skip


def _settle(index: int, key: str) -> Binding:
    """Return the binding that takes the place of `_value` in the review."""
    is_first, name = index == 0, f"label.settle_{index + 1}"
    return Binding(key, f"settle({index})", "Settle", show=is_first, key_display=_HEAD if is_first else None, id=name)


BINDINGS: list[Any] = [
    *(_value(index, key) for index, key in enumerate(KEYS)),
    *(_settle(index, key) for index, key in enumerate(KEYS)),
    Binding("a", "accept", "Accept *", id="label.accept"),
    Binding("s,space", "skip", "Skip", id="label.skip"),
    Binding("f", "flag", "Flag", id="label.flag"),
    # Earlier in the line of keys than the app has it.
    Binding("u,backspace", "app.undo", "Undo", id="label.undo"),
    Binding("n", "move(1)", "Move", id="label.next", key_display="n/p"),
    Binding("p,N", "move(-1)", "Previous record", id="label.previous", show=False),
    Binding("c", "type('note')", "Note", id="label.note"),
    Binding("i", "guide", "Guide", id="label.guide"),
    Binding("slash", "type('value')", "Find a value", id="label.find", show=False),
    Binding("x", "reject", "Reject suggestion", id="label.reject", show=False),
    Binding("m", "several", "Several values", id="label.several", show=False),
    Binding("enter", "save_several", "Save several", id="label.save_several", show=False),
    Binding("plus", "quality(0)", "Quality: first value", id="label.quality_1", show=False),
    Binding("equals_sign", "quality(1)", "Quality: second value", id="label.quality_2", show=False),
    Binding("minus", "quality(2)", "Quality: third value", id="label.quality_3", show=False),
    Binding("o", "order", "Order", id="label.order", show=False),
    Binding("w", "question", "Next question", id="label.question", show=False),
    Binding("Q", "questions", "Questions", id="label.questions", show=False),
    Binding("t", "all", "All records", id="label.all", show=False),
    Binding("v", "review", "Review", id="label.review", show=False),
    Binding("e", "edit", "Edit", id="label.edit", show=False),
    Binding("tab", "pane", "Other pane", id="label.pane", show=False),
    Binding("j,down", "scroll(1)", "Down", id="label.down", show=False),
    Binding("k,up", "scroll(-1)", "Up", id="label.up", show=False),
    Binding("ctrl+d,pagedown", "scroll(10)", "Page down", id="label.page_down", show=False),
    Binding("ctrl+u,pageup", "scroll(-10)", "Page up", id="label.page_up", show=False),
]
# Actions that only labelling has, and only the review.
LABELLING = ("choose", "accept", "reject", "flag", "type", "guide", "several", "save_several", "quality")
REVIEW = ("settle",)
HELP = """\
One key answers and the next record comes; nothing asks whether you are sure, `u` takes back. `s` skips: the record
comes again when no others are left. What others answered is hidden until you have answered.

With more than ten values, or none, `/` finds or types one. `m` lets several values be an answer: keys mark, `enter`
saves. `+ = -` answer the question called *quality* beside. Flags and notes are kept as answers to *flag* and *note*.

`Q` makes and changes the questions and says who answers. `o` changes the order, `w` the question (also *approval*,
where records wait for one), `t` asks about records whose line has an answer already, `v` shows what was answered
differently and what was decided apart; there a key settles. The model behind `*` learns from the answers in a process
of its own, and judges no record by an answer to it.
"""
CSS = """
LabelScreen #session { width: 66%; }
LabelScreen.-narrow #session { width: 1fr; }
LabelScreen #session Panel { height: auto; padding: 0 1; }
LabelScreen #session TitleRule { padding: 0; }
LabelScreen.-low #session TitleRule { display: none; }
LabelScreen #session #head { height: 2; }
LabelScreen #record { height: 1fr; padding: 0 1; }
LabelScreen #session #choices { max-height: 9; }
LabelScreen #session #last { max-height: 5; }
LabelScreen.-middle #session #last { max-height: 2; }
LabelScreen.-low #session #last { max-height: 1; }
LabelScreen #line { display: none; }
LabelScreen.-typing #line { display: block; }
"""


def session_texts(session: LabelSession, begun: Begun, room: int, *, is_several: bool) -> dict[str, Text]:
    """Return what is drawn of the record at hand, by widget; ``room`` is how many cells a line of choices has."""
    texts = {"head": head_line(session), "last": last_text(session, room)}
    state = session.state()
    if state is None:
        return texts | {
            "record": safe_lines(session.why_nothing("t: review them anyway")),
            "choices": Text(""),
            "aside": Text(""),
        }
    return texts | {
        "record": record_text(state.record.id, session.turns(state, session.question.name)),
        "choices": choices_text(session, begun, room, is_several=is_several),
        "aside": aside_text(session, state.answers.get(QUALITY, {}).get(session.by)),
    }


def review_texts(review: Review, room: int) -> dict[str, Text]:
    """Return what is drawn of the review, by widget.

    What does not fit into the ``room`` of a line of choices stands whole behind the record.
    """
    item, record, choices, keys = review.item, Text(""), Text(""), "v or esc: back to labelling"
    if item is not None:
        keys = f"s goes on, e edits, {keys}"
        choices, whole = sides_text(item, room)
        record = record_text(item.record, review.turns(item)).append_text(whole)
    hidden = ". ".join(review.hidden)
    return {
        "head": Text.assemble(("REVIEW", "strong"), f"  {review.progress}\n", (hidden, "muted")),
        "record": record,
        "choices": choices,
        "aside": Text(""),
        "last": Text(keys, "muted"),
    }


def side_text(session: LabelSession, guideline: str, background: BackgroundWork) -> Text:
    """Return what is known of the session, also what was computed in the background."""
    guide = guide_text(session.question.guide, guideline)
    team = [team_text(session, background.shares)] if len(background.shares) > 1 else []
    parts = [session_text(session), *team, agreement_text(session), guide, model_text(session, background.lacks)]
    return Text("\n\n").join(parts)


def head_line(session: LabelSession) -> Text:
    """Return what is asked, in which order, and how far it is."""
    wish, (left, size) = session.wish, session.progress()
    text = Text.assemble("asked: ", safe_text(wish.question.name, 24, "strong"), "   ", (WORDS[wish.order], "muted"))
    if wish.is_all:
        text.append("   all records", "muted")
    share = (size - left) / size if size else 1.0
    text.append("\n").append(bar(share, 24), "accent")
    text.append(f"  {size - left:,} of {size:,}  {share:.0%}  {left:,} left")
    if (num := session.num_by_all) > size - left:
        text.append(f"  by all {num:,}", "muted")
    if session.queue and session.queue.skipped:
        text.append(f"  {len(session.queue.skipped):,} skipped", "muted")
    return text


def record_text(name: str, turns: Iterable[tuple[str, str, int]]) -> Text:
    """Return the record called ``name`` as it is to be read, by its ``turns``."""
    text = Text.assemble(safe_text(name, 60, "strong"))
    for who, content, num_more in turns:
        style = "muted" if who == REASONING.upper() else ""
        text.append("\n\n").append_text(safe_text(who, 30, style or "strong")).append("\n")
        text.append_text(safe_lines(content, style) if content else Text("<empty>", "muted"))
        if num_more:
            text.append(f"\n{glyphs().ellipsis} {num_more:,} more characters are not drawn; Y copies them all", "muted")
    return text


def choices_text(session: LabelSession, begun: Begun, width: int, *, is_several: bool) -> Text:
    """Return the question, the values with their keys, what is suggested, and what was answered, on ``width`` cells."""
    question, suggestion, others = session.question, session.suggestion(), dict(session.answers())
    own, values = others.pop(session.by, None), begun.keyed(session.values)
    text = Text.assemble(safe_text(question.ask or question.name, 200, "strong"))
    names = [session.name_of(value) for value in values]
    wide = max([_NARROW_CELL, *(min(cell_len(name), 30) + 5 for name in names)])
    columns = max(1, width // wide)
    for index, value in enumerate(values):
        text.append("\n" if index % columns == 0 else "")
        is_own = value in own if isinstance(own, list) else value == own
        is_proposed = suggestion is not None and suggestion.value == value
        mark = "*" if is_proposed else "=" if is_own else "x" if value in begun.marked else " "
        style = "strong" if is_own or value in begun.marked else "accent" if is_proposed else ""
        text.append(mark, style).append(KEYS[index], "key").append(" ").append(cell(names[index], wide - 3), style)
    if num_more := len(question.values) - len(values):
        text.append(f"\n{num_more:,} more values; / finds them", "muted")
    elif not values:
        text.append("\n/ types the answer", "muted")
    notes = []
    if suggestion is not None:
        name = "" if suggestion.value in values else f"{spelled_value(suggestion.value)} "
        notes.append(f"* = suggestion {name}{suggestion.score:.2f}")
    if own is not None:
        notes.append(f"= your answer: {session.name_of(own)}")
    elif session.has_lapsed:
        notes.append("asked again: what you answered about has changed since")
    notes += [f"{who}: {session.name_of(value)}" for who, value in others.items()]
    notes += ["several: keys mark, enter saves"] if is_several else []
    # The line is there always: with each record that has a suggestion the screen would be laid out anew.
    return text.append("\n").append_text(safe_text("   ".join(notes), 300, "muted"))


def sides_text(item: ReviewItem, room: int) -> tuple[Text, Text]:
    """Return how an item can be settled, on lines of ``room`` cells, and who says so; and whole what is cut there."""
    text, whole = Text.assemble(safe_text(item.title, 200, "strong")), Text("")
    for key, side in zip(KEYS, item.sides, strict=False):
        people = safe_text(", ".join(side.people), max(12, room // 4), "muted")
        # Beside it are a blank, the key and a blank, and three before the people.
        limit = room - (len(people) + 3 if people else 0) - 3
        text.append("\n ").append(key, "key").append(" ").append_text(safe_text(side.name, limit))
        if people:
            text.append("   ").append_text(people)
        if len(side.name) > limit:
            whole.append("\n\n").append(key, "key").append(" ").append_text(people).append("\n").append_text(
                safe_lines(side.name)
            )
    if len(item.sides) > len(KEYS):
        text.append(f"\n{len(item.sides) - len(KEYS):,} more; `curate review --plain` shows them", "muted")
    return text, whole


def aside_text(session: LabelSession, quality: Json) -> Text:
    """Return what is said about the record besides the answer: quality, flag, note."""
    text, note = Text(), session.aside(NOTE)
    if session.question.name != QUALITY and any(question.name == QUALITY for question in session.questions):
        value = f" {spelled_value(quality)}" if quality is not None else " not said"
        text.append("quality ", "muted").append("+ = -", "key").append_text(safe_text(value, 30)).append("   ")
    text.append("flagged   " if session.aside(FLAG) is not None else "", "warn")
    if note:
        text.append("note ", "muted").append_text(safe_text(str(note), 80))
    return text


def last_text(session: LabelSession, room: int) -> Text:
    """Return the last decisions, a line each, the newest first: what was answered, and how the record begins."""
    text, done = Text(), session.done.last(LAST)
    if not done:
        return Text("last  nothing decided in this session yet", "muted")
    for index, entry in enumerate(done):
        text.append("\n      " if index else "last  ", "muted")
        text.append(cell(_did(entry, session), 16), "muted" if entry.value is None else "accent").append("  ")
        text.append(cell(" ".join((entry.beginning or entry.record).split()), max(10, room - 24)).rstrip())
    return text


def session_text(session: LabelSession) -> Text:
    """Return how this session goes: answers, skips and flags, and answers a minute."""
    answered, skipped, flagged = (session.done.count(what) for what in ("answered", "skipped", FLAG))
    text = Text.assemble(("SESSION ", "strong"), safe_text(session.by, 20))
    text.append(f"\ndone {answered:,}   skip {skipped:,}   flag {flagged:,}\n")
    pace = session.done.pace()
    if pace is None:
        return text.append("pace: after two answers", "muted")
    minutes = session.progress()[0] / pace if pace else 0
    eta = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    return text.append(f"{pace:.1f} /min   eta {eta}")


def team_text(session: LabelSession, shares: Sequence[AnnotatorShare]) -> Text:
    """Return what each annotator has done of what they are asked, the least first; one's own share as it is now."""
    text, best = Text("TEAM", "strong"), max(share.rate for share in shares)
    for share in shares:
        left, size = (share.num_left, share.num_done + share.num_left)
        if share.name == session.by:
            left, size = session.progress()
        is_behind = share.rate < best - _BEHIND
        text.append("\n").append(cell(share.name, 10)).append(f" {size - left:,}/{size:,}")
        text.append("  ~ behind" if is_behind else "", "warn")
    return text


def agreement_text(session: LabelSession) -> Text:
    """Return how far all agree, and this annotator with each other one."""
    glance, overlap = session.glance(), session.project.settings.label.overlap
    text = Text.assemble(("AGREEMENT", "strong"), (f" ({overlap:.0%} asked of two)", "muted"))
    if not glance.num_shared:
        return text.append("\nno record has two answers yet", "muted")
    text.append(f"\npairs {glance.num_pairs:,}   alpha ").append_text(_rated(glance.alpha))
    for peer in glance.peers[:4]:
        text.append("\n").append(cell(peer.name, 10)).append(f" n {peer.num_records:,}  kappa ")
        text.append_text(_rated(peer.kappa))
    grades = {grade(value) for value in (glance.alpha, *(peer.kappa for peer in glance.peers[:4]))}
    for sign in (words for known, words in _SIGNS.items() if known in grades):
        text.append(f"\n{sign}", "muted")
    if glance.confused:
        text.append("\n\nCONFUSED MOST", "strong")
        for confusion in glance.confused[:3]:
            pair = f"{spelled_value(confusion.left)} / {spelled_value(confusion.right)}"
            text.append("\n").append_text(safe_text(pair, 24)).append(f"  {confusion.num_pairs:,}")
    return text


def guide_text(guide: Mapping[str, str], guideline: str) -> Text:
    """Return when which answer is right, and how the guideline begins."""
    text = Text.assemble(("GUIDE", "strong"), " (", ("i", "key"), ")")
    for value, words in guide.items():
        text.append("\n").append_text(safe_text(value, 30, "accent")).append(": ").append_text(safe_text(words, 200))
    lines = guideline.split("\n")[:_GUIDE_LINES]
    if guideline:
        text.append("\n").append_text(safe_lines("\n".join(lines)))
    if not guide and not guideline:
        text.append("\nnone; ", "muted").append("Q", "key").append(" makes questions and their guide", "muted")
    return text


def pages_text(guide: Mapping[str, str], guideline: str) -> Text:
    """Return the whole guide, to scroll."""
    text = Text()
    for value, words in guide.items():
        text.append_text(safe_text(value, 60, "accent")).append("\n").append_text(safe_lines(words)).append("\n\n")
    return text.append_text(safe_lines(guideline))


def model_text(session: LabelSession, lacks: str) -> Text:
    """Return what is known of the model that suggests, or why there is none."""
    text, learned = Text.assemble(("SUGGESTIONS", "strong"), "\n"), session.suggester.suggestions
    if lacks or learned is None:
        return text.append_text(safe_text(lacks, 300, "muted"))
    labels = counted(learned.num_learned, "label")
    if session.suggest_with:
        name = safe_text(session.suggest_with, 40)
        return text.append_text(name).append(f"; right in {learned.accuracy:.0%} of {labels}", "muted")
    return text.append(f"learned from {labels}; right out of sample {learned.accuracy:.0%}", "muted")


def _did(done: Done, session: LabelSession) -> str:
    if done.value is None:
        return "(skipped)"
    return {FLAG: "(flagged)", NOTE: "(noted)"}.get(done.question, session.name_of(done.value, done.record))


def _rated(value: float | None) -> Text:
    if value is None:
        return Text("-", "muted")
    style = grade(value)
    return Text(f"{value:.2f}{_MARKS[style]}", style)
