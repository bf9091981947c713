"""What a run knows of itself besides tensors: how far it is, its evaluations, how it ended, and when it ends early.

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
    evaluated: int = 0
    """The step of the newest of them."""
    early_stop: str | None = None
    """Why early stopping ended the run before its last step."""
    forgot: float | None = None
    """By which share general text takes more bits than with the base, where the guard ended the run for it."""

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


class EarlyStopping:
    """Compares evaluations on validation; ``base`` has the base's score of each category on the same records."""

    # It keeps nothing between evaluations: recipe, base and the evaluations so far decide, so a resumed run ends where
    # the whole one would have.
    def __init__(self, recipe: GuardRecipe, base: Mapping[str, float]) -> None:
        self.recipe, self.base = recipe, dict(base)

    def num_needed(self) -> dict[str, int]:
        """Return how many evaluations it takes before a run can end, by each setting that may end it."""
        guard = self.recipe
        needed = {
            "guard.general": (guard.general is not None, 1),
            "guard.regress": (guard.regress is not None, guard.patience),
            "guard.plateau": (guard.plateau, guard.patience + 1),
        }
        return {name: num for name, (is_on, num) in needed.items() if is_on}

    def regressed(self, evaluations: Sequence[ValidationScore]) -> list[list[str]]:
        """Return for each evaluation the categories that score lower than they did, by more than the margin."""
        if self.recipe.regress is None:
            return [[] for _ in evaluations]
        reference, names = dict(self.base), []
        for evaluation in evaluations:
            scores = evaluation.by_category
            # Up to rounding: 0.9 - 0.8 is more than 0.1.
            margin = self.recipe.regress + 1e-9
            names.append(sorted(name for name in scores if reference.get(name, scores[name]) - scores[name] > margin))
            if self.recipe.against == "best":
                reference |= {name: max(score, reference.get(name, score)) for name, score in scores.items()}
        return names

    def is_best(self, evaluations: Sequence[ValidationScore]) -> bool:
        """True where the newest evaluation is the best; one with a regressed category is worse than any without.

        Without a margin in the recipe that is the best evaluation overall.
        """
        is_clean = [not names for names in self.regressed(evaluations)]
        best = 0
        for number in range(1, len(evaluations)):
            # A model that lost a category is never the best one, however good its mean is.
            is_equal = is_clean[number] == is_clean[best]
            if is_clean[number] > is_clean[best] or (
                is_equal and evaluations[number].is_better_than(evaluations[best])
            ):
                best = number
        return best == len(evaluations) - 1

    def reason(self, evaluations: Sequence[ValidationScore]) -> str | None:
        """Return why the run should end after the newest evaluation, None where it should go on."""
        patience = self.recipe.patience
        if self.recipe.regress is not None and len(evaluations) >= patience:
            each = self.regressed(evaluations)[-patience:]
            if always := sorted(set(each[0]).intersection(*each)):
                what = "the base" if self.recipe.against == "base" else "their best"
                scores = f"scored more than {self.recipe.regress} below {what} in {patience} validations"
                return f"{console.join_names(always, 5)} {scores}"
        if self.recipe.plateau and len(evaluations) > patience:
            best = evaluations[0]
            for evaluation in evaluations[1:-patience]:
                best = evaluation if evaluation.is_better_than(best) else best
            if not any(evaluation.is_better_than(best) for evaluation in evaluations[-patience:]):
                return f"validation did not improve in {patience} evaluations"
        return None
