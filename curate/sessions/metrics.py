"""What a run tells of itself while it trains: `metrics.jsonl`, read as it grows."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from curate.base.file_guard import open_file

_FILE = "metrics.jsonl"
_BLOCK = 1 << 20
_LONGEST = 1 << 22
RIGHT_FROM = 0.5  # The score from which an answer counts as right, as in the trainer's reports.
_STEP_NUMBERS = ("loss", "lr", "grad_norm", "tokens_per_second", "eta_seconds")


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """One optimizer step: loss in nats a supervised token, tokens seen so far, seconds to go as the trainer sees it."""

    step: int
    of: int
    tokens: int
    loss: float
    lr: float
    grad_norm: float
    tokens_per_second: float
    eta_seconds: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One look at the validation split: macro mean score, None where nothing is scored, and score by category."""

    step: int
    loss: float
    score: float | None
    by_category: Mapping[str, float]
    is_best: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model answered to a validation record at a step, the base at step 0; texts of at most 500 characters."""

    step: int
    expected: str
    got: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class Measurement:
    """How far the measurement of the "base" or the "tuned" model is; ``eta_seconds`` is None before it is known."""

    model: str
    done: int
    of: int
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class End:
    """How the training loop ended: ``stopped`` is the exit code where a signal ended it."""

    step: int
    stopped: int | None


class Metrics:
    """The events of a run so far. `read` takes in what was appended since; the last line may still be being written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._identity = (0, 0)
        self._forget()

    def _forget(self) -> None:
        self.num_steps: int | None = None  # Of the whole run; None before it said.
        self.losses = array("d")
        self.last: TrainingStep | None = None
        self.evaluations: list[Evaluation] = []
        self.samples: dict[str, list[Sample]] = {}  # By the id of the record, in the order of steps.
        self.measurement: Measurement | None = None  # Where that is what the run is doing.
        self.checkpoint: int | None = None  # The step of the last one.
        self.end: End | None = None
        self.num_unreadable = 0  # Lines that are not what a trainer writes there.
        self._offset = 0
        self._rest = b""

    def read(self) -> bool:
        """Take in what is new and return whether there was anything.

        A file that was replaced, as a run that is resumed does, or that became shorter is read from its beginning.
        """
        try:
            with open_file(self._path) as file:
                size = file.seek(0, 2)
                stat = self._path.stat()
                identity = stat.st_dev, stat.st_ino
                if identity != self._identity or size < self._offset:
                    self._forget()
                    self._identity = identity
                if size == self._offset:
                    return False
                file.seek(self._offset)
                while block := file.read(_BLOCK):
                    self._offset += len(block)
                    self._take(block)
        except OSError:
            # It is not there yet, or not any more.
            return False
        return True

    def best(self) -> Evaluation | None:
        """Return the best look at the validation split so far, as the trainer sees it."""
        return next((evaluation for evaluation in reversed(self.evaluations) if evaluation.is_best), None)

    def _take(self, block: bytes) -> None:
        *lines, self._rest = (self._rest + block).split(b"\n")
        if len(self._rest) > _LONGEST:
            self._rest = b""
            self.num_unreadable += 1
        for line in lines:
            try:
                self._add(orjson.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                self.num_unreadable += 1

    def _add(self, event: Any) -> None:
        step, kind = _whole(event["step"]), event["event"]
        self.measurement = None
        if kind in ("start", "eval"):
            self._add_samples(step, event.get("samples", ()))
        match kind:
            case "step":
                self.num_steps, tokens = _whole(event["of"]), _whole(event["tokens"])
                numbers = {name: _number(event[name]) for name in _STEP_NUMBERS}
                self.last = TrainingStep(step, self.num_steps, tokens, **numbers)
                self.losses.append(self.last.loss)
            case "eval":
                score = None if event["score"] is None else _number(event["score"])
                scores = {str(name): _number(value) for name, value in event["by_category"].items()}
                self.evaluations.append(Evaluation(step, _number(event["loss"]), score, scores, event["best"] is True))
            case "measure":
                eta = None if event["eta_seconds"] is None else _number(event["eta_seconds"])
                self.measurement = Measurement(
                    str(event["model"]), _whole(event["done"]), max(1, _whole(event["of"])), eta
                )
            case "checkpoint":
                self.checkpoint = step
            case "start" | "resume":
                # A run that is resumed goes on after its end.
                self.num_steps, self.end = _whole(event["of"]), None
            case "end":
                self.end = End(step, None if event["stopped"] is None else _whole(event["stopped"]))
            case other:
                raise ValueError(f"{other!r} is no event")

    def _add_samples(self, step: int, samples: Any) -> None:
        # All of them are read before one is added, so that a broken line leaves nothing behind.
        answers = {
            str(sample["id"]): Sample(
                step, str(sample["expected"]), str(sample["got"]), (sample.get("score") or 0) >= RIGHT_FROM
            )
            for sample in samples
        }
        for name, answer in answers.items():
            self.samples.setdefault(name, []).append(answer)


def thinned(values: Sequence[float], width: int) -> list[float]:
    """Return at most ``width`` values: each is the mean of as many neighbours as any other, or one less."""
    if len(values) <= width:
        return list(values)
    cuts = [len(values) * part // width for part in range(width + 1)]
    return [math.fsum(values[start:end]) / (end - start) for start, end in pairwise(cuts)]


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no whole number")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("no finite number")
    return float(value)
