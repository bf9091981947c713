"""What Browse shows: rows of the catalogue, and all of one record as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from rich.text import Text
from textual.widget import Widget
from textual.widgets import Static

from curate.base.events import Assign, redo_names
from curate.base.record import Finding, Json, Record, canonical
from curate.base.tables import counted, listed
from curate.project.blind import HIDDEN, UNSEEN
from curate.project.diff.words import text_of as value_text
from curate.project.filters import Filter
from curate.project.journal import CATEGORY
from curate.project.labels import questions_of
from curate.schema.view import REASONING, spoken_turns
from curate.tui.border import FINDING_SIGNS, cut_around, glyphs, safe_text
from curate.tui.frame_table import Column, FrameTable, Tone
from curate.tui.help import event_line
from curate.tui.record_text import HIT, changed_words, limited, marked
from curate.tui.widgets import Pane

if TYPE_CHECKING:
    from curate.base.events import Event
    from curate.base.record import Split
    from curate.project.catalog import Catalog, CatalogRow, Rows
    from curate.project.fold import RecordState
    from curate.project.project import Project
    from curate.schema.settings import Settings
    from curate.sessions.problems import ProblemList

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


class Snippet(str):
    """What stands around a hit, which is ``span`` of it, its brackets included."""

    __slots__ = ("span",)

    span: tuple[int, int]


def _cut_snippet(value: str, width: int) -> str:
    return cut_around(value, *value.span, width) if isinstance(value, Snippet) else value


# Each column, and its width below `ROOMY` columns of the terminal.
_COLUMNS: Mapping[str, tuple[Column, int]] = {
    "id": (Column("id", 14, is_name=True, is_snug=True), 10),
    "category": (Column("category", 14, is_snug=True), 9),
    "status": (Column("status", 9, tone=_tone, is_snug=True), 9),
    "prompt": (Column("prompt"), 0),
    "completion": (Column("completion"), 0),
    "hit": (Column("hit", cut=_cut_snippet), 0),
    "tokens": (Column("~tok", 6, is_right=True, is_snug=True), 5),
    "split": (Column("split", 10, is_snug=True), 6),
    "source": (Column("source", 16, is_snug=True), 9),
    "kind": (Column("kind", 11, is_snug=True), 11),
    "place": (Column("file", 22, is_name=True, is_snug=True), 15),
    "confidence": (Column("confidence", 10, is_right=True), 7),
    "variability": (Column("variability", 11, is_right=True), 7),
}
# What the newest run says of a record, and the head of a narrow column of it.
_SHORT = {"confidence": "conf.", "variability": "var."}
# What `c` offers; the first value of each names the record.
SETS: Mapping[str, tuple[str, ...]] = {
    "overview": ("id", "category", "status", "prompt", "tokens"),
    "answers": ("id", "status", "prompt", "completion", "tokens"),
    "splits": ("id", "category", "status", "split", "source", "prompt"),
    "files": ("id", "place", "kind", "status", "prompt"),
    "learning": ("id", "category", "confidence", "variability", "prompt"),
}
# What `s` offers to sort by, and how that is called.
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


def with_hits(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns ``names`` with the hit of a filter in place of the prompt, or as the last one."""
    return tuple("hit" if name == "prompt" else name for name in names if "prompt" in names) or (*names, "hit")


def empty_text(where: Filter, settings: Settings) -> str:
    """Return what stands in place of rows where ``where`` lets no record through."""
    if not where.asks_about("label"):
        return "No record fits the filter; esc takes it away."
    return f"No record fits. Questions are {listed([question.name for question in questions_of(settings)])}."


def position_text(table: FrameTable, order: str, columns: str) -> Text:
    """Return where the cursor of ``table`` is, how much is marked, how it is sorted, and which columns it has."""
    position = f"row {table.cursor + 1:,}/{len(table.source):,}" if len(table.source) else "no record"
    position += f"   range {len(table.span):,}" if table.has_range else ""
    position += f"   marked {len(table.marks):,}" if table.marks else ""
    return Text(f"{position}   sort: {order}   columns: {columns}", style="muted")


