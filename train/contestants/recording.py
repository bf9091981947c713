"""The recording of a model that was asked elsewhere: it gives its answers again, without the model and its key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from train.base.errors import TrainError
from train.base.run_folder import EVALUATION, read_evaluation
from train.base.storage import digest_of
from train.contestants.chat_completions import request_body
from train.contestants.contestant import NO_ANSWER, OnAnswer, OnText, Request, Unanswered
from train.contestants.spec import BAD_CONTESTANT
from train.evaluate.predictions import PREDICTIONS, read_predictions
from train.evaluate.scoring import Answer


def digest_of_request(request: Request) -> str:
    """Return the digest of what ``request`` asks, of whatever model; raises RowFault where it asks nothing."""
    return digest_of([request_body(request, "", ["seed"]), *request.choices])


class RecordingContestant:
    """The model whose evaluation lies in ``folder``: it answers what it was asked there, word for word.

    Raises TrainError: E929 bad-contestant where that was not brought to its end, or is of a model on this machine; E952
    run-changed and E935 bad-predictions.
    """

    memory = 0
    reads: int | None = None
    can_compare = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        match read_evaluation(folder):
            case {"files": _, "contestant": {"kind": "endpoint" | "gguf" as kind, "name": name, "digest": digest}}:
                self.kind, self.name, self.digest = kind, name, digest
            case _:
                raise TrainError(
                    BAD_CONTESTANT,
                    f"{folder / EVALUATION} is no finished recording of an endpoint or a .gguf file",
                    "Go on with it by the command that began it; ask a model on this machine itself.",
                )
        self._answers = {
            record.asked: Answer(
                "", record.text or "", record.stopped, record.reasoning, is_cached=True,
                **dict[str, Any](record.usage or {}),
            )
            for record in read_predictions(folder / PREDICTIONS)[1]
        }  # fmt: skip

    def answer(self, requests: Sequence[Request], on_answer: OnAnswer, on_text: OnText | None = None) -> None:
        """Give the recorded answers to ``requests``; what was not asked there in the same way has none."""
        for request in requests:
            try:
                answer = replace(self._answers[digest_of_request(request)], id=request.id)
            except (KeyError, TrainError):
                reason = f"{self.folder} holds no answer to what is asked: other messages, tools or options"
                on_answer(Unanswered(request.id, NO_ANSWER, reason))
                continue
            if on_text is not None:
                on_text(request.id, answer.text)
            on_answer(answer)

    def close(self) -> None:
        """Do nothing: nothing is held."""
