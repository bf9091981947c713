"""The records that one annotator is asked one question about, in their order, and what a model proposes for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.base.record import Json, canonical, normalised
from curate.project.approval import APPROVAL, APPROVE, DROP, may_approve, needs_approval
from curate.project.catalog import Catalog
from curate.project.catalog.columns import labelled
from curate.project.fold import RecordState
from curate.project.journal import CATEGORY
from curate.project.labels import (
    AnnotatorAssignment,
    Calibration,
    Facts,
    Order,
    Suggestion,
    Suggestions,
    Trainer,
    calibration_of,
    ordered,
)
from curate.project.project import Project
from curate.schema.settings import Question
from curate.sessions.agreement import LiveAgreement
from curate.sessions.labelling.likelihoods import LikelihoodJudge

_STEP = 512
_NEVER = float("-inf")


@dataclass(frozen=True)
class Wish:
    """What is asked, and of which records: those whose line does not say it already, or ``is_all``; in which order."""

    question: Question
    order: Order = "file"
    is_all: bool = False


class Queue:
    """Rows of the catalogue in the order in which they are asked about, and which of them are still open."""

    def __init__(
        self, wish: Wish, rows: NDArray[np.uint32], num_rows: int, num_with_value: int, decided: dict[str, int]
    ) -> None:
        """Ask about ``rows`` of ``num_rows``; ``decided`` has the row of each record that somebody has decided on."""
        self.wish = wish
        self.rows = rows
        self.num_with_value = num_with_value  # Records that are not asked about because their line says it.
        self.num_left = len(rows)
        self.skipped: set[int] = set()  # Open rows that were passed over; they come again when no others are left.
        self._is_open = np.zeros(num_rows, dtype=bool)
        self._is_open[rows] = True
        self._is_member = self._is_open.copy()
        self._decided = decided

    def is_open(self, row: int) -> bool:
        """Whether a row still asks."""
        return row < len(self._is_open) and bool(self._is_open[row])

    def has(self, row: int) -> bool:
        """Whether a row asks, or has asked."""
        return row < len(self._is_member) and bool(self._is_member[row])

    def index_of(self, row: int) -> int:
        """Return the index of a row in the order, -1 where it has none."""
        indices = np.flatnonzero(self.rows == row)
        return int(indices[0]) if len(indices) else -1

    def close(self, row: int) -> None:
        """Ask about a row no more."""
        if self.is_open(row):
            self._is_open[row] = False
            self.num_left -= 1
            self.skipped.discard(row)

    def reopen(self, row: int) -> None:
        """Ask about a row again; one that did not ask when the queue was made comes at its end."""
        if row < len(self._is_open) and not self._is_open[row]:
            self._is_open[row] = True
            self.num_left += 1
            if not self._is_member[row]:
                self._is_member[row] = True
                self.rows = np.append(self.rows, np.uint32(row))

    def remember(self, name: str, row: int) -> None:
        """Remember the row of a record that somebody has decided on: no other can vanish."""
        self._decided[name] = row

    def forget(self, name: str) -> int:
        """Leave out a record that is gone; return the index that its row had in the order, -1 for none."""
        row = self._decided.pop(name, None)
        index = -1 if row is None else self.index_of(row)
        if row is not None and index >= 0:
            self.close(row)
            self._is_member[row] = False
            self.rows = np.delete(self.rows, index)
        return index

    def skip(self, row: int) -> None:
        """Pass a row over until no others are left."""
        if self.is_open(row):
            self.skipped.add(row)

    def next(self, index: int) -> int | None:
        """Return the index of the next open row after ``index``, from the beginning again after the end.

        Rows that were skipped come when there are no others: then all of them do again. None where nothing is open.
        """
        for _ in range(2):
            for start, stop in ((index + 1, len(self.rows)), (0, min(index + 1, len(self.rows)))):
                following = self._first(start, stop)
                if following is not None:
                    return following
            if not self.skipped:
                return None
            self.skipped.clear()
        return None

    def upcoming(self, index: int, count: int) -> NDArray[np.uint32]:
        """Return the next open rows from ``index`` on, at most ``count``."""
        blocks: list[NDArray[np.uint32]] = []
        for low in range(max(0, index), len(self.rows), _STEP):
            part = self.rows[low : low + _STEP]
            blocks.append(part[self._is_open[part]])
            if sum(map(len, blocks)) >= count:
                break
        return np.concatenate([np.zeros(0, np.uint32), *blocks])[:count]

    def _first(self, start: int, stop: int) -> int | None:
        for low in range(max(0, start), stop, _STEP):
            part = self.rows[low : min(low + _STEP, stop)]
            for index in np.flatnonzero(self._is_open[part]).tolist():
                if int(part[index]) not in self.skipped:
                    return int(low + index)
        return None


def is_open(project: Project, state: RecordState, wish: Wish, assignment: AnnotatorAssignment, by: str) -> bool:
    """Whether a record of ``project`` that somebody has decided on asks ``by``."""
    name, question = state.record.id, wish.question.name
    if wish.question.kind == "pair" and len(state.record.answers) < 2:
        return False
    if question == APPROVAL:
        # What a category asks for must not tell a category that is hidden.
        return may_approve(project.blind.redacted(state, project.shape), project.settings.review, by)
    answers = state.answers.get(question, {})
    if state.dropped is not None or by in answers or state.resolved.get(question) is not None:
        return False
    if name in assignment.gold:
        return assignment.is_assigned(name, by, answers)
    if wish.order == "disagreement" and len(_opinions(state, question)) > 1:
        return assignment.has_part(by)
    if not answers and not wish.is_all and _has_value(state, question):
        return False
    return assignment.is_assigned(name, by, answers)


def queue_of(
    project: Project,
    catalog: Catalog,
    wish: Wish,
    assignment: AnnotatorAssignment,
    certainty: dict[int, float] | None = None,
    by: str = "",
) -> Queue:
    """Return the queue of ``by``, or else of the project's annotator, over the rows of ``catalog``."""
    question, by = wish.question.name, by or project.by
    # Before the rows: a record that is decided on meanwhile is followed later.
    states = project.decided()
    frame = catalog.frame(["id", "status", "category", "labels"])
    is_approval, categories = question == APPROVAL, frame["category"]
    has_value = (
        ~needs_approval(categories, project.settings.review).to_numpy() if is_approval else _with_value(frame, question)
    )
    is_all = wish.is_all and not is_approval
    rows, ids = frame["row"].to_numpy(), frame["id"].to_list()
    hashes = assignment.hashes(ids)
    is_included = (frame["status"] != "dropped").to_numpy()
    is_wanted = _is_assigned(assignment, hashes, by) & (is_all | ~has_value)
    if assignment.gold and assignment.has_part(by):
        is_wanted |= np.fromiter((name in assignment.gold for name in ids), bool, len(ids))
    if wish.question.kind == "pair":
        pairs = {record.id for record in project.records() if len(record.answers) > 1}
        is_wanted &= np.fromiter((name in pairs for name in ids), bool, len(ids))
    is_wanted &= is_included
    opinions, last_decided = np.zeros(len(ids), np.int64), np.full(len(ids), _NEVER)
    decided: dict[str, int] = {}
    for state in states:
        index = _index_of(rows, catalog.find(state.record.id))
        if index is None:
            continue
        decided[state.record.id] = int(rows[index])
        is_wanted[index] = is_open(project, state, wish, assignment, by)
        opinions[index] = len(_opinions(state, question))
        if wish.order == "oldest":
            last_decided[index] = _last_decided(project, state.record.id)
    known = np.full(len(ids), np.nan)
    for row, value in (certainty or {}).items():
        index = _index_of(rows, row)
        if index is not None:
            known[index] = value
    chosen = np.flatnonzero(is_wanted)
    facts = Facts(hashes[chosen], known[chosen], opinions[chosen], last_decided[chosen])
    ordered_rows = rows[chosen][ordered(wish.order, facts, by)]
    num_with_value = 0 if is_all or is_approval else int((has_value & is_included & ~is_wanted).sum())
    return Queue(wish, ordered_rows, catalog.num_rows, num_with_value, decided)


