"""Suggestions for a queue: which records are learned from, when to learn again, and what is proposed for each."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curate.label import CATEGORY, Suggestion, Suggestions, Trainer
from curate.record import normalised
from curate.workshop.labelling.queue import Queue

if TYPE_CHECKING:
    from curate.workshop import Workshop

AGAIN_AFTER = 10
"""New answers after which it is worth learning again."""
_MOST_LEARNED, _MOST_AHEAD = 10_000, 5_000
"""Labelled records that are learned from, and open ones that are judged: with both at their most, learning again takes
half a second of CPU time."""
_SEED = 3


class Suggester:
    """What is proposed for the records of one question. `learn` waits for a model: call it in a thread."""

    def __init__(self, workshop: Workshop, question: str) -> None:
        self._workshop = workshop
        self._question = question
        self._trainer: Trainer | None = None
        self._places: dict[int, int] = {}
        self._lock = Lock()
        self.found: Suggestions | None = None
        self.num_waiting = 0
        """Answers that came after those that were learned last."""

    @property
    def is_due(self) -> bool:
        """Whether enough has been answered since to learn again."""
        return self.found is None or self.num_waiting >= AGAIN_AFTER

    def of(self, row: int) -> Suggestion | None:
        """Return what is proposed for the record in a row; None where nothing is, yet or at all."""
        place = self._places.get(row)
        return None if place is None or self.found is None else self.found.of(place)

    def certainty(self) -> dict[int, float]:
        """Return the probability of what is proposed, by row."""
        if self.found is None or not self.found.values:
            return {}
        return {row: float(self.found.scores[place]) for row, place in self._places.items() if self.found.scores[place]}

    def is_beyond(self, queue: Queue, place: int) -> bool:
        """Whether records come soon that no model has judged, because there were more than it takes at a time."""
        return any(int(row) not in self._places for row in queue.upcoming(place, AGAIN_AFTER))

    def learn(self, queue: Queue, place: int) -> None:
        """Learn from what is answered by now, and judge the records that are open from ``place`` of ``queue`` on.

        Raises:
            CurateError: E940 without the extra [quality]; E970 when the process that learns ends before it has.
        """
        with self._lock:
            waiting = self.num_waiting
            if self._trainer is None or self.is_beyond(queue, place):
                self._gather(queue, place)
            assert self._trainer is not None
            found = self._trainer.learn(self._labels())
            self.found = found
            self.num_waiting -= waiting

    def close(self) -> None:
        """End the process that learns."""
        if self._trainer is not None:
            self._trainer.close()

    def _gather(self, queue: Queue, place: int) -> None:
        """Choose the records and read their texts."""
        self.close()
        rows = self._rows(queue, place)
        frame = self._workshop.catalog.frame(["prompt", "completion"], pl.Series("row", rows))
        texts = [f"{prompt}\n{completion}" for prompt, completion in frame.select("prompt", "completion").iter_rows()]
        self._trainer = Trainer(texts, [normalised(text) for text in texts])
        self._places = {int(row): number for number, row in enumerate(rows.tolist())}
        self.found = None

    def _rows(self, queue: Queue, place: int) -> NDArray[np.uint32]:
        """Return the rows to learn from and those to judge, drawn by the order of hashes where there are too many."""
        frame = self._workshop.catalog.frame(["id", "status", "category", "labels"])
        labelled = frame.filter((pl.col("status") != "dropped") & (_agreed(self._question) != ""))
        drawn = labelled.with_columns(draw=pl.col("id").hash(_SEED)).sort("draw", "row")[:_MOST_LEARNED]
        ahead = [queue.upcoming(place, _MOST_AHEAD), queue.upcoming(0, _MOST_AHEAD)]
        return np.union1d(drawn["row"].to_numpy(), np.concatenate(ahead)[:_MOST_AHEAD]).astype(np.uint32)

    def _labels(self) -> list[str]:
        """Return what is agreed on each record by now, "" where nothing is."""
        rows = pl.Series("row", list(self._places), pl.UInt32)
        catalog = self._workshop.catalog
        # Rows that are gone, since somebody took their addition back, cannot be asked for one by one.
        frame = catalog.frame(["category", "labels"], rows if len(catalog) == catalog.num_rows else None)
        told = frame.select("row", label=_agreed(self._question))
        found = rows.to_frame().join(told, on="row", how="left", maintain_order="left")["label"].fill_null("")
        return found.to_list()


def _agreed(question: str) -> pl.Expr:
    """Return the one answer that is agreed on, or that the line itself has; "" where there is none, or several."""
    if question == CATEGORY:
        return pl.col("category")
    field = pl.element().struct.field
    own = pl.col("labels").list.eval(field("answer").filter((field("question") == question) & (field("who") == "")))
    return pl.when(own.list.len() == 1).then(own.list.first()).otherwise(pl.lit(""))
