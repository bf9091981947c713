"""What Browse shows: rows of the catalogue, and all of one record as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from rich.text import Text
from textual.binding import Binding
from textual.containers import VerticalScroll

from curate.base.record import Finding, Json, Record, canonical
from curate.base.tables import counted
from curate.project.blind import HIDDEN, UNSEEN
from curate.project.diff.words import text_of as value_text
from curate.project.journal import CATEGORY
from curate.schema.view import REASONING, spoken_turns
from curate.tui.border import FINDING_SIGNS, glyphs, safe_text
from curate.tui.frame_table import Column, Tone
from curate.tui.help import event_line
from curate.tui.record_text import changed_words, limited

if TYPE_CHECKING:
    from curate.base.events import AnyEvent
    from curate.project.catalog import Catalog, CatalogRow, Rows
    from curate.project.fold import RecordState

# Each status with its symbol.
WORDS: Mapping[str, str] = {
    "ok": "ok", "warning": "~ warn", "waiting": ". waiting", "error": "! error", "dropped": "x dropped"
}  # fmt: skip
ROOMY = 140  # Columns of the terminal from which the columns of the table are wide.
UNKNOWN = "?"  # The status of a record before anything was validated.
_TONES: Mapping[str, Tone] = {
    "ok": "ok", "~ warn": "warn", ". waiting": "warn", "! error": "error", "x dropped": "muted", UNKNOWN: "muted"
}  # fmt: skip


def _tone(value: str) -> Tone:
    return _TONES.get(value, "")


# Return the category; where somebody has said one that must not be seen, the catalogue has their answer empty.
def _category(row: CatalogRow) -> str:
    if row.category or not row.labels:
        return row.category
    is_hidden = any(who and question == CATEGORY and answer == UNSEEN for who, question, answer in row.labels)
    return HIDDEN if is_hidden else ""


_VALUES: Mapping[str, Callable[[CatalogRow], str]] = {
    "id": lambda row: row.id,
    "category": _category,
    "status": lambda row: WORDS[row.status],
    "prompt": lambda row: row.prompt,
    "completion": lambda row: row.completion,
    "tokens": lambda row: f"{row.tokens:,}",
    "split": lambda row: row.split,
    "source": lambda row: row.source,
    "kind": lambda row: row.kind,
    "place": lambda row: f"{row.file}:{row.line}",
}
# Each column, and its width below `ROOMY` columns of the terminal.
_COLUMNS: Mapping[str, tuple[Column, int]] = {
    "id": (Column("id", 14), 10),
    "category": (Column("category", 12), 9),
    "status": (Column("status", 9, tone=_tone), 9),
    "prompt": (Column("prompt"), 0),
    "completion": (Column("completion"), 0),
    "tokens": (Column("~tok", 6, is_right=True), 5),
    "split": (Column("split", 10), 6),
    "source": (Column("source", 16), 9),
    "kind": (Column("kind", 11), 11),
    "place": (Column("file", 22), 15),
    "confidence": (Column("confidence", 10, is_right=True), 7),
    "variability": (Column("variability", 11, is_right=True), 7),
}
# What the newest run says of a record, and the head of a narrow column of it.
_SHORT = {"confidence": "conf.", "variability": "var."}
# What `c` shows, one after the other; the first value of each names the record.
SETS: Sequence[tuple[str, ...]] = (
    ("id", "category", "status", "prompt", "tokens"),
    ("id", "status", "prompt", "completion", "tokens"),
    ("id", "category", "status", "split", "source", "prompt"),
    ("id", "place", "kind", "status", "prompt"),
    ("id", "category", "confidence", "variability", "prompt"),
)
# What `s` sorts by, one after the other, and how that is called.
SORTS: Mapping[str, str] = {
    "file": "file order", "id": "id", "category": "category", "status": "status", "tokens": "~tok",
    "split": "split", "prompt": "prompt", "confidence": "confidence", "variability": "variability",
}  # fmt: skip


def columns_of(names: Sequence[str], width: int) -> list[Column]:
    """Return the columns called ``names`` for a terminal of ``width`` columns."""
    if width >= ROOMY:
        return [_COLUMNS[name][0] for name in names]
    pairs = ((name, *_COLUMNS[name]) for name in names)
    return [replace(column, title=_SHORT.get(name, column.title), width=narrow) for name, column, narrow in pairs]


class CatalogRows:
    """Rows of the catalogue for a `FrameTable`, read in the windows that it asks for."""

    def __init__(self, catalog: Catalog, rows: Rows, names: Sequence[str]) -> None:
        self._catalog = catalog
        self._rows = rows
        self._names = names

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, window: slice, /) -> list[tuple[str, ...]]:
        return [tuple(self._values(row)) for row in self._catalog.rows(self._rows[window])]

    def _values(self, row: CatalogRow) -> Iterable[str]:
        for name in self._names:
            if name in _SHORT:
                number = getattr(self._catalog.learning.by_id.get(row.id), name, None)
                yield "-" if number is None else f"{number:.2f}"
            elif name == "status" and row.status == "ok" and not self._catalog.has_findings:
                # Before a validation nothing is known but what was dropped.
                yield UNKNOWN
            else:
                yield _VALUES[name](row)


_MOST_META = 300
_STYLES = {"ok": "ok", "warning": "warn", "waiting": "accent", "error": "error", "dropped": "dropped"}

View = Literal["pretty", "raw", "diff"]
VIEWS: tuple[View, ...] = ("pretty", "raw", "diff")


class RecordPane(VerticalScroll):
    """The pane of one record, in which the letters move as they do in lists."""

    BINDINGS = [  # noqa: RUF012  Textual declares it so
        Binding("j", "scroll_down", "Down", show=False, id="detail.down"),
        Binding("k", "scroll_up", "Up", show=False, id="detail.up"),
        Binding("ctrl+d", "page_down", "Page down", show=False, id="detail.page_down"),
        Binding("ctrl+u", "page_up", "Page up", show=False, id="detail.page_up"),
        Binding("G", "scroll_end", "Last line", show=False, id="detail.end"),
    ]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of the record under the cursor."""

    state: RecordState
    row: CatalogRow
    # Questions that others have answered and whoever looks is still asked, so that they must not see how.
    hidden: frozenset[str]
    line: Record | None  # The record as its line has it; None where a decision added it.
    findings: Sequence[Finding] | None  # None where nothing was validated yet.
    history: Sequence[tuple[AnyEvent, bool]]  # The decisions, and of each whether it must not be told in full.


