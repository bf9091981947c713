"""What the Label screen draws: each function returns the text of one part of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from curate.base.record import Json, Record
from curate.base.tables import counted
from curate.project.labels import WORDS, Suggestion
from curate.sessions.agreement import AgreementGlance, grade
from curate.sessions.labelling import FLAG, NOTE, Done, ReviewItem, Wish, spelled_value, turns_of
from curate.tui.border import cell, safe_lines, safe_text
from curate.tui.glyphs import bar, glyphs

KEYS = "1234567890"
"""The keys of the first ten values, in order."""
LAST = 5
_MARKS = {"ok": "", "warn": " ~", "error": " !", "": ""}
_NARROW_CELL = 12
_GUIDE_LINES = 12


@dataclass(frozen=True, slots=True)
class Answering:
    """What is to be known of the record at hand to draw the choices for it."""

    values: Sequence[str]
    """The values that have a key, at most ten."""
    num_more: int
    """Values that have none."""
    own: Json = None
    """What the annotator has answered before."""
    suggestion: Suggestion | None = None
    chosen: Collection[str] = ()
    """The values that are marked so far, where several may be."""
    is_multi: bool = False
    others: Mapping[str, Json] | None = None
    """What others answered, once the annotator has."""


def head_line(wish: Wish, left: int, size: int, num_skipped: int) -> Text:
    """Return what is asked, in which order, and how far it is."""
    text = Text.assemble("asked: ", safe_text(wish.question.name, 24, "strong"), "   ", (WORDS[wish.order], "muted"))
    if wish.is_all:
        text.append("   all records", "muted")
    done = size - left
    share = done / size if size else 1.0
    text.append("\n").append(bar(share, 24), "accent")
    text.append(f"  {size:,} {'->' if glyphs().is_ascii else '→'} {left:,} left  {share:.0%}")
    if num_skipped:
        text.append(f"  {num_skipped:,} skipped", "muted")
    return text


def record_text(record: Record) -> Text:
    """Return the record as it is to be read, without what it is called."""
    text = Text.assemble(safe_text(record.id, 60, "strong"))
    for who, said, num_more in turns_of(record):
        text.append("\n\n").append_text(safe_text(who, 30, "strong")).append("\n")
        text.append_text(safe_lines(said) if said else Text("<empty>", "muted"))
        if num_more:
            text.append(f"\n{glyphs().ellipsis} {num_more:,} more characters are not drawn; Y copies them all", "muted")
    return text


def choices_text(ask: str, answering: Answering, width: int) -> Text:
    """Return the question, the values with their keys, and what is suggested."""
    text = Text.assemble(safe_text(ask, 200, "strong"))
    wide = max([_NARROW_CELL, *(min(cell_len(value), 30) + 5 for value in answering.values)])
    columns = max(1, width // wide)
    for index, value in enumerate(answering.values):
        text.append("\n" if index % columns == 0 else "")
        is_own = _is_in(value, answering.own)
        is_proposed = answering.suggestion is not None and answering.suggestion.value == value
        mark = "*" if is_proposed else "=" if is_own else "x" if value in answering.chosen else " "
        style = "strong" if is_own or value in answering.chosen else "accent" if is_proposed else ""
        text.append(mark, style).append(KEYS[index], "key").append(" ")
        text.append(cell(value, wide - 3), style)
    if answering.num_more:
        text.append(f"\n{answering.num_more:,} more values; / finds them", "muted")
    if not answering.values and not answering.num_more:
        text.append("\n/ types the answer", "muted")
    notes = []
    if answering.suggestion is not None:
        named = (
            "" if answering.suggestion.value in answering.values else f"{spelled_value(answering.suggestion.value)} "
        )
        notes.append(f"* = suggestion {named}{answering.suggestion.score:.2f}")
    if answering.own is not None:
        notes.append(f"= your answer: {spelled_value(answering.own)}")
    for who, value in (answering.others or {}).items():
        notes.append(f"{who}: {spelled_value(value)}")
    if answering.is_multi:
        notes.append("several: keys mark, enter saves")
    # The line is there always: with each record that has a suggestion the screen would be laid out anew.
    return text.append("\n").append_text(safe_text("   ".join(notes), 300, "muted"))


def sides_text(item: ReviewItem) -> Text:
    """Return how an item can be settled, and who decided so."""
    text = Text.assemble(safe_text(item.title, 200, "strong"))
    for key, side in zip(KEYS, item.sides, strict=False):
        value = side.text or ("(as if nobody had)" if side.value is None else spelled_value(side.value))
        text.append("\n ").append(key, "key").append(" ").append_text(safe_text(value, 60))
        if side.people:
            text.append("   ").append_text(safe_text(", ".join(side.people), 60, "muted"))
    if len(item.sides) > len(KEYS):
        text.append(f"\n{len(item.sides) - len(KEYS):,} more; `curate review --plain` shows them", "muted")
    return text


def aside_text(quality: Json, is_flagged: bool, note: str, has_quality: bool) -> Text:
    """Return what is said about the record besides the answer: quality, flag, note."""
    text = Text()
    if has_quality:
        text.append("quality ", "muted").append("+ = -", "key")
        text.append_text(safe_text(f" {spelled_value(quality)}" if quality is not None else " not said", 30))
        text.append("   ")
    text.append("flagged   " if is_flagged else "", "warn")
    if note:
        text.append("note ", "muted").append_text(safe_text(note, 80))
    return text


def last_text(done: Sequence[Done]) -> Text:
    """Return the last decisions, the newest first."""
    text = Text.assemble(("last  ", "muted"))
    if not done:
        return text.append("nothing decided in this sitting yet", "muted")
    for index, entry in enumerate(done):
        text.append("  " if index else "").append_text(safe_text(entry.record, 16)).append(" ")
        text.append_text(safe_text(_did(entry), 16, "muted" if entry.value is None else "accent"))
    return text


def session_text(by: str, counts: tuple[int, int, int], pace: float | None, left: int) -> Text:
    """Return how this sitting goes: answers, skips and flags, and answers a minute."""
    answered, skipped, flagged = counts
    text = Text.assemble(("SESSION ", "strong"), safe_text(by, 20))
    text.append(f"\ndone {answered:,}   skip {skipped:,}   flag {flagged:,}\n")
    if pace is None:
        return text.append("pace: after two answers", "muted")
    minutes = left / pace if pace else 0
    eta = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    return text.append(f"{pace:.1f} /min   eta {eta}")


def agreement_text(glance: AgreementGlance, overlap: float) -> Text:
    """Return how far all agree, and this annotator with each other one."""
    text = Text.assemble(("AGREEMENT", "strong"), (f" (double {overlap:.0%})", "muted"))
    if not glance.num_shared:
        return text.append("\nno record has two answers yet", "muted")
    text.append(f"\npairs {glance.num_pairs:,}   alpha ").append_text(_rated(glance.alpha))
    for peer in glance.peers[:4]:
        text.append("\n").append(cell(peer.name, 10)).append(f" n {peer.num_records:,}  kappa ")
        text.append_text(_rated(peer.kappa))
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
        text.append("\nnone; [label] of curate.toml", "muted")
    return text


def pages_text(guide: Mapping[str, str], guideline: str) -> Text:
    """Return the whole guide, to scroll."""
    text = Text()
    for value, words in guide.items():
        text.append_text(safe_text(value, 60, "accent")).append("\n").append_text(safe_lines(words)).append("\n\n")
    return text.append_text(safe_lines(guideline))


def model_text(num_learned: int, accuracy: float, lacks: str) -> Text:
    """Return what is known of the model that suggests, or why there is none."""
    text = Text.assemble(("SUGGESTIONS", "strong"))
    if lacks:
        return text.append("\n").append_text(safe_text(lacks, 300, "muted"))
    return text.append(f"\nlearned from {counted(num_learned, 'label')}; right out of sample {accuracy:.0%}", "muted")


def _did(done: Done) -> str:
    if done.value is None:
        return "(skipped)"
    return {FLAG: "(flagged)", NOTE: "(noted)"}.get(done.question, spelled_value(done.value))


def _is_in(value: str, answer: Json) -> bool:
    return value in answer if isinstance(answer, list) else value == answer


def _rated(value: float | None) -> Text:
    if value is None:
        return Text("-", "muted")
    style = grade(value)
    return Text(f"{value:.2f}{_MARKS[style]}", style)
