"""Queues: lists of what is left to do, each entry of which is looked at, edited, and dropped with the same keys.

A queue is made by one function below that is decorated with its name and title. It says how many entries there are,
which has to be cheap, and how they, and all that is known of one, are read when somebody looks; nothing else knows
which queues there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from shlex import quote
from typing import Any

from curate.base.events import Approve, Decision, Drop, Label
from curate.base.file_guard import FileStamp, inside, stamp_of
from curate.base.record import UNCATEGORISED, CurateError, Json, Record
from curate.base.tables import counted
from curate.formats.quarantine import QUARANTINE_FOLDER, QuarantinedRow, quarantined_rows, settle
from curate.project.approval import QUESTION
from curate.project.catalog.columns import CatalogRow
from curate.project.data import RUNS
from curate.project.diff.words import text_of
from curate.project.drafts import Draft, Drafts
from curate.project.feedback import (
    FEEDBACK_FILE,
    STANDINGS,
    Outcomes,
    is_as_told,
    latest_run,
    read_base_answers,
    read_results,
    standing_of,
)
from curate.project.labels import AnnotatorAssignment
from curate.project.project import Project
from curate.project.proposals import Proposal
from curate.schema.view import spoken_turns
from curate.sessions.labelling.done import FLAG
from curate.sessions.labelling.queue import Wish, queue_of
from curate.sessions.lines import draft_location, is_settled
from curate.sessions.nearest import Nearest
from curate.sessions.proposals import (
    counts_key,
    counts_of,
    open_proposals,
    present,
    proposal_cells,
    proposal_texts,
    reject,
    take,
)
from curate.sessions.work_queue import QueueAct, QueueColumn, QueueEntry, QueuePassage, WorkQueue
from curate.sessions.worklist import num_written, read_worklist

_WRONG = ("broken", "still-wrong")
_NUM_NEAREST, _NUM_CANDIDATES = 5, 24
_MOST_TEXT = 200  # Characters of a nearest record that are shown.


# Makes a queue of a project; of several alike, such as those of runs, the one that is named, else the newest.
MakeQueue = Callable[[Project, str], WorkQueue]
_MAKERS: dict[str, tuple[str, MakeQueue]] = {}  # By the queue's name, with its title.


def _queue(name: str, title: str) -> Callable[[MakeQueue], MakeQueue]:
    def register(make: MakeQueue) -> MakeQueue:
        _MAKERS[name] = title, make
        return make

    return register


def queues(project: Project) -> list[WorkQueue]:
    """Return the queues of ``project`` with their counts, also those that are empty. Call it in a thread."""
    return [queue_named(project, name) for name in _MAKERS]


def queue_named(project: Project, name: str, run: str = "") -> WorkQueue:
    """Return the queue called ``name``, such as "drafts" or "wrong", of ``run`` where that is one.

    Where it cannot be counted it has a ``fault``, which its entries raise.
    """
    title, make = _MAKERS[name]
    try:
        queue = make(project, run)
        return replace(queue, name=name, title=queue.title or title)
    except CurateError as error:
        fault = error

    def refuse(*_: object) -> Any:
        raise fault

    return WorkQueue("", "entry", 0, (), refuse, refuse, name=name, title=title, fault=fault)


def queue_of_queues(project: Project) -> WorkQueue:
    """Return what is left to do of all kinds as a queue, whose entries each are one to go to: they open ``of`` it."""

    def entries() -> list[QueueEntry]:
        return [
            QueueEntry(
                queue.name, "", {"of": queue.name}, ("?" if queue.fault else f"{queue.count:,}", queue.title), queue
            )
            for queue in queues(project)
        ]

    def detail(entry: QueueEntry) -> list[QueuePassage]:
        queue: WorkQueue = entry.source
        fault = queue.fault
        return (
            [QueuePassage("cannot be counted", f"{fault.code}: {fault.message}\n{fault.hint}")]
            if fault
            else [QueuePassage(queue.title, queue.about)]
        )

    columns = QueueColumn("left", 7, is_number=True), QueueColumn("what")
    return WorkQueue("", "queue", len(_MAKERS), columns, entries, detail, title="what is left to do")


# Unsaved drafts.


@_queue("drafts", "unsaved drafts")
def _drafts(project: Project, _run: str) -> WorkQueue:
    stores = {name: Drafts(project.root, project.by, name) for name in ("", "lines")}
    names = {store: drafts.names() for store, drafts in stores.items()}

    def entries() -> list[QueueEntry]:
        return [entry for store in stores for name in names[store] if (entry := _draft_entry(project, store, name))]

    def detail(entry: QueueEntry) -> list[QueuePassage]:
        draft: Draft | None = stores[entry.source].read(entry.key)
        return list(_draft_passages(draft)) if draft else []

    def discard(chosen: Sequence[QueueEntry]) -> str:
        for entry in chosen:
            stores[entry.source].remove(entry.key)
        return f"discarded {counted(len(chosen), 'draft')}"

    def command(entry: QueueEntry | None) -> str:
        if entry is None or "draft" in entry.opens:
            return ""
        return f"curate edit {quote(entry.cells[0])} {quote(str(project.root))}"

    return WorkQueue(
        "What you have typed in Edit and not saved. d discards a draft.", "draft", sum(map(len, names.values())),
        (QueueColumn("record", is_name=True), QueueColumn("typed (UTC)", 16), QueueColumn("what", 14)),
        entries, detail, QueueAct("discard", discard, "What was typed there is gone then."), command=command,
    )  # fmt: skip


def _draft_entry(project: Project, store: str, name: str) -> QueueEntry | None:
    try:
        draft = Drafts(project.root, project.by, store).read(name)
    except CurateError:
        # What is wrong with it was put aside by reading it, and there is no draft any more.
        return None
    if draft is None:
        return None
    record, location = "", draft_location(name) if store else None
    opens: dict[str, Any] = {"draft": name}
    label, what = "a new record", "not saved yet"
    if location is not None:
        opens = {"file": location[0], "line": location[1]}
        label, what = f"{location[0]}:{location[1]}", "no record yet"
    elif project.catalog.find(name) is not None:
        record, opens, label = name, {"record": name}, name
        what = ", ".join(_changed_keys(draft)) or "text that is no JSON"
    return QueueEntry(name, record, opens, (label, draft.at[:16].replace("T", " "), what), store)


def _changed_keys(draft: Draft) -> list[str]:
    before, after = _members(draft.base), _members(draft.line)
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def _draft_passages(draft: Draft) -> Iterator[QueuePassage]:
    before, after = _members(draft.base), _members(draft.line)
    for key in _changed_keys(draft):
        old = "" if draft.is_new else text_of(before.get(key, ""))
        yield QueuePassage(key, text_of(after.get(key, "")), before=None if draft.is_new else old)
    for pointer, (text, message) in draft.typed.items():
        yield QueuePassage(pointer, text, message)
    if draft.text:
        yield QueuePassage("text that is no JSON yet", draft.text)


def _members(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


# Rows that imports have set aside.


@_queue("aside", "rows set aside by imports")
def _rows_aside(project: Project, _run: str) -> WorkQueue:
    rows = [row for row in _cached_rows(project.root, _stamps(project.root)) if not is_settled(project, row)]

    def entries() -> list[QueueEntry]:
        return [
            QueueEntry(
                f"{row.name}:{row.number}", "", {"file": row.name, "line": row.number},
                (f"{row.file}:{row.line}", row.code, row.reason), row,
            )
            for row in rows
        ]  # fmt: skip

    def detail(entry: QueueEntry) -> list[QueuePassage]:
        row: QuarantinedRow = entry.source
        cut = "  (only its start was retained)" if row.is_cut else ""
        # Bytes that are no UTF-8 are shown as such.
        text = row.raw.decode("utf-8", "backslashreplace")
        return [
            QueuePassage("what is wrong", row.reason, row.code),
            QueuePassage("row", text, f"{row.line:,} of {row.file}{cut}"),
        ]

    def drop(chosen: Sequence[QueueEntry]) -> str:
        return f"dropped {counted(settle(project.root, [entry.source for entry in chosen], by=project.by), 'row')}"

    def command(entry: QueueEntry | None) -> str:
        return f"curate edit {quote(entry.key)} {quote(str(project.root))}" if entry else ""

    warning = "They stay in the quarantine file, marked as dropped, and are not asked about again."
    return WorkQueue(
        "Rows that no record could be made of, with the reason. e repairs one and takes it in, d drops it.",
        "row", len(rows),
        (QueueColumn("row of", 24, is_name=True), QueueColumn("code", 5), QueueColumn("reason")),
        entries, detail, QueueAct("drop", drop, warning), command=command,
    )  # fmt: skip


def _stamps(root: Path) -> tuple[FileStamp, ...]:
    folder = inside(root, root / QUARANTINE_FOLDER)
    return tuple(stamp_of(path, path.name) for path in sorted(folder.glob("*.jsonl")))


@lru_cache(maxsize=4)
def _cached_rows(root: Path, _stamps: tuple[FileStamp, ...]) -> list[QuarantinedRow]:
    return list(quarantined_rows(root))


# Records that wait for an approval.


@_queue("approval", "waiting for your approval")
def _approvals(project: Project, _run: str) -> WorkQueue:
    catalog, rows = project.catalog, []
    if project.settings.review.approvals:
        waiting = queue_of(project, catalog, Wish(QUESTION), AnnotatorAssignment())
        rows = [int(row) for row in waiting.rows if waiting.is_open(int(row))]

    return WorkQueue(
        "Records that are not exported before somebody has approved them. a approves, d drops.", "record", len(rows),
        _RECORD_COLUMNS, lambda: list(map(_record_entry, catalog.rows(rows))), partial(_record_passages, project),
        _on_records(project, "drop", "dropped {}", lambda name: Drop(name, "not approved")),
        _on_records(project, "approve", "approved {}", Approve),
        command=lambda entry: f"curate approve {quote(entry.record)} {quote(str(project.root))}" if entry else "",
    )  # fmt: skip


_RECORD_COLUMNS = QueueColumn("id", 14, is_name=True), QueueColumn("category", 12), QueueColumn("prompt")


def _record_entry(record: Record | CatalogRow) -> QueueEntry:
    cells = record.id, record.category, record.prompt
    return QueueEntry(record.id, record.id, {"record": record.id}, cells)


def _record_passages(project: Project, entry: QueueEntry) -> list[QueuePassage]:
    record = project.state(entry.record).record
    return [QueuePassage(who, text) for who, text in spoken_turns(record)]


def _on_records(project: Project, word: str, result: str, decision: Callable[[str], Decision]) -> QueueAct:
    """Return the act that makes a ``decision`` on each record; ``result`` has {} where their number stands."""

    def act(chosen: Sequence[QueueEntry]) -> str:
        project.apply([decision(entry.record) for entry in chosen])
        return result.format(counted(len(chosen), "record"))

    return QueueAct(word, act)


# Validation records that a run still gets wrong.


@_queue("wrong", "still wrong in the newest run")
def _still_wrong(project: Project, run: str) -> WorkQueue:
    runs = inside(project.root, project.root / RUNS)
    folder = runs / run if run else latest_run(runs)
    outcomes = _standing_outcomes(project, folder) if folder else []
    pins = cache(project.data.pins)
    nearest = cache(partial(Nearest, project))
    base_answers = cache(lambda: read_base_answers(folder, {item.id for item in outcomes}) if folder else {})

    def entries() -> list[QueueEntry]:
        return [
            QueueEntry(item.id, item.id, {"record": item.id}, _outcome_cells(project, item), item) for item in outcomes
        ]

    def detail(entry: QueueEntry) -> list[QueuePassage]:
        item: Outcomes = entry.source
        record = project.state(entry.record).record
        answer = "not reported" if item.completion is None else item.completion
        now = "" if is_as_told(record, item.digest) else STANDINGS["changed"]
        passages = [
            *(QueuePassage(who, text, now) for who, text in spoken_turns(record) if text != record.completion),
            QueuePassage("expected", record.completion, now),
            QueuePassage("got", answer, f"score {_score(item.score_tuned)}"),
            QueuePassage("the base", base_answers().get(item.id, "not reported"), f"score {_score(item.score_base)}"),
        ]
        return [*passages, *_nearest_passages(project, record, nearest(), pins())]

    name = folder.name if folder else ""
    report = f"curate report {quote(str(folder))} --workspace {quote(str(project.root))}" if folder else ""
    return WorkQueue(
        "Validation records that the tuned model gets wrong. Fix them, or write more training records like them."
        if name else "No run has a report yet.", "record",
        len(outcomes),
        (
            QueueColumn("id", 14, is_name=True), QueueColumn("category", 10), QueueColumn("score", 5, is_number=True),
            QueueColumn("base", 5, is_number=True), QueueColumn("since", 7), QueueColumn("got"),
        ),
        entries, detail,
        _on_records(project, "drop", "dropped {}", lambda record: Drop(record, f"wrong in run {name}")),
        command=lambda _: report,
        title=f"still wrong in run {name}" if name else "",
    )  # fmt: skip


def _standing_outcomes(project: Project, folder: Path) -> list[Outcomes]:
    """Return what the run in ``folder`` got wrong, the worst first, of records that are in and no test records now."""
    pins = project.data.pins()
    stamps = tuple(stamp_of(path, path.name) for path in (folder / "report.json", folder / FEEDBACK_FILE))
    return [
        outcome
        for outcome in _cached_outcomes(folder, stamps)
        if project.catalog.find(outcome.id) is not None
        and standing_of(project.state(outcome.id), outcome.digest, pins) in ("same", "changed")
    ]


@lru_cache(maxsize=8)
def _cached_outcomes(folder: Path, _stamps: tuple[FileStamp, ...]) -> list[Outcomes]:
    # Test records never come back, and training records are no exam.
    outcomes = read_results(folder).outcomes
    wrong = [item for item in outcomes if item.split == "validation" and item.verdict in _WRONG]
    return sorted(wrong, key=lambda item: (item.score_tuned or 0.0, -item.nll_tuned))


def _outcome_cells(project: Project, outcome: Outcomes) -> tuple[str, ...]:
    answer = "not reported" if outcome.completion is None else outcome.completion
    scores = _score(outcome.score_tuned), _score(outcome.score_base)
    # Somebody has done something about it, and the next run will tell.
    since = "" if is_as_told(project.state(outcome.id).record, outcome.digest) else "changed"
    return outcome.id, outcome.category, *scores, since, answer


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def _nearest_passages(
    project: Project, record: Record, nearest: Nearest, pins: Mapping[str, str]
) -> Iterator[QueuePassage]:
    neighbours = nearest.find(record.data, _NUM_CANDIDATES, without=record.id)
    states = [(near.score, project.state(near.id).record) for near in neighbours]
    trained = [pair for pair in states if (pins.get(pair[1].id) or pair[1].split) == "train"][:_NUM_NEAREST]
    if not trained:
        yield QueuePassage("nearest in training", "no training record shares its words")
    for score, other in trained:
        prompt, answer = (text[:_MOST_TEXT] for text in (other.prompt or other.text, other.completion))
        yield QueuePassage("nearest in training", f"{prompt}\n-> {answer}", f"{score:.2f} {other.id}")


# Records that somebody wants to look at again.


@_queue("flagged", "marked for a second look")
def _flagged(project: Project, _run: str) -> WorkQueue:
    states = [state for state in project.decided() if state.answers.get(FLAG, {}).get(project.by)]
    records = [state.record for state in states if state.dropped is None]

    return WorkQueue(
        "Records that you marked by f in Label, or by d in Ask where a model answers wrong. d takes the mark away.",
        "record", len(records),
        _RECORD_COLUMNS, lambda: list(map(_record_entry, records)), partial(_record_passages, project),
        _on_records(project, "unmark", "took the mark of {} away", lambda name: Label(name, FLAG, None)),
    )  # fmt: skip


# What is to be written after a run.


@_queue("worklist", "what to write after the newest run")
def _worklist(project: Project, run: str) -> WorkQueue:
    runs = inside(project.root, project.root / RUNS)
    folder = runs / run if run else latest_run(runs)
    worklist = read_worklist(folder) if folder else None
    items = worklist.items if worklist else []
    written = num_written(project, worklist) if worklist else Counter[str]()

    def entries() -> list[QueueEntry]:
        return [
            QueueEntry(
                item.category, "", {"new": True, "category": "" if item.category == UNCATEGORISED else item.category},
                (item.category, f"{written.get(item.category, 'gone:')} of {item.number}", item.task), item,
            )
            for item in items
        ]  # fmt: skip

    def detail(entry: QueueEntry) -> list[QueuePassage]:
        near = [record for name in entry.source.nearest if (record := present(project, name)) is not None]
        return [
            QueuePassage("likely cause", "\n".join(entry.source.causes)),
            *(
                QueuePassage("like", f"{one.prompt[:_MOST_TEXT]}\n-> {one.completion[:_MOST_TEXT]}", one.id)
                for one in near
            ),
        ]

    about = "Categories that the run gets wrong. e begins a new record, ctrl+n saves it and begins the next."
    return WorkQueue(
        about if worklist else "No worklist yet: `curate worklist` makes one.", "task",
        sum(written[item.category] < item.number for item in items),
        (QueueColumn("category", 14, is_name=True), QueueColumn("written", 8, is_number=True), QueueColumn("task")),
        entries, detail, command=lambda _: f"curate worklist --workspace {quote(str(project.root))}",
    )  # fmt: skip


# What models propose.


@_queue("proposals", "proposals of models")
def _proposals(project: Project, _run: str) -> WorkQueue:
    proposals = open_proposals(project)
    counts = Counter(proposal.record for proposal in proposals)
    tables = cache(lambda: counts_of(project))

    def entries() -> list[QueueEntry]:
        return [
            QueueEntry(
                one.event, "" if one.line is not None else one.record, {"record": one.record, "proposal": one.event},
                proposal_cells(project, one, counts[one.record]), one,
            )
            for one in proposals
        ]  # fmt: skip

    def detail(entry: QueueEntry) -> list[QueuePassage]:
        # Two for one record stand beside one another, each against what the record says.
        alike = sorted((one for one in proposals if one.record == entry.source.record), key=entry.source.__ne__)
        table = tables()[counts_key(project, entry.source)]
        passages = [QueuePassage(*passage) for passage in proposal_texts(project, alike)]
        return [*passages, QueuePassage("what became of others", table.sentence(), table.name)]

    def on_proposals(act: Callable[[Project, Sequence[Proposal]], str]) -> Callable[[Sequence[QueueEntry]], str]:
        return lambda chosen: act(project, [entry.source for entry in chosen])

    return WorkQueue(
        "What models wrote for records. Nothing of it is in a record before you take it: a takes, e edits first, "
        "d rejects.", "proposal", len(proposals),
        (
            QueueColumn("record", 14, is_name=True), QueueColumn("category", 10), QueueColumn("model", 14),
            QueueColumn("proposed"),
        ),
        entries, detail, QueueAct("reject", on_proposals(reject)), QueueAct("take", on_proposals(take)),
        lambda _: f"curate propose {quote(str(project.root))} --report",
    )  # fmt: skip
