"""How far the measurement of a model is: events for programs, a line of progress for people."""

from __future__ import annotations

import sys
import time

from train.base import console
from train.data.dataset import Dataset
from train.evaluate.evaluation import num_answers
from train.loop import PLAIN_SECONDS, Events, clock

_EVERY, _FEWEST = 1.0, 0.1


class MeasureLog:
    """Writes an event a second at the most while ``model``, "base" or "tuned", is measured on the rows of a dataset.

    A row counts once for its likelihood and once for its answer. The seconds to go are those of each kind at its own
    pace, None before a tenth of each is done: many answers are written at once, and the first ones are short.
    """

    def __init__(self, events: Events, model: str, dataset: Dataset, step: int) -> None:
        self._events, self._model, self._step = events, model, step
        splits = dataset.splits
        self._left = {
            "likelihoods": sum(map(len, splits.values())),
            "answers": num_answers(splits["validation"]) + num_answers(splits["test"]),
        }
        self._of = sum(self._left.values())
        self._done = dict.fromkeys(self._left, 0)
        self._seconds = dict.fromkeys(self._left, 0.0)
        self._measured_at = self._printed_at = time.monotonic()
        self._written_at = 0.0
        self._is_live = sys.stderr.isatty()
        self._write()

    def add(self, kind: str, num_rows: int) -> None:
        """Count ``num_rows`` more "likelihoods" or "answers" as done; raises TrainError "E954 disk-full"."""
        now = time.monotonic()
        self._seconds[kind] += now - self._measured_at
        self._measured_at = now
        self._done[kind] += num_rows
        self._left[kind] -= num_rows
        if now - self._written_at >= _EVERY or not any(self._left.values()):
            self._write()

    def _write(self) -> None:
        self._written_at = time.monotonic()
        done, left = sum(self._done.values()), None
        if all(_FEWEST * (self._done[kind] + num) <= self._done[kind] for kind, num in self._left.items()):
            paces = {kind: self._seconds[kind] / max(1, num) for kind, num in self._done.items()}
            left = round(sum(num * paces[kind] for kind, num in self._left.items()), 1)
        self._events.write(
            "measure", step=self._step, model=self._model, done=done, of=self._of, answers=self._done["answers"],
            eta_seconds=left,
        )  # fmt: skip
        text = f"measuring the {self._model} model: {done:,} of {self._of:,}"
        text += "" if left is None else f", {clock(left)} to go"
        if self._is_live:
            console.redraw(text)
        elif self._written_at - self._printed_at >= PLAIN_SECONDS:
            self._printed_at = self._written_at
            console.talk(text)