def answer_of(state: RecordState, question: str, by: str) -> Json:
    """Return what ``by`` has answered to a question about a record; None where they have not."""
    if question != APPROVAL:
        return state.answers.get(question, {}).get(by)
    return DROP if state.dropped is not None else APPROVE if by in state.approvals else None


def has_answers(state: RecordState, question: str) -> bool:
    """Whether anybody has answered a question about a record that is in."""
    given = state.approvals if question == APPROVAL else state.answers.get(question, {})
    return bool(given) and state.dropped is None


def _is_assigned(assignment: AnnotatorAssignment, hashes: NDArray[np.uint64], by: str) -> NDArray[np.bool_]:
    # Of records without an answer; gold asks everybody and is looked at apart.
    if not assignment.annotators:
        return np.ones(len(hashes), dtype=bool)
    if not assignment.has_part(by):
        return np.zeros(len(hashes), dtype=bool)
    return assignment.rank(hashes, by) < assignment.num_wanted(hashes)


def _with_value(frame: pl.DataFrame, question: str) -> NDArray[np.bool_]:
    field = pl.element().struct.field
    own = pl.col("labels").list.eval((field("question") == question) & (field("who") == "")).list.any()
    if question == CATEGORY:
        own |= pl.col("category") != ""
    return frame.select(own.alias("value"))["value"].to_numpy()


