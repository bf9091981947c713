"""Queues: lists of what is left to do, each entry of which is looked at, edited, and dropped with the same keys.

A queue is made by one function below that is decorated with its name and title. It says how many entries there are,
which has to be cheap, and how they, and all that is known of one, are read when somebody looks; nothing else knows
which queues there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from shlex import quote
from typing import Any

from curate.base.events import Approve, Drop, Label
from curate.base.file_guard import FileStamp, inside, stamp_of
from curate.base.record import CurateError, Json, Record
from curate.base.tables import counted
from curate.formats.quarantine import QUARANTINE_FOLDER, QuarantinedRow, quarantined_rows, settle
from curate.project.approval import QUESTION
from curate.project.data import RUNS
from curate.project.diff.words import text_of
from curate.project.drafts import Draft, Drafts
from curate.project.feedback import FEEDBACK_FILE, Outcomes, latest_run, read_base_answers, read_results
from curate.project.labels import AnnotatorAssignment
from curate.project.project import Project
from curate.schema.view import spoken_turns
from curate.sessions.labelling.done import FLAG
from curate.sessions.labelling.queue import Wish, queue_of
from curate.sessions.lines import draft_location, is_settled
from curate.sessions.model_queues import PROPOSALS_TITLE, WORKLIST_TITLE, proposals_queue, worklist_queue
from curate.sessions.nearest import Nearest
from curate.sessions.work_queue import QueueAct, QueueColumn, QueueEntry, QueuePassage, WorkQueue

_WRONG = ("broken", "still-wrong")
_NUM_NEAREST, _NUM_CANDIDATES = 5, 24
_MOST_TEXT = 200  # Characters of a nearest record that are shown.


# Makes a queue of a project; of several alike, such as those of runs, the one that is named, else the newest.
MakeQueue = Callable[[Project, str], WorkQueue]
_MAKERS: dict[str, MakeQueue] = {}
_TITLES: dict[str, str] = {}


def _queue(name: str, title: str) -> Callable[[MakeQueue], MakeQueue]:
    def register(make: MakeQueue) -> MakeQueue:
        _MAKERS[name], _TITLES[name] = make, title
        return make

    return register


def queues(project: Project) -> list[WorkQueue]:
    """Return the queues of ``project`` with their counts, also those that are empty. Call it in a thread."""
    return [queue_named(project, name) for name in _MAKERS]


def queue_named(project: Project, name: str, run: str = "") -> WorkQueue:
    """Return the queue called ``name``, such as "drafts" or "wrong", of ``run`` where that is one.

    Where it cannot be counted it has a ``fault``, which its entries raise.
    """
    try:
        return _MAKERS[name](project, run)
    except CurateError as error:
        fault = error

    def refuse(*_: object) -> Any:
        raise fault

    return WorkQueue(name, _TITLES[name], "", "entry", 0, (), refuse, refuse, fault=fault)


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
    return WorkQueue("", "what is left to do", "", "queue", len(_MAKERS), columns, entries, detail)


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
        "drafts", _TITLES["drafts"],
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
        "aside", _TITLES["aside"],
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

    def entries() -> list[QueueEntry]:
        return [
            QueueEntry(row.id, row.id, {"record": row.id}, (row.id, row.category, row.prompt))
            for row in catalog.rows(rows)
        ]

    def approve(chosen: Sequence[QueueEntry]) -> str:
        project.apply([Approve(entry.record) for entry in chosen])
        return f"approved {counted(len(chosen), 'record')}"

    return WorkQueue(
        "approval", _TITLES["approval"],
        "Records that are not exported before somebody has approved them. a approves, d drops.", "record", len(rows),
        (QueueColumn("id", 14, is_name=True), QueueColumn("category", 12), QueueColumn("prompt")),
        entries, partial(_record_passages, project), _record_drop(project, "not approved"),
        accept=QueueAct("approve", approve),
        command=lambda entry: f"curate approve {quote(entry.record)} {quote(str(project.root))}" if entry else "",
    )  # fmt: skip


def _record_passages(project: Project, entry: QueueEntry) -> list[QueuePassage]:
    record = project.state(entry.record).record
    return [QueuePassage(who, said) for who, said in spoken_turns(record)]


def _record_drop(project: Project, reason: str) -> QueueAct:
    def drop(chosen: Sequence[QueueEntry]) -> str:
        project.apply([Drop(entry.record, reason) for entry in chosen])
        return f"dropped {counted(len(chosen), 'record')}"

    return QueueAct("drop", drop)


# Validation records that a run still gets wrong.


@_queue("wrong", "still wrong in the newest run")
def _still_wrong(project: Project, run: str) -> WorkQueue:
    runs = inside(project.root, project.root / RUNS)
    folder = runs / run if run else latest_run(runs)
    outcomes = _standing_outcomes(project, folder) if folder else []
    pins = cache(project.data.pins)
    nearest = cache(partial(Nearest, project))
    ended = _ended(folder) if folder else ""
    base_answers = cache(lambda: read_base_answers(folder, {item.id for item in outcomes}) if folder else {})

    def entries() -> list[QueueEntry]:
        return [
            QueueEntry(item.id, item.id, {"record": item.id}, _outcome_cells(project, item, ended), item)
            for item in outcomes
        ]

    def detail(entry: QueueEntry) -> list[QueuePassage]:
        item: Outcomes = entry.source
        record = project.state(entry.record).record
        answer = "not reported" if item.completion is None else item.completion
        passages = [
            *(QueuePassage(who, said) for who, said in spoken_turns(record) if said != record.completion),
            QueuePassage("expected", record.completion),
            QueuePassage("got", answer, f"score {_score(item.score_tuned)}"),
            QueuePassage("the base", base_answers().get(item.id, "not reported"), f"score {_score(item.score_base)}"),
        ]
        return [*passages, *_nearest_passages(project, record, nearest(), pins())]

    name = folder.name if folder else ""
    report = f"curate report {quote(str(folder))} --workspace {quote(str(project.root))}" if folder else ""
    return WorkQueue(
        "wrong", f"still wrong in run {name}" if name else _TITLES["wrong"],
        "Validation records that the tuned model gets wrong. Fix them, or write more training records like them."
        if name else "No run has a report yet.", "record",
        len(outcomes),
        (
            QueueColumn("id", 14, is_name=True), QueueColumn("category", 10), QueueColumn("score", 5, is_number=True),
            QueueColumn("base", 5, is_number=True), QueueColumn("since", 7), QueueColumn("got"),
        ),
        entries, detail, _record_drop(project, f"wrong in run {name}"), command=lambda _: report,
    )  # fmt: skip


def _standing_outcomes(project: Project, folder: Path) -> list[Outcomes]:
    """Return what the run in ``folder`` got wrong, the worst first, of records that are in and no test records now."""
    tests = {name for name, split in project.data.pins().items() if split == "test"}
    stamps = tuple(stamp_of(path, path.name) for path in (folder / "report.json", folder / FEEDBACK_FILE))
    return [
        outcome
        for outcome in _cached_outcomes(folder, stamps)
        if outcome.id not in tests
        and project.catalog.find(outcome.id) is not None
        and project.state(outcome.id).dropped is None
    ]


@lru_cache(maxsize=8)
def _cached_outcomes(folder: Path, _stamps: tuple[FileStamp, ...]) -> list[Outcomes]:
    # Test records never come back, and training records are no exam.
    outcomes = read_results(folder).outcomes
    wrong = [item for item in outcomes if item.split == "validation" and item.verdict in _WRONG]
    return sorted(wrong, key=lambda item: (item.score_tuned or 0.0, -item.nll_tuned))


def _outcome_cells(project: Project, outcome: Outcomes, ended: str) -> tuple[str, ...]:
    state = project.state(outcome.id)
    answer = "not reported" if outcome.completion is None else outcome.completion
    scores = _score(outcome.score_tuned), _score(outcome.score_base)
    # Somebody has done something about it, and the next run will tell.
    edits = [event.at for event in project.history(outcome.id) if event.op == "edit"] if state.heads else []
    since = "edited" if max(edits, default="") > ended else ""
    return outcome.id, outcome.category, *scores, since, answer


def _ended(folder: Path) -> str:
    """Return when the run in ``folder`` was measured, as the journal writes times."""
    seconds = (folder / FEEDBACK_FILE).stat().st_mtime
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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

    def unmark(chosen: Sequence[QueueEntry]) -> str:
        project.apply([Label(entry.record, FLAG, None) for entry in chosen])
        return f"took the mark of {counted(len(chosen), 'record')} away"

    return WorkQueue(
        "flagged", _TITLES["flagged"],
        "Records that you marked by f in Label, or by d in Ask where a model answers wrong. d takes the mark away.",
        "record", len(records),
        (QueueColumn("id", 14, is_name=True), QueueColumn("category", 12), QueueColumn("prompt")),
        lambda: [
            QueueEntry(record.id, record.id, {"record": record.id}, (record.id, record.category, record.prompt))
            for record in records
        ],
        partial(_record_passages, project), QueueAct("unmark", unmark),
    )  # fmt: skip


_queue("worklist", WORKLIST_TITLE)(worklist_queue)
_queue("proposals", PROPOSALS_TITLE)(proposals_queue)
