"""Recipes: precedence, faults with their places, nothing coerced, and every default in view."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.base.errors import TrainError
from train.recipe import Recipe, build_recipe, load_recipe, parse_value, recipe_digest, recipe_toml


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('seed = 1\nnum_train_epochs = 5\nbase = "a"\nlora_r = 4\nlora_alpha = 8\n', encoding="utf-8")
    recipe = load_recipe(file, ["num_train_epochs=7", "lora_r=2", "adam_beta2=0.95"], "b")
    assert (recipe.seed, recipe.num_train_epochs, recipe.base) == (1, 7, "b")
    assert (recipe.lora_r, recipe.lora_alpha, recipe.adam_beta2) == (2, 8, 0.95)
    assert load_recipe(None) == Recipe()


def test_what_train_new_writes_has_every_key_and_reads_back(tmp_path: Path) -> None:
    recipe = load_recipe(
        None, ["learning_rate=0.005", "max_steps=9", 'lora_target_modules=["q_proj"]', "eval.general=a/general.jsonl"]
    )
    file = tmp_path / "recipe.toml"
    file.write_text(recipe_toml(recipe), encoding="utf-8")
    assert load_recipe(file) == recipe
    text = recipe_toml(Recipe())
    keys = [*Recipe.model_fields, "during_training", "plateau"]
    assert not [key for key in keys if f"{key} =" not in text and f"[{key}]" not in text]


def test_every_fault_is_listed_with_its_key(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('num_train_epochs = 0\nleraning_rate = 1\nlora_r = "16"\n[guard]\npatence = 2\n', encoding="utf-8")
    with pytest.raises(TrainError) as caught:
        load_recipe(file, ["seed=x"])
    message = caught.value.message
    assert caught.value.code == "E920 bad-recipe"
    assert "recipe.toml: num_train_epochs" in message
    assert "recipe.toml: unknown key 'leraning_rate': did you mean 'learning_rate'?" in message
    assert "recipe.toml: lora_r" in message
    assert "recipe.toml: unknown key 'guard.patence': did you mean 'guard.patience'?" in message
    assert "\n  --set: seed must be" in message


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("r.toml", "[guard]\npatience = 4\n\n[mixing]\ntemperature = 0\n", "mixing.temperature"),
        ("r.toml", "[eval.judge]\nurl = 7\n[eval]\nmargin = 0.1\n", "eval.judge.url"),
        ("r.toml", 'seed = 1\n[preference]\nloss = "ipo"\nlabel_smoothing = 0.1\n', "preference"),
        ("r.yaml", "eval:\n  margin: 0.1\nguard:\n  patience: 0\n", "guard.patience"),
    ],
)
def test_a_fault_is_named_by_its_dotted_key(tmp_path: Path, name: str, text: str, key: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(TrainError) as caught:
        load_recipe(tmp_path / name)
    assert caught.value.message.startswith(f"{name}: {key}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-4", 1e-4),
        ("true", True),
        ('["q"]', ["q"]),
        ("{a = 1}", {"a": 1}),
        ("full", "full"),
        ("", None),
        ("a b", "a b"),
    ]
    + [(word, word) for word in ("no", "010", "1.", "True", "[q]", "a = 1\nb = 2", "1\nb = 2")],
)
def test_a_setting_is_a_value_of_toml_or_else_text(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    ["a: !!int 1", "a: !x 1", "a: &b [*b]", "a: &b 1\nc: *b", "- 1", "1: a", "? [a]\n: 1", "a: 1\n---\nb: 2", "a: [",
     "seed: 2024-01-01", "seed: no", "seed: 1\nseed: 1", "%YAML 9.9\n---\na: 1"],
)  # fmt: skip
def test_yaml_that_surprises_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(TrainError) as caught:
        load_recipe(tmp_path / "r.yaml")
    assert caught.value.message.startswith("r.yaml:")


def test_yaml_means_what_yaml_1_1_says(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("seed: 010\nuse_dora: yes\nlearning_rate: 1.0e-4\n", encoding="utf-8")
    recipe = load_recipe(tmp_path / "r.yaml")
    assert (recipe.seed, recipe.use_dora, recipe.learning_rate) == (8, True, 1e-4)
    (tmp_path / "r.yaml").write_text("learning_rate: 1e-4\n", encoding="utf-8")
    with pytest.raises(TrainError, match=r"as in 1\.0e-4"):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/passwd"])
def test_a_path_in_a_recipe_stays_in_its_project(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "curate.toml").touch()
    file = tmp_path / "a" / "recipe.toml"
    file.write_text(f'[eval]\ngeneral = "{name}"\n', encoding="utf-8")
    with pytest.raises(TrainError, match="out of the project 'a'; a recipe in a folder above may name it"):
        load_recipe(file)
    file.write_text('[eval]\ngeneral = "texts/general.jsonl"\n', encoding="utf-8")
    assert load_recipe(file).eval.general == "texts/general.jsonl"


def test_a_rubric_that_no_request_can_hold_is_refused() -> None:
    with pytest.raises(TrainError, match=r"eval.judge.rubric must be a valid string"):
        build_recipe({"eval": {"judge": {"rubric": "better \ud800"}}})


def test_two_sizes_of_a_step_contradict() -> None:
    with pytest.raises(TrainError, match="give one of them"):
        load_recipe(None, ["global_batch_size=8", "per_device_train_batch_size=4"])


def test_the_digest_follows_the_values() -> None:
    assert recipe_digest(Recipe()) == recipe_digest(load_recipe(None, ["num_train_epochs=2"]))
    assert recipe_digest(Recipe()) != recipe_digest(load_recipe(None, ["num_train_epochs=3"]))