class CatalogRows:
    """Rows of the catalogue for a `FrameTable`, read in the windows that it asks for."""

    def __init__(self, catalog: Catalog, rows: Rows, names: Sequence[str], where: Filter) -> None:
        self._catalog = catalog
        self._rows = rows
        self._names = names
        self._where = where

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, window: slice, /) -> list[tuple[str, ...]]:
        rows = self._rows[window]
        hits = self._hits(rows) if "hit" in self._names else [""] * len(rows)
        return [tuple(self._values(*pair)) for pair in zip(self._catalog.rows(rows), hits, strict=True)]

    # Return the first hit of each of ``rows`` among the words around it; what may not be seen is in no text of these.
    def _hits(self, rows: Rows) -> list[str]:
        records = [state.record for state in self._catalog.visible_states(rows)]
        texts = [text for record in records for text in (record.prompt or record.text, record.completion)]
        snippets = [snippet(*pair) for pair in zip(texts, self._where.hits(texts), strict=True)]
        return [prompt or completion for prompt, completion in zip(snippets[::2], snippets[1::2], strict=True)]

    def _values(self, row: CatalogRow, hit: str) -> Iterable[str]:
        for name in self._names:
            if name == "hit":
                yield hit
            elif name in _SHORT:
                number = getattr(self._catalog.learning.by_id.get(row.id), name, None)
                yield "-" if number is None else f"{number:.2f}"
            elif name == "status" and row.status == "ok" and not self._catalog.has_findings:
                # Before a validation nothing is known but what was dropped.
                yield UNKNOWN
            else:
                yield _VALUES[name](row)


_MOST_META = 300
_AROUND = 400  # Characters on each side of a hit: more than a row has cells.


