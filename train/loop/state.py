"""The state of a run besides tensors: how far it is, its evaluations, how it ended, and when it ends early.

Early stopping is off by default: a validation split of a few records a category moves by more than any margin worth
asking for, and a run that ends by chance is worse than a run that is a little too long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from train.base import console
from train.base.errors import Exit
from train.evaluate.dynamics import Dynamic
from train.evaluate.predictions import ValidationScore
from train.recipe import GuardRecipe


@dataclass(kw_only=True)
class TrainingState:
    """What a checkpoint carries besides tensors."""

    step: int = 0
    tokens: int = 0
    loss: float = math.nan
    best_step: int | None = None
    evaluations: list[ValidationScore] = field(default_factory=list)
    evaluated: int = 0
    """The step of the newest of them."""
    early_stop: str | None = None
    """Why early stopping ended the run before its last step."""
    forgot: float | None = None
    """The rise of the bits of general text over the base, as a share, where the run ended for it."""

    def progress(self) -> dict[str, Any]:
        """Return the state as progress.json has it."""
        return asdict(self)

    @classmethod
    def from_progress(cls, progress: Mapping[str, Any]) -> TrainingState:
        """Return the state that `progress` was called on."""
        # Without samples, which no checkpoint carries along.
        scores = [ValidationScore(one["score"], one["loss"], one["by_category"]) for one in progress["evaluations"]]
        return cls(**{**progress, "evaluations": scores})


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


class EarlyStopping:
    """Decides by a run's evaluations which is the best and whether the run ends; ``base`` is the base's evaluation.

    It keeps nothing between evaluations: recipe, base and the evaluations so far decide, so a resumed run ends where
    the whole one would have.
    """

    def __init__(self, recipe: GuardRecipe, base: ValidationScore) -> None:
        self.recipe, self.base = recipe, base

    def regressed(self, evaluations: Sequence[ValidationScore]) -> list[set[str]]:
        """Return for each evaluation the categories that score lower than they did, by more than the margin."""
        reference, found = dict(self.base.by_category), []
        # Up to rounding: 0.9 - 0.8 is more than 0.1.
        margin = math.inf if self.recipe.regress is None else self.recipe.regress + 1e-9
        for scores in (evaluation.by_category for evaluation in evaluations):
            found.append({name for name, score in scores.items() if reference.get(name, score) - score > margin})
            if self.recipe.against == "best":
                reference |= {name: max(score, reference.get(name, score)) for name, score in scores.items()}
        return found

    def is_best(self, evaluations: Sequence[ValidationScore]) -> bool:
        """Return whether the newest evaluation is the best; one with a regressed category is worse than any without."""
        # A model that lost a category is never the best one, however good its mean is.
        pairs = zip(self.regressed(evaluations), evaluations, strict=True)
        ranks = [(not names, *_rank(evaluation)) for names, evaluation in pairs]
        return ranks.index(max(ranks)) == len(ranks) - 1

    def rise(self, general: float | None) -> float | None:
        """Return by which share ``general``, bits per byte, is over the base's; None where the recipe allows that."""
        if self.recipe.general is None or general is None or not self.base.general:
            return None
        rise = general / self.base.general - 1
        return rise if rise > self.recipe.general else None

    def reason(self, evaluations: Sequence[ValidationScore]) -> str | None:
        """Return why the run should end after the newest evaluation, None where it should go on."""
        patience, recent = self.recipe.patience, evaluations[-self.recipe.patience :]
        if len(recent) == patience and (lost := set.intersection(*self.regressed(evaluations)[-patience:])):
            what = "the base" if self.recipe.against == "base" else "their best"
            scores = f"scored more than {self.recipe.regress} below {what} in {patience} validations"
            return f"{console.join_names(sorted(lost), 5)} {scores}"
        can_tell = self.recipe.plateau and len(evaluations) > patience
        if can_tell and max(map(_rank, recent)) <= max(map(_rank, evaluations[:-patience])):
            return f"validation did not improve in {patience} evaluations"
        return None


def _rank(evaluation: ValidationScore) -> tuple[float, float]:
    # Higher score, and on a tie (or without scores, as none of a run has one then) lower loss.
    return evaluation.score or 0.0, -evaluation.loss
