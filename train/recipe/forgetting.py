"""What a recipe does against forgetting, and what to change in it where a model forgets.

It stands beside the recipe since the plan warns before a run by the same rules by which the report advises after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, with_config

from train.recipe import SHIPPED_TEXT, Recipe
from train.recipe.schedule import peak_lr

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_ABOVE = 1.001
"""A rate is above the automatic one from here on; below it is the same but for rounding."""
# Beyond half of an epoch the run would rather train the general text than the dataset.
_MOST_REPLAY = 0.5


# Where a report is read, as strictly as the rest of it (`train.report.model`).
@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Tuning:
    """What of a recipe decides how much is forgotten: the highest rate and the automatic one, and what is replayed.

    ``replay`` is mixing.replay, None without one.
    """

    method: Literal["lora", "full"]
    lr: float
    auto_lr: float
    replay: str | None
    replay_share: float


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to do against forgetting: why, in a sentence, and the lines of a recipe that do it."""

    action: Literal["auto-lr", "halve-lr", "add-replay", "raise-replay", "use-lora"]
    text: str
    lines: list[str]


def tuning_of(recipe: Recipe, hidden_size: int, model_type: str) -> Tuning:
    """Return what ``recipe`` does against forgetting on a model of this width and type."""
    return Tuning(
        method=recipe.method,
        lr=peak_lr(recipe, hidden_size, model_type),
        auto_lr=peak_lr(recipe.model_copy(update={"learning_rate": "auto"}), hidden_size, model_type),
        replay=recipe.mixing.replay,
        replay_share=recipe.mixing.replay_share,
    )


def protection(recipe: Recipe) -> str:
    """Return in words what of ``recipe`` holds against forgetting, as the plan and a run say it."""
    mixing, margin = recipe.mixing, recipe.guard.general
    what = "the built-in text" if mixing.replay == SHIPPED_TEXT else mixing.replay
    replayed = f"{mixing.replay_share:.0%} of an epoch replay {what}" if what else "no replay text"
    guard = (
        "no stop rule" if margin is None else f"the run ends where general text takes {margin:.1%} more bits per byte"
    )
    return f"{replayed}; {guard}"


def risks(tuning: Tuning) -> list[Remedy]:
    """Return what is known before a run to make a model forget: a rate above the automatic one, and no replay."""
    steps = []
    if tuning.lr > _ABOVE * tuning.auto_lr:
        times = f"{tuning.lr / tuning.auto_lr:.1f} times the automatic {tuning.auto_lr:.3g}"
        text = f"learning_rate {tuning.lr:.3g} is {times}"
        steps.append(Remedy("auto-lr", text, ['learning_rate = "auto"']))
    if tuning.replay is None:
        text = "nothing is replayed; name a file of text like that which the base was trained on"
        steps.append(Remedy("add-replay", text, ["[mixing]", 'replay = "FILE.jsonl"']))
    return steps


def remedies(tuning: Tuning) -> list[Remedy]:
    """Return what to do next where a model forgot, the surest first; all of it can be combined."""
    # What was known to be risky before the run is the likeliest cause after it.
    steps = risks(tuning)
    # Adapters bring a rate of their own, and two rates in one list cannot both be followed.
    if tuning.lr <= _ABOVE * tuning.auto_lr and tuning.method == "lora":
        half = f"{tuning.lr / 2:.2g}"
        steps.insert(0, Remedy("halve-lr", f"learning_rate {tuning.lr:.3g} is not above the automatic one; halve it",
                               [f"learning_rate = {half}"]))  # fmt: skip
    if tuning.replay is not None and tuning.replay_share < _MOST_REPLAY:
        share = min(_MOST_REPLAY, 2 * tuning.replay_share)
        text = f"{tuning.replay_share:.0%} of an epoch are replayed text; replay more"
        steps.append(Remedy("raise-replay", text, ["[mixing]", f"replay_share = {share:g}"]))
    if tuning.method == "full":
        text = "every weight is trained; adapters change less of what the base knows"
        steps.append(Remedy("use-lora", text, ['method = "lora"', 'learning_rate = "auto"']))
    return steps