def snippet(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return the first of ``spans`` of a text in brackets, with what stands around it; empty where there is none."""
    if not spans:
        return ""
    start, end = spans[0]
    head = text[max(0, start - _AROUND) : start]
    found = Snippet(f"{head}[{text[start:end]}]{text[end : end + _AROUND]}")
    found.span = len(head), len(head) + end - start + 2
    return found


_STYLES = {"ok": "ok", "warning": "warn", "waiting": "accent", "error": "error", "dropped": "dropped"}

View = Literal["pretty", "raw", "diff"]
VIEWS: tuple[View, ...] = ("pretty", "raw", "diff")


class RecordPane(Pane):
    """The pane of one record."""

    def __init__(self, *children: Widget, id: str, classes: str) -> None:
        super().__init__(*children, id=id, classes=classes)
        self._text, self._record, self._hit = Text(""), "", -1

    def show(self, text: Text, name: str) -> None:
        """Show the ``text`` of the record called ``name``; of another one than before from its top."""
        self._text = text
        self.query_one("#detail", Static).update(text)
        if name != self._record:
            self._record, self._hit = name, -1
            if self.scroll_y:
                self.scroll_home(animate=False)

    def step_hit(self, step: int, *, is_from_end: bool = False) -> bool:
        """Go to the next hit, or the one before; return False where there is none that way."""
        hits = [span.start for span in self._text.spans if span.style == HIT]
        index = (len(hits) if is_from_end else max(self._hit, -1 if step > 0 else 0)) + step
        if not 0 <= index < len(hits):
            return False
        self._hit = index
        width = max(1, self.scrollable_content_region.width)
        line = len(self._text[: hits[index] + 1].wrap(self.app.console, width)) - 1
        self.scroll_to(y=max(0, line - self.size.height // 3), animate=False)
        return True


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of the record under the cursor."""

    state: RecordState
    row: CatalogRow
    # Questions that others have answered and whoever looks is still asked, so that they must not see how.
    hidden: frozenset[str]
    line: Record | None  # The record as its line has it; None where a decision added it.
    findings: Sequence[Finding] | None  # None where nothing was validated yet.
    history: Sequence[tuple[Event, bool]]  # The decisions, and of each whether it must not be told in full.
    where: Filter = field(default_factory=Filter)  # What was asked for, whose words are marked.
    pinned: Split | None = None  # The split that the last dataset has it in.


def subject_of(project: Project, problem_list: ProblemList, name: str, where: Filter) -> Subject:
    """Return what is known of the record called ``name``, as whoever looks may see it.

    Raises:
        CurateError: E916 for an unknown one, E974 where its file was changed.
    """
    row, problems = project.catalog.find(name), problem_list.problems
    state, visible = project.state(name), project.visible_finding
    assert row is not None, "what has a state has a row"
    return Subject(
        state,
        project.catalog.row(row),
        project.blind.hidden(state),
        project.catalog.read(name),
        None if problems is None else [finding for finding in map(visible, problems.of_record(name)) if finding],
        [(event, project.hides_event(event)) for event in project.history(name)] if state.heads else (),
        where,
        project.catalog.pinned_split(name),
    )


def render_subject(subject: Subject, view: View) -> Text:
    """Return all of a record in one of the views."""
    blocks = [_head(subject, view), *_labels(subject)]
    if view == "raw":
        blocks.append(limited(json.dumps(dict(subject.state.record.data), indent=2, ensure_ascii=False)))
    elif view == "diff":
        blocks += _changes(subject)
    else:
        blocks += [
            *_texts(subject.state.record, subject.where),
            *_problems(subject),
            *_bookkeeping(subject),
            *_history(subject),
        ]
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
        start = len(text)
        text.append(f"[{option}]" if option == view else f" {option} ", "tab" if option == view else "muted")
        text.apply_meta({"@click": f"screen.view('{option}')"}, start, len(text))
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


def _texts(record: Record, where: Filter) -> Iterator[Text]:
    yield _rule()
    turns = list(spoken_turns(record))
    for (who, said), spans in zip(turns, where.hits([said for _, said in turns]), strict=True):
        # Dim: the answer is what is read first.
        style = "muted" if who == REASONING else ""
        yield safe_text(who.upper(), 30, style or "strong")
        yield marked(said, spans, style) if said else Text("<empty>", "muted")
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
    yield Text.assemble(("SPLIT ", "strong"), _split_reason(subject))


# Return which split the record is in and why: the last dataset, a decision, or what its line says.
def _split_reason(subject: Subject) -> Text:
    split = subject.row.split
    if not split:
        return Text("none yet: g s previews one", "muted")
    text = Text(f"{split}  ")
    assigned = [(event, event.decision.split) for event, _ in subject.history if isinstance(event.decision, Assign)]
    if assigned and assigned[-1][1] != split:
        assigned = []  # It was taken back.
    if subject.pinned:
        text.append("since the last dataset, which holds it there", "muted")
    elif assigned:
        former = assigned[-2][1] if len(assigned) > 1 else subject.line.split if subject.line else None
        moved = f", moved from {former}" if former and former != split else ""
        by = safe_text(f"{assigned[-1][0].by}{moved}", 80, "muted")
        text.append_text(Text.assemble((f"since {_time(assigned[-1][0])}, assigned by ", "muted"), by))
    elif subject.state.machine and not (subject.line and subject.line.split):
        text.append("a model wrote it, so it is trained on", "muted")
    else:
        text.append("its line says so", "muted")
    return text


def _time(event: Event) -> str:
    return event.at[:16].replace("T", " ")


def _history(subject: Subject) -> Iterator[Text]:
    events = subject.history
    yield Text.assemble(("HISTORY ", "strong"), counted(len(events), "decision") if events else "nothing decided")
    redos = redo_names(event for event, _ in events)
    for event, is_hidden in reversed(events):
        yield Text.assemble(event.at[:10], event_line(event, is_hidden=is_hidden, is_redo=event.event in redos))


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
