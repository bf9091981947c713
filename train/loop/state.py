"""What a run knows of itself besides tensors: how far it is, its evaluations, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from train.base.errors import Exit
from train.evaluate.dynamics import Dynamic
from train.evaluate.predictions import ValidationScore

_WIRE_NAMES = {"evaluations": "looks", "early_stop": "guarded"}
"""Fields that progress.json has under the names of its first version, so that older runs can be resumed."""


@dataclass(kw_only=True)
class TrainingState:
    """What a checkpoint carries besides tensors."""

    step: int = 0
    tokens: int = 0
    loss: float = math.nan
    best_step: int | None = None
    best: ValidationScore | None = None
    evaluations: list[ValidationScore] = field(default_factory=list)
    early_stop: str | None = None
    """Why early stopping ended the run before its last step."""

    def progress(self) -> dict[str, Any]:
        """Return the state as progress.json has it."""
        return {_WIRE_NAMES.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_progress(cls, progress: Mapping[str, Any]) -> TrainingState:
        """Return the state that `progress` was called on."""
        values = dict(progress)
        best, evaluations = values.pop("best"), [ValidationScore(**score) for score in values.pop("looks")]
        return cls(
            best=None if best is None else ValidationScore(**best), evaluations=evaluations,
            early_stop=values.pop("guarded"), **values,
        )  # fmt: skip


@dataclass(kw_only=True)
class FitResult(TrainingState):
    """How a run ended: its state then, and the exit code where a signal stopped it.

    ``step_seconds`` are those of the steps alone, and ``step_tokens`` what they read: of this process, since a resume.
    """

    num_steps: int
    seconds: float
    stopped: Exit | None
    dynamics: Sequence[Dynamic]
    """How each training record was learnt, over the whole run."""
    step_seconds: float
    step_tokens: int
