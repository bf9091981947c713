"""What a model that has learned from the answers so far would answer; learned in a process of its own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import RLock
from typing import IO, TYPE_CHECKING, Any

from curate.base.console import one_line
from curate.base.record import CurateError, Exit
from curate.checks.quality.suspects import FEWEST, Classifier, Predictions, require_model

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

_WHAT = "suggesting labels"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An answer that the model proposes, and its probability."""

    value: str
    score: float


@dataclass(frozen=True)
class Suggestions:
    """What the model proposes for texts; always out of sample, so that no answer to a text tells on itself."""

    values: Sequence[str]
    """The answers that were learned; empty where there was too little to learn from."""
    thin: Sequence[str]
    """Answers that were given too rarely to be learned."""
    likeliest: NDArray[numpy.int64]
    """Which of ``values`` is proposed for each text."""
    scores: NDArray[numpy.float64]
    """Its probability; 0 for a text without content."""
    num_learned: int
    accuracy: float
    """How often the proposal is the answer that was given, out of sample."""

    def of(self, index: int) -> Suggestion | None:
        """Return what is proposed for a text; None where nothing is."""
        if not self.values or not self.scores[index]:
            return None
        return Suggestion(self.values[int(self.likeliest[index])], float(self.scores[index]))

    @property
    def lacks(self) -> str:
        """What is lacking for suggestions, in words; empty where there are some."""
        return "" if self.values else f"suggestions need {FEWEST} answers each of two values"


def _suggestions(model: Predictions) -> Suggestions:
    import numpy as np

    if not model.classes:
        size = len(model.probabilities)
        return Suggestions([], model.thin, np.zeros(size, np.int64), np.zeros(size), 0, 0.0)
    return Suggestions(
        model.classes,
        model.thin,
        model.probabilities.argmax(axis=1),
        model.probabilities.max(axis=1),
        len(model.rows),
        model.accuracy,
    )


class Trainer:
    """Learns from some texts again and again, in another process: a model holds Python's lock, and keys must not wait.

    The process begins with the first `learn` and keeps what it has made of the texts, so that learning once more, with
    a few answers more, takes little time. Close it when it is not needed any more.
    """

    def __init__(self, texts: Sequence[str], clusters: Sequence[str]) -> None:
        """Take the texts, and the cluster of near repeats that each is in.

        Raises:
            CurateError: E940 without the extra [quality].
        """
        require_model(_WHAT)
        self._given = (list(texts), list(clusters))
        self._lock = RLock()
        self._child: subprocess.Popen[bytes] | None = None
        self._talk: IO[bytes] | None = None
        self._is_closed = False

    def learn(self, labels: Sequence[str]) -> Suggestions:
        """Return the proposals after learning ``labels``, "" for a text without one; waits for the process.

        Raises:
            CurateError: E970 when the process ended before it answered, or the trainer is closed.
        """
        with self._lock:
            child = self._running()
            assert child.stdin
            assert child.stdout
            try:
                pickle.dump(list(labels), child.stdin)
                child.stdin.flush()
                answer = pickle.load(child.stdout)  # noqa: S301  it is our own program that writes there
            except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
                raise self._lost() from error
        if isinstance(answer, CurateError):
            raise answer
        assert isinstance(answer, Suggestions)
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._is_closed = True
        child = self._child
        if child is None:
            return
        child.kill()
        child.wait()
        # Whoever waits for an answer has its end by now.
        with self._lock:
            for stream in (child.stdin, child.stdout, self._talk):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._is_closed:
            raise self._lost()
        if self._child is None:
            self._talk = tempfile.TemporaryFile()  # noqa: SIM115  as long as the child lives
            # A group of its own: a key that interrupts the terminal is not meant for it.
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "curate.project.labels"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._talk, process_group=0,
            )  # fmt: skip
            assert self._child.stdin
            with suppress(BrokenPipeError):
                pickle.dump(self._given, self._child.stdin)
        return self._child

    def _lost(self) -> CurateError:
        if self._is_closed:
            return CurateError("E970 worker-lost", "suggesting was stopped", exit_code=Exit.INTERRUPTED)
        last_line = ""
        if self._talk is not None and not self._talk.closed:
            self._talk.seek(0)
            last_line = self._talk.read().decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
        why = f": {one_line(last_line)}" if last_line else ", perhaps because memory ran out"
        self.close()
        return CurateError(
            "E970 worker-lost", f"the process that suggests ended{why}", "Labelling goes on without suggestions."
        )


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Answer one `Trainer` until it closes its end."""
    # At a low rank: whoever labels is to notice nothing of it.
    with suppress(OSError):
        os.nice(10)
    texts, clusters = _read(source)
    classifier = None
    while True:
        try:
            labels = _read(source)
        except EOFError:
            return
        try:
            classifier = classifier or Classifier(texts, clusters, what=_WHAT)
            answer: object = _suggestions(classifier.judge(labels))
        except CurateError as error:
            answer = error
        pickle.dump(answer, target)
        target.flush()


def _read(source: IO[bytes]) -> Any:
    return pickle.load(source)  # noqa: S301  it is our own program that asks
