"""Suggestions for a queue: which records are learned from, when to learn again, and what is proposed for each."""

from __future__ import annotations

from collections import Counter
from threading import Lock

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.base.record import normalised
from curate.checks.quality.suspects import FEWEST
from curate.project.catalog.columns import labelled
from curate.project.fold import RecordState
from curate.project.journal import CATEGORY
from curate.project.labels import Suggestion, Suggestions, Trainer
from curate.project.project import Project
from curate.sessions.labelling.queue import Queue

AGAIN_AFTER = 10  # New answers after which it is worth learning again.
# Labelled records that are learned from, and open ones that are judged: with both at their most, learning again takes
# half a second of CPU time.
_MOST_LEARNED, _MOST_AHEAD = 10_000, 5_000
_SEED = 3


class Suggester:
    """What is proposed for the records of one question. `learn` waits for a model: call it in a thread."""

    def __init__(self, project: Project, question: str) -> None:
        self._project = project
        self._catalog = project.catalog
        self._question = question
        self._trainer: Trainer | None = None
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
    def lacks(self) -> str:
        """Why nothing is proposed, in words; empty where something is."""
        if self.suggestions is None:
            return "being learned from the answers so far"
        if self.suggestions.values:
            return ""
        counts = Counter(label for label in self._labels if label).most_common(3)
        so_far = ", ".join(f"{label} {number}" for label, number in counts)
        message = f"suggestions start after {FEWEST} agreed answers for two labels"
        return f"{message} ({so_far})" if so_far else message

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

    def close(self) -> None:
        """End the process that learns, for good."""
        self._is_closed = True
        if self._trainer is not None:
            self._trainer.close()

    def _gather(self, queue: Queue, index: int) -> None:
        if self._trainer is not None:
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
        self._trainer = Trainer(pairs, [normalised(pair) for pair in pairs])
        self._indices = {row: number for number, row in enumerate(chosen["row"].to_list())}
        self._learned = None

    def _rows(self, labels: pl.DataFrame, queue: Queue, index: int) -> NDArray[np.uint32]:
        # Where there are too many they are drawn by the order of hashes, the same ones each time.
        known = labels.filter((pl.col("status") != "dropped") & (pl.col("label") != ""))
        drawn = known.with_columns(draw=pl.col("id").hash(_SEED)).sort("draw", "row")[:_MOST_LEARNED]
        ahead = np.concatenate([queue.upcoming(index, _MOST_AHEAD), queue.upcoming(0, _MOST_AHEAD)])[:_MOST_AHEAD]
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
