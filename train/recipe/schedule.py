"""The "auto" numbers of a recipe, and the learning rate of each step."""

from __future__ import annotations

import math

from train.recipe import PREFERENCES, Recipe

FEWEST_WARMUP, WARMUP_SHARE = 10, 0.03
VALIDATIONS_OF_A_RUN = 4
BASE_LR, FULL_LR = 5e-4, 2e-5
PREFERENCE_SHARE = 0.1
"""Of the automatic rate, where answers are compared: such a loss is met by pushing both of a pair far down."""
NARROW, NARROW_LORA_LR, HIGHEST_NARROW_FULL_LR = 512, 1e-3, 3e-3


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
        return narrow if hidden_size < NARROW else FULL_LR
    if hidden_size < NARROW:
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
    return min(max(FEWEST_WARMUP, round(WARMUP_SHARE * num_steps)), num_steps // 2)


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


def betas(recipe: Recipe) -> tuple[float, float]:
    """Return AdamW's betas."""
    beta2 = 0.999 if recipe.method == "lora" else 0.95
    return (
        0.9 if recipe.adam_beta1 == "auto" else recipe.adam_beta1,
        beta2 if recipe.adam_beta2 == "auto" else recipe.adam_beta2,
    )


def validation_steps(recipe: Recipe, num_steps: int) -> int:
    """Return how many steps lie between validations."""
    every = recipe.eval_steps
    return -(-num_steps // VALIDATIONS_OF_A_RUN) if every == "auto" else every


def validations_from(recipe: Recipe, step: int, num_steps: int) -> int:
    """Return how many validations come after step ``step`` (from 1) or a later one; the last step has one."""
    every = validation_steps(recipe, num_steps)
    return (num_steps - 1) // every - (step - 1) // every + 1


def checkpoint_steps(recipe: Recipe, num_steps: int) -> int:
    """Return how many steps lie between checkpoints."""
    every = recipe.save_steps
    return validation_steps(recipe, num_steps) if every == "auto" else every
