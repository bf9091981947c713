"""What follows from a recipe: its "auto" numbers, the learning rate of each step, and advice against forgetting.

The advice stands here since the plan warns before a run by the same rules by which the report advises after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, with_config

from train.recipe.model import PREFERENCES, SHIPPED_TEXT, Recipe

MIN_WARMUP_STEPS, WARMUP_SHARE = 10, 0.03
VALIDATIONS_PER_RUN = 4
BASE_LR, FULL_LR = 5e-4, 2e-5
PREFERENCE_SHARE = 0.1
"""Of the automatic rate, where answers are compared: such a loss is met by pushing both of a pair far down."""
NARROW_WIDTH, NARROW_LORA_LR, HIGHEST_NARROW_FULL_LR = 512, 1e-3, 3e-3
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_ABOVE = 1.001
"""A rate is above the automatic one from here on; below it is the same but for rounding."""
# Beyond half of an epoch the run would rather train the general text than the dataset.
_MOST_REPLAY = 0.5


def peak_lr(recipe: Recipe, hidden_size: int, model_type: str) -> float:
    """Return the highest learning rate: the recipe's, or one for the method, the width and the type of the model."""
    if recipe.learning_rate != "auto":
        return recipe.learning_rate
    rate = _auto_lr(recipe, hidden_size, model_type)
    return PREFERENCE_SHARE * rate if recipe.objective in PREFERENCES else rate


def _auto_lr(recipe: Recipe, hidden_size: int, model_type: str) -> float:
    if recipe.method == "full":
        # Our own runs at width 160 did best at 1.5e-3, far above what large models bear.
        narrow = min(HIGHEST_NARROW_FULL_LR, 0.3 * BASE_LR * math.pow(2000 / hidden_size, 0.9))
        return narrow if hidden_size < NARROW_WIDTH else FULL_LR
    if hidden_size < NARROW_WIDTH:
        # Such models lie outside of what the law below was fitted on. Carried on to them it makes them forget several
        # times as much for little more that is learnt (`benchmarks/forgetting.py`, widths 64 and 160).
        return NARROW_LORA_LR
    # "LoRA Without Regret" (Thinking Machines 2025) and its cookbook: 5e-5 * 10 * (2000 / width)^p.
    return BASE_LR * math.pow(2000 / hidden_size, 0.0775 if "qwen" in model_type.lower() else 0.781)


def warmup_steps(recipe: Recipe, num_steps: int) -> int:
    """Return the steps of linear warmup; "auto" is 3 % but 10 or more, and never over half the run."""
    if recipe.lr_scheduler_type == "constant":
        return 0
    if recipe.warmup_steps is not None:
        return min(recipe.warmup_steps, num_steps)
    if recipe.warmup_ratio != "auto":
        return math.ceil(recipe.warmup_ratio * num_steps)
    return min(max(MIN_WARMUP_STEPS, round(WARMUP_SHARE * num_steps)), num_steps // 2)


def lr_factor(recipe: Recipe, step: int, num_steps: int) -> float:
    """Return the share of the highest learning rate that step ``step`` (from 0) uses; above 0 at every step."""
    warmup = warmup_steps(recipe, num_steps)
    # One more than the steps, so that the first has no rate of zero, which transformers gives it; the last has none.
    if step < warmup:
        return (step + 1) / (warmup + 1)
    rest, left = num_steps - warmup, num_steps - step
    match recipe.lr_scheduler_type:
        case "linear":
            return left / rest
        case "cosine":
            return (1 - math.cos(math.pi * left / rest)) / 2
        case "wsd":
            # transformers' own decay, of "warmup_stable_decay", is a cosine unless it is told "linear".
            return min(1.0, left / min(rest, math.ceil(recipe.lr_decay_ratio * num_steps)))
    return 1.0


def weight_decay(recipe: Recipe) -> float:
    """Return AdamW's weight decay: none for adapters, little for all weights."""
    return (0.0 if recipe.method == "lora" else 0.01) if recipe.weight_decay == "auto" else recipe.weight_decay


def adam_betas(recipe: Recipe) -> tuple[float, float]:
    """Return AdamW's betas."""
    beta2 = 0.999 if recipe.method == "lora" else 0.95
    return (
        0.9 if recipe.adam_beta1 == "auto" else recipe.adam_beta1,
        beta2 if recipe.adam_beta2 == "auto" else recipe.adam_beta2,
    )


def validation_interval(recipe: Recipe, num_steps: int) -> int:
    """Return how many steps lie between validations."""
    every = recipe.eval_steps
    return -(-num_steps // VALIDATIONS_PER_RUN) if every == "auto" else every


def num_validations_left(recipe: Recipe, step: int, num_steps: int) -> int:
    """Return how many validations are still due at step ``step`` (from 1), its own included; the last step has one."""
    every = validation_interval(recipe, num_steps)
    return (num_steps - 1) // every - (step - 1) // every + 1


def checkpoint_interval(recipe: Recipe, num_steps: int) -> int:
    """Return how many steps lie between checkpoints."""
    every = recipe.save_steps
    return validation_interval(recipe, num_steps) if every == "auto" else every


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


def describe_protection(recipe: Recipe) -> str:
    """Return in words what of ``recipe`` holds against forgetting, as the plan and a run say it."""
    mixing, margin = recipe.mixing, recipe.guard.general
    what = "the built-in text" if mixing.replay == SHIPPED_TEXT else mixing.replay
    replayed = f"{mixing.replay_share:.0%} of an epoch replay {what}" if what else "no replay text"
    guard = (
        "no stop rule" if margin is None else f"the run ends where general text takes {margin:.1%} more bits per byte"
    )
    return f"{replayed}; {guard}"


def find_risks(tuning: Tuning) -> list[Remedy]:
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


def find_remedies(tuning: Tuning) -> list[Remedy]:
    """Return what to do next where a model forgot, the surest first; all of it can be combined."""
    # What was known to be risky before the run is the likeliest cause after it.
    steps = find_risks(tuning)
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
