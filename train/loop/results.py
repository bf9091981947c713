"""What a run knows of itself: its looks at validation, its progress, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from train.dynamics import Dynamic
from train.errors import Exit
from train.predictions import ValidationScore


@dataclass(kw_only=True)
class State:
    """What a checkpoint carries besides tensors."""

    step: int = 0
    tokens: int = 0
    loss: float = math.nan
    best_step: int | None = None
    best: ValidationScore | None = None
    looks: list[ValidationScore] = field(default_factory=list)
    guarded: str | None = None
    """Why the guard ended the run before its last step."""


@dataclass(kw_only=True)
class FitResult(State):
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
