"""What a run knows of itself: the scores of its looks at validation, its progress, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from train.dynamics import Dynamic
from train.errors import Exit


@dataclass(frozen=True)
class ValidationScore:
    """What a look at the validation split said: macro-mean score (None where nothing is scored) and nats per token."""

    score: float | None
    loss: float
    by_category: dict[str, float] = field(default_factory=dict)

    def is_better_than(self, other: ValidationScore | None) -> bool:
        """Higher score, and on a tie (or without scores) lower loss."""
        if other is None:
            return True
        if self.score is not None and other.score is not None and self.score != other.score:
            return self.score > other.score
        return self.loss < other.loss


@dataclass(frozen=True)
class FitResult:
    """How a run ended: after which step, the best validated step, and the exit code where a signal stopped it.

    ``step_seconds`` are those of the steps alone, and ``step_tokens`` what they read: of this process, since a resume.
    """

    num_steps: int
    step: int
    best_step: int | None
    best: ValidationScore | None
    loss: float
    tokens: int
    seconds: float
    stopped: Exit | None
    dynamics: Sequence[Dynamic] = ()
    """How each training record was learnt, over the whole run."""
    guarded: str | None = None
    """Why the guard ended the run before its last step."""
    step_seconds: float = 0.0
    step_tokens: int = 0


@dataclass
class State:
    """What a checkpoint carries besides tensors."""

    step: int = 0
    tokens: int = 0
    loss: float = math.nan
    best_step: int | None = None
    best: ValidationScore | None = None
    looks: list[ValidationScore] = field(default_factory=list)
    guarded: str | None = None
