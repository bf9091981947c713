"""The recipe of a run: every choice that changes the result, with its default in view."""

from train.recipe.files import (
    build_recipe,
    load_recipe,
    parse_value,
    read_recipe_values,
    recipe_digest,
    recipe_schema,
    recipe_toml,
)
from train.recipe.model import (
    PREFERENCES,
    SHIPPED_TEXT,
    Checkpointing,
    GuardRecipe,
    JudgeRecipe,
    MixingRecipe,
    Objective,
    PreferenceRecipe,
    Reasoning,
    Recipe,
    StageRecipe,
)