def render_subject(subject: Subject, view: View) -> Text:
    """Return all of a record in one of the views."""
    blocks = [_head(subject, view), *_labels(subject)]
    if view == "raw":
        blocks.append(limited(json.dumps(dict(subject.state.record.data), indent=2, ensure_ascii=False)))
    elif view == "diff":
        blocks += _changes(subject)
    else:
        blocks += [*_texts(subject.state.record), *_problems(subject), *_bookkeeping(subject), *_history(subject)]
    return Text("\n").join(blocks)


def visible_labels(
    state: RecordState, hidden: Collection[str]
) -> Iterator[tuple[str, Sequence[tuple[str, Json]], int]]:
    """Yield each question with its answers, and how many are hidden because it is one of ``hidden``.

    An answer has the annotator's name before it, "agreed" for what holds.
    """
    for question in dict.fromkeys([*state.record.labels, *state.answers]):
        answers = {who: value for who, value in state.answers.get(question, {}).items() if value is not None}
        agreed = state.record.labels.get(question)
        if question in hidden:
            yield question, [], len(answers)
        else:
            yield question, [*((("agreed", agreed),) if agreed is not None else ()), *answers.items()], 0


def _head(subject: Subject, view: View) -> Text:
    state, row = subject.state, subject.row
    is_unknown = row.status == "ok" and subject.findings is None
    word = f"{UNKNOWN} not validated" if is_unknown else WORDS[row.status]
    text = Text.assemble(safe_text(row.id, 60, "strong"), "  ")
    for option in VIEWS:
        text.append(f"[{option}]" if option == view else f" {option} ", "tab" if option == view else "muted")
    category = row.category or (HIDDEN if CATEGORY in subject.hidden else "no category")
    text.append("\n").append_text(safe_text(category, 30, "accent"))
    text.append("  ").append(word, "muted" if is_unknown else _STYLES[row.status])
    text.append(f"  split {row.split or '-'}  ~{row.tokens:,} tok")
    if state.dropped is not None:
        text.append_text(Text.assemble("\n", ("dropped: ", "dropped"), safe_text(state.dropped, 200)))
    return text