def _has_value(state: RecordState, question: str) -> bool:
    return (question == CATEGORY and bool(state.record.category)) or state.record.labels.get(question) is not None


def _index_of(rows: NDArray[np.uint32], row: int | None) -> int | None:
    # The rows are in order.
    if row is None:
        return None
    index = int(np.searchsorted(rows, row))
    return index if index < len(rows) and rows[index] == row else None


def _opinions(state: RecordState, question: str) -> set[bytes]:
    return {canonical(value) for value in state.answers.get(question, {}).values()}


def _last_decided(project: Project, name: str) -> float:
    times = [datetime.fromisoformat(event.at).timestamp() for event in project.history(name) if event.by == project.by]
    return max(times, default=_NEVER)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a session needs before it asks: a queue, and what was answered of it."""

    queue: Queue
    agreement: LiveAgreement
    answered: set[str]  # The records that the annotator had answered.
    answered_before: set[str]  # Those of them that are not in the queue.
    answered_by_all: set[str]  # The records that anybody had answered.
    num_decisions: int  # Decisions that were made before it was begun; what came after them may be in it or not.


def prepared_for(
    project: Project, catalog: Catalog, wish: Wish, assignment: AnnotatorAssignment, certainty: dict[int, float] | None
) -> Prepared:
    """Return what is needed to ask what ``wish`` says; a second or so for a million records, so call it in a thread.

    ``certainty`` is the probability of what is suggested, by row of ``catalog``.
    """
    num_decisions, question = project.num_decisions, wish.question.name
    queue = queue_of(project, catalog, wish, assignment, certainty)
    scale = wish.question.values if wish.question.kind == "rating" else ()
    agreement, answered, by_all = LiveAgreement(scale=scale), set(), set()
    for state in project.decided():
        if state.dropped is None:
            agreement.put(state.record.id, state.answers.get(question, {}))
        if answer_of(state, question, project.by) is not None:
            answered.add(state.record.id)
        if has_answers(state, question):
            by_all.add(state.record.id)
    # An answer may have come after the queue was made. Who drops a record, for whatever reason, has not approved it.
    counted = () if question == APPROVAL else answered
    before = {name for name in counted if (row := catalog.find(name)) is None or not queue.has(row)}
    return Prepared(queue, agreement, answered, before, by_all, num_decisions)


@dataclass(frozen=True, slots=True)
class AnnotatorShare:
    """What one annotator has answered of a question, and how many records ask them still."""

    name: str
    num_done: int
    num_left: int

    @property
    def rate(self) -> float:
        """The part that is done, from 0 to 1."""
        return self.num_done / (self.num_done + self.num_left) if self.num_done else float(not self.num_left)


def shares_of(project: Project, catalog: Catalog, wish: Wish, assignment: AnnotatorAssignment) -> list[AnnotatorShare]:
    """Return the share of each annotator whom the settings name, the least done first; `prepared_for` for each."""
    num_done = Counter(
        by for state in project.decided() for by in state.answers.get(wish.question.name, {}) if state.dropped is None
    )
    names = dict.fromkeys(project.settings.label.annotators)
    shares = [
        AnnotatorShare(name, num_done[name], queue_of(project, catalog, wish, assignment, by=name).num_left)
        for name in names
    ]
    return sorted(shares, key=lambda share: share.rate)


def values_known(project: Project) -> Sequence[str]:
    """Return the categories that the records have."""
    categories = project.catalog.frame(["category"])["category"].unique().to_list()
    return sorted(name for name in categories if name)


AGAIN_AFTER = 10  # New answers after which it is worth learning again.
# Labelled records that are learned from, and open ones that are judged: with both at their most, learning again takes
# half a second of CPU time.
_MOST_LEARNED, _MOST_AHEAD = 10_000, 5_000
# Where a model is asked for likelihoods: answered records that it is measured on, and open ones that it is asked ahead.
_MOST_MEASURED, _MOST_SCORED = 200, 64
_SEED = 3


class Suggester:
    """What is proposed for the records of one question. `learn` waits for a model: call it in a thread."""

    def __init__(self, project: Project, question: str, judge: LikelihoodJudge | None = None) -> None:
        """Propose answers to ``question`` by ``judge``, or else by a model of words that learns from the answers."""
        self._project = project
        self._judge = judge
        self._most_learned, self._most_ahead = (_MOST_MEASURED, _MOST_SCORED) if judge else (_MOST_LEARNED, _MOST_AHEAD)
        self._catalog = project.catalog
        self._question = question
        self._trainer: Trainer | LikelihoodJudge | None = None
        self._indices: dict[int, int] = {}
        self._names: dict[str, int] = {}
        self._labels: list[str] = []
        self._num_decisions = 0
        # What was found and where it stands belong together, also for another thread that asks meanwhile.
        self._learned: tuple[dict[int, int], Suggestions] | None = None
        self._lock = Lock()
        self._is_closed = False
        self.num_waiting = 0  # Answers that came after those that were learned last.

    @property
    def suggestions(self) -> Suggestions | None:
        """What the model has learned last; None before it has."""
        return self._learned[1] if self._learned else None

    @property
    def is_due(self) -> bool:
        """Whether enough has been answered since to learn again."""
        return self.suggestions is None or self.num_waiting >= AGAIN_AFTER

    def of(self, row: int) -> Suggestion | None:
        """Return what is proposed for the record in a row; None where nothing is, yet or at all."""
        indices, suggestions = self._learned or ({}, None)
        index = indices.get(row)
        return None if index is None or suggestions is None else suggestions.of(index)

    def certainty(self) -> dict[int, float]:
        """Return the probability of what is proposed, by row."""
        indices, suggestions = self._learned or ({}, None)
        if suggestions is None or not suggestions.values:
            return {}
        return {row: float(suggestions.scores[index]) for row, index in indices.items() if suggestions.scores[index]}

    def is_beyond(self, queue: Queue, index: int) -> bool:
        """Whether records come soon that no model has judged, because there were more than it takes at a time."""
        return any(int(row) not in self._indices for row in queue.upcoming(index, AGAIN_AFTER))

    def learn(self, queue: Queue, index: int) -> None:
        """Learn from what is answered by now, and judge the records that are open from ``index`` of ``queue`` on.

        Raises:
            CurateError: E940 without the extra [quality]; E970 when the process ends before, also by `close`.
        """
        with self._lock:
            waiting = self.num_waiting
            if self._trainer is None or self.is_beyond(queue, index):
                self._gather(queue, index)
            assert self._trainer is not None
            # `close` may have come before there was a process that it could end.
            if self._is_closed:
                self._trainer.close()
            self._catch_up()
            self._learned = self._indices, self._trainer.learn(self._labels)
            self.num_waiting -= waiting

    def calibration(self) -> Calibration | None:
        """Return how far what is proposed may be believed, by answers that the annotator may see; None without any."""
        _, suggestions = self._learned or ({}, None)
        if suggestions is None:
            return None
        scores, is_right = [], []
        for name, index in self._names.items():
            label, proposal = self._labels[index], suggestions.of(index)
            if not label or proposal is None or label not in suggestions.values:
                continue
            # Of an answer that is hidden a table with few records in it would tell.
            if not self._project.blind.hides(self._project.state(name), self._question):
                scores.append(proposal.score)
                is_right.append(proposal.value == label)
        return calibration_of(scores, is_right)

    def close(self) -> None:
        """End the process that learns, for good."""
        self._is_closed = True
        if self._trainer is not None:
            self._trainer.close()

    def _gather(self, queue: Queue, index: int) -> None:
        # A model that is asked stays warm.
        if self._trainer is not None and self._judge is None:
            self._trainer.close()
        self._num_decisions = self._project.num_decisions
        # Also what others answered and nobody may see: what is proposed for a text is never learned from its answer.
        frame = self._catalog.frame(["id", "status", "category", "labels"], is_whole=True)
        labels = frame.select("row", "id", "status", label=_agreed(self._question))
        chosen = labels.filter(pl.col("row").is_in(pl.Series(self._rows(labels, queue, index)).implode()))
        self._names = {name: number for number, name in enumerate(chosen["id"].to_list())}
        self._labels = chosen["label"].to_list()
        texts = self._catalog.frame(["prompt", "completion"], chosen["row"]).select("prompt", "completion")
        pairs = [f"{prompt}\n{completion}" for prompt, completion in texts.iter_rows()]
        if self._judge is not None:
            self._judge.take(pairs)
        self._trainer = self._judge or Trainer(pairs, [normalised(pair) for pair in pairs])
        self._indices = {row: number for number, row in enumerate(chosen["row"].to_list())}
        self._learned = None

    def _rows(self, labels: pl.DataFrame, queue: Queue, index: int) -> NDArray[np.uint32]:
        # Where there are too many they are drawn by the order of hashes, the same ones each time.
        known = labels.filter((pl.col("status") != "dropped") & (pl.col("label") != ""))
        drawn = known.with_columns(draw=pl.col("id").hash(_SEED)).sort("draw", "row")[: self._most_learned]
        most = self._most_ahead
        ahead = np.concatenate([queue.upcoming(index, most), queue.upcoming(0, most)])[:most]
        return np.union1d(drawn["row"].to_numpy(), ahead).astype(np.uint32)

    def _catch_up(self) -> None:
        # Only what was decided since: that costs the same however many records there are.
        events = self._project.since(self._num_decisions)
        self._num_decisions += len(events)
        for name in {event.id for event in events} & self._names.keys():
            is_there = self._catalog.find(name) is not None
            self._labels[self._names[name]] = _agreed_on(self._project.state(name), self._question) if is_there else ""


def _agreed_on(state: RecordState, question: str) -> str:
    """Return what `_agreed` does, of a record as it is; "" for one that is dropped."""
    if state.dropped is not None:
        return ""
    if question == CATEGORY:
        return state.record.category
    answers = [answer for _, name, answer in labelled(state.record.labels, {}) if name == question]
    return answers[0] if len(answers) == 1 else ""


def _agreed(question: str) -> pl.Expr:
    """Return the one answer that is agreed on, or that the line itself has; "" where there is none, or several."""
    if question == CATEGORY:
        return pl.col("category")
    field = pl.element().struct.field
    own = pl.col("labels").list.eval(field("answer").filter((field("question") == question) & (field("who") == "")))
    return pl.when(own.list.len() == 1).then(own.list.first()).otherwise(pl.lit(""))
