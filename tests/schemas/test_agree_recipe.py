"""`schemas/recipe.schema.json` and the Recipe say the same, in both directions, of each key; rules about several keys
are said by the reading alone."""

from __future__ import annotations

import json
import tomllib
from itertools import combinations
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from train.recipe import Recipe, recipe_schema, recipe_toml
from train.recipe.model import ALTERNATIVES

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "schemas" / "recipe.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)
# Each value is right for some key and wrong for others. No 1.0: JSON Schema takes it for an integer, a recipe does not.
VALUES = st.sampled_from(
    [
        "auto",
        "lora",
        "full",
        "sft",
        "refuse",
        "cut",
        "cpu",
        "cuda:1",
        "gpu",
        "linear",
        "",
        "x",
        None,
        True,
        False,
        -1,
        0,
        1,
        2,
        7,
        100,
        4096,
        10**12,
        0.5,
        1.5,
        -0.5,
        1e-4,
        [],
        [0.9, 0.99],
        [0.9],
        ["q_proj"],
        [1.5, 0.5],
        {},
        {"patience": 8},
        {"patience": 0},
        {"no": 1},
    ]
)
KEYS = [*Recipe.model_fields, "learning_rate"]


def _agree(value: Any) -> bool:
    try:
        Recipe.model_validate(value)
    except ValidationError as error:
        # A rule about several keys has no place of its own.
        is_rule = all(problem["loc"] == () for problem in error.errors())
        return is_rule or not VALIDATOR.is_valid(value)
    return bool(VALIDATOR.is_valid(value))


def test_the_file_is_made_from_the_model() -> None:
    assert recipe_schema() == SCHEMA, "write schemas/recipe.schema.json from train.recipe.recipe_schema()"


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
def test_schema_and_model_accept_the_same(value: dict[str, Any]) -> None:
    assert _agree(value)


@given(st.sampled_from(KEYS), VALUES)
def test_schema_and_model_agree_on_each_key(key: str, value: Any) -> None:
    assert _agree({key: value})


@pytest.mark.parametrize("pair", [pair for names in ALTERNATIVES for pair in combinations(names, 2)])
def test_two_that_say_one_thing_are_refused_by_the_reading(pair: tuple[str, str]) -> None:
    both: dict[str, Any] = {name: 0.5 if name == "warmup_ratio" else 100 for name in pair}
    with pytest.raises(ValidationError, match="give one of them"):
        Recipe.model_validate(both)
    assert all(VALIDATOR.is_valid({name: value}) for name, value in both.items())


def test_what_train_new_writes_fits_the_schema() -> None:
    assert VALIDATOR.is_valid(tomllib.loads(recipe_toml(Recipe())))
    assert all(VALIDATOR.is_valid(example) for example in SCHEMA["examples"])