def _labels(subject: Subject) -> Iterator[Text]:
    for question, answers, num_hidden in visible_labels(subject.state, subject.hidden):
        text = Text.assemble(("labels ", "muted"), safe_text(question, 30), "  ")
        for who, value in answers:
            text.append_text(Text.assemble(safe_text(who, 20, "muted"), ":", safe_text(value_text(value), 60), "  "))
        if num_hidden:
            text.append(f"{counted(num_hidden, 'answer')} by others, shown once you have answered", "muted")
        yield text


def _texts(record: Record) -> Iterator[Text]:
    yield _rule()
    for who, said in spoken_turns(record):
        # Dim: the answer is what is read first.
        style = "muted" if who == REASONING else ""
        yield safe_text(who.upper(), 30, style or "strong")
        yield limited(said, style) if said else Text("<empty>", "muted")
    if record.tools:
        names = [str(tool.get("function", {}).get("name", "")) for tool in record.tools]
        yield Text.assemble(("tools ", "muted"), safe_text(", ".join(names), 200))


def _problems(subject: Subject) -> Iterator[Text]:
    yield Text("")
    findings = subject.findings
    if findings is None:
        yield Text("PROBLEMS not looked for yet (g v validates)", "muted")
        return
    yield Text(f"PROBLEMS {len(findings)}", "strong")
    for finding in findings:
        pointer = safe_text(finding.pointer, 40, "muted")
        yield Text.assemble(
            FINDING_SIGNS[finding.severity],
            " ",
            finding.code,
            " ",
            pointer,
            " " if pointer.plain else "",
            safe_text(finding.message, 300),
        )


def _bookkeeping(subject: Subject) -> Iterator[Text]:
    record = subject.state.record
    if record.meta:
        text = Text("META ", "strong")
        for key, value in record.meta.items():
            text.append_text(
                Text.assemble(safe_text(key, 30, "muted"), "=", safe_text(value_text(value), _MOST_META), "  ")
            )
        yield text
    yield Text.assemble(("LINE ", "strong"), safe_text(f"{record.source.file}:{record.source.line}", 200, "muted"))


def _history(subject: Subject) -> Iterator[Text]:
    events = subject.history
    yield Text.assemble(("HISTORY ", "strong"), counted(len(events), "decision") if events else "nothing decided")
    yield from (event_line(event, is_hidden=is_hidden) for event, is_hidden in reversed(events))


# Yield what decisions have made of the line, key by key; the words that went and came stand in brackets.
def _changes(subject: Subject) -> Iterator[Text]:
    yield _rule()
    record = subject.state.record
    if subject.line is None:
        yield Text("This record was added by a decision; no record file has it.")
        return
    before: Mapping[str, Json] = subject.line.data
    after = record.data
    keys = [key for key in {**before, **after} if canonical([before.get(key)]) != canonical([after.get(key)])]
    if not keys:
        source = subject.line.source
        yield safe_text(f"No edits: the same as line {source.line:,} of {source.file}.", 300)
    for key in keys:
        yield safe_text(key, 60, "strong")
        yield changed_words(value_text(before.get(key, "")), value_text(after.get(key, "")))


def _rule() -> Text:
    return Text(glyphs().rule * 24, style="muted")
