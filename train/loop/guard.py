"""When a run ends before its last step: a category that stays below what it had, or validation that stands still.

What is said depends on the recipe, the base's scores and the looks so far alone, so a resumed run ends where the whole
one would have. Off by default: a validation split of a few records a category moves by more than any margin worth
asking for, and a run that ends by chance is worse than one that is a little too long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from train import say
from train.recipe import GuardRecipe

if TYPE_CHECKING:
    from train.predictions import ValidationScore


class Guard:
    """Judges the looks at validation; ``base`` has the base's score of each category on the same records."""

    def __init__(self, recipe: GuardRecipe, base: Mapping[str, float]) -> None:
        self.recipe, self.base = recipe, dict(base)
        # Looks are only ever added, so what an earlier one was stays so.
        self._clean: dict[int, bool] = {}

    def needs(self) -> int:
        """Return how many looks it takes before this guard can end a run."""
        return self.recipe.patience if self.recipe.regress is not None else self.recipe.patience + 1

    def fallen(self, looks: Sequence[ValidationScore]) -> list[str]:
        """Return the categories that the newest look scores lower than they were, by more than the margin."""
        if self.recipe.regress is None or not looks:
            return []
        reference = dict(self.base)
        if self.recipe.against == "best":
            for look in looks:
                for name, score in look.by_category.items():
                    reference[name] = max(score, reference.get(name, score))
        margin, newest = self.recipe.regress, looks[-1].by_category
        # Up to rounding: 0.9 - 0.8 is more than 0.1.
        return sorted(name for name, score in newest.items() if reference.get(name, score) - score > margin + 1e-9)

    def is_best(self, looks: Sequence[ValidationScore]) -> bool:
        """True where the newest look is the one to keep: one without fallen categories before any with, then the best.

        Without a margin in the recipe that is the best look overall.
        """
        best = 0
        for place in range(1, len(looks)):
            here, there = self._is_clean(looks, place), self._is_clean(looks, best)
            if here > there or (here == there and looks[place].is_better_than(looks[best])):
                best = place
        return best == len(looks) - 1

    def reason(self, looks: Sequence[ValidationScore]) -> str | None:
        """Return why the run should end after the newest look, None where it should go on."""
        patience = self.recipe.patience
        if self.recipe.regress is not None and len(looks) >= patience:
            falls = [set(self.fallen(looks[: len(looks) - back])) for back in range(patience)]
            if always := sorted(set.intersection(*falls)):
                what = "the base" if self.recipe.against == "base" else "their best"
                told = f"scored more than {self.recipe.regress} below {what} in {patience} validations"
                return say.visible(f"{say.named(always, 5)} {told}")
        if self.recipe.plateau and len(looks) > patience:
            best = looks[0]
            for look in looks[1:-patience]:
                best = look if look.is_better_than(best) else best
            if not any(look.is_better_than(best) for look in looks[-patience:]):
                return f"validation did not improve in {patience} looks"
        return None

    def _is_clean(self, looks: Sequence[ValidationScore], place: int) -> bool:
        if place not in self._clean:
            self._clean[place] = not self.fallen(looks[: place + 1])
        return self._clean[place]
