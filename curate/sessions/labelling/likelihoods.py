"""Suggestions by a model: how likely it finds each answer to a question behind the texts of a record.

It learns from no answer, so that people's answers tell how far it may be believed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from curate.base.console import one_line
from curate.base.file_guard import MOST_DOCUMENT, inside, read_file
from curate.base.record import CurateError, Exit, Json, canonical
from curate.base.storage import write_atomic
from curate.project.data import ProjectData
from curate.project.labels import Suggestions
from curate.schema.settings import Question
from curate.sessions.contestants import Talk, contestant_of, is_endpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CACHE = ".curate/cache/suggestions"
_MOST_CHARACTERS = 6_000
"""Of the texts of a record, so that what is asked stands behind them in any model."""


class LikelihoodJudge:
    """A model that stays warm; `learn` does what that of a `Trainer` does, for the texts that `take` got last.

    What it said is cached by content in the workspace.
    """

    def __init__(self, data: ProjectData, name: str, question: Question) -> None:
        self.name = name
        self._data, self._question = data, question
        self._texts: Sequence[str] = ()
        self._talk: Talk | None = None
        self._is_closed = False
        self._known: dict[str, list[float]] = {}
        self._file = inside(data.root, data.root / _CACHE) / "none"

    def take(self, texts: Sequence[str]) -> None:
        """Judge these texts from now on."""
        self._texts = texts

    def learn(self, labels: Sequence[str]) -> Suggestions:
        """Return the likeliest answer to each text, and how often it is the one in ``labels``, "" for a text without.

        Waits for the model. Raises CurateError: E929 for one that tells no likelihoods, as an endpoint; E940 where the
        extra that it needs is not installed; E970 where it ends before, also by `close`.
        """
        import numpy as np

        requests = [self._request(text) for text in self._texts]
        keys = [hashlib.sha256(canonical(request)).hexdigest() for request in requests]
        if self._talk is None:
            self._open()
        self._ask({key: request for key, request in zip(keys, requests, strict=True) if key not in self._known})
        values = list(self._question.values)
        logprobs = np.array([self._known.get(key) or [0.0] * len(values) for key in keys])
        shares = np.exp(logprobs - logprobs.max(axis=1, keepdims=True)) if keys else np.zeros((0, len(values)))
        shares = shares / shares.sum(axis=1, keepdims=True)
        likeliest, scores = shares.argmax(axis=1), shares.max(axis=1) if keys else np.zeros(0)
        # What the model could not answer, as a text that is too long, has no suggestion.
        scores = np.where([key in self._known for key in keys], scores, 0.0)
        return self._suggestions(values, likeliest, scores, labels)

    def close(self) -> None:
        """End the model, for good."""
        self._is_closed = True
        if self._talk is not None:
            self._talk.close()

    def _suggestions(
        self, values: Sequence[str], likeliest: NDArray[np.int64], scores: NDArray[np.float64], labels: Sequence[str]
    ) -> Suggestions:
        known = [n for n, label in enumerate(labels) if label in values and scores[n]]
        num_right = sum(values[int(likeliest[n])] == labels[n] for n in known)
        accuracy = num_right / len(known) if known else 0.0
        return Suggestions(values, likeliest, scores, len(known), accuracy)

    def _request(self, text: str) -> dict[str, Json]:
        question = self._question
        guide = [f"{value}: {when}" for value, when in question.guide.items()]
        wording = question.ask or f"What is the {question.name} of this record?"
        lines = [text[:_MOST_CHARACTERS], "", wording, *guide, f"Answer with one of: {', '.join(question.values)}"]
        return {"messages": [{"role": "user", "content": "\n".join(lines)}], "choices": list(question.values)}

    def _open(self) -> None:
        if len(self._question.values) < 2:
            message = f"the question {self._question.name!r} has fewer than two answers to compare"
            raise CurateError("E929 bad-contestant", message, "Give it values under `label.questions`.")
        # Nothing is sent for what would not come back.
        if is_endpoint(contestant_of(self._data, self.name)):
            raise self._cannot()
        self._talk = Talk(self._data, self.name)
        if self._is_closed:
            self._talk.close()
        about = self._talk.about()
        if not about.get("can_compare"):
            self._talk.close()
            raise self._stopped() if self._is_closed else self._cannot()
        self._file = inside(self._data.root, self._data.root / _CACHE) / f"{about['digest']}.jsonl"
        self._known = self._read()

    def _ask(self, requests: Mapping[str, Mapping[str, Json]]) -> None:
        assert self._talk is not None, "it was opened"
        for line in self._talk.answers([{"id": key, **request} for key, request in requests.items()]):
            if len(line.get("logprobs", ())) == len(self._question.values):
                self._known[str(line["id"])] = line["logprobs"]
        if self._is_closed:
            raise self._stopped()
        if requests:
            lines = (json.dumps({"key": key, "logprobs": value}) + "\n" for key, value in self._known.items())
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, [line.encode() for line in lines])

    def _read(self) -> dict[str, list[float]]:
        known: dict[str, list[float]] = {}
        try:
            for line in read_file(self._file, most=MOST_DOCUMENT).splitlines():
                entry = json.loads(line)
                known[str(entry["key"])] = [float(value) for value in entry["logprobs"]]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            # It may be deleted at any time, and is asked again.
            return {}
        return known

    def _cannot(self) -> CurateError:
        message = f"{one_line(self.name, 60)} does not tell how likely answers are, so it suggests none"
        return CurateError("E929 bad-contestant", message, "Name a base, a run, an adapter or a .gguf file.")

    def _stopped(self) -> CurateError:
        return CurateError("E970 worker-lost", "suggesting was stopped", exit_code=Exit.INTERRUPTED)
