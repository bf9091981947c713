"""The recipe of a run: every choice that changes the result, with its default in view."""

from train.recipe.model import (
    SHIPPED_TEXT,
    CheckpointRecipe,
    EvalRecipe,
    GuardRecipe,
    JudgeRecipe,
    LoraRecipe,
    MixingRecipe,
    Objective,
    Recipe,
)
from train.recipe.read import build_recipe, load_recipe, read_values
from train.recipe.write import recipe_digest, recipe_schema, recipe_toml

__all__ = [
    "CheckpointRecipe",
    "EvalRecipe",
    "GuardRecipe",
    "JudgeRecipe",
    "LoraRecipe",
    "MixingRecipe",
    "Objective",
    "Recipe",
    "SHIPPED_TEXT",
    "build_recipe",
    "load_recipe",
    "read_values",
    "recipe_digest",
    "recipe_schema",
    "recipe_toml",
]
