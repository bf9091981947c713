"""The main choices of a training recipe, read from its file and written back to it; all else in the file stays.

What a key means, its default and what it may be are those of `schemas/recipe.schema.json`: the trainer has the last
word on a recipe.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import MOST_SETTINGS, inside, read_file
from curate.base.record import CurateError, Json
from curate.base.resources import shipped
from curate.base.storage import write_atomic
from curate.project.data import ProjectData
from curate.schema.settings import FILE_NAME, settings_table, with_values, write_values

_KEYS = (
    "base", "method", "learning_rate", "num_train_epochs", "max_steps", "global_batch_size", "max_length",
    "on_too_long", "seed",
)  # fmt: skip
_NEW = "recipe.toml"


@dataclass(frozen=True, slots=True)
class RecipeField:
    """One key: what it means, its default as text, and its choices where it has some."""

    key: str
    about: str
    default: str
    choices: tuple[str, ...]
    schema: Mapping[str, Json]

    def parse(self, text: str) -> Json:
        """Return the value that ``text`` spells; raises E902, saying what the key takes."""
        from curate.schema import build_validator

        value: Json = text
        for kind in (float, int):
            with suppress(ValueError):
                value = kind(text)
        if not build_validator(dict(self.schema), {}).is_valid(value):
            raise CurateError("E902 bad-settings", f"{self.key} cannot be {one_line(text, 60)!r}", self.about)
        return value


@cache
def recipe_fields() -> tuple[RecipeField, ...]:
    """Return the main choices of a recipe, in the order in which people make them."""
    schema = json.loads(read_file(shipped("schemas") / "recipe.schema.json", most=MOST_SETTINGS))
    fields = []
    for key in _KEYS:
        part = schema["properties"][key]
        default = part.get("default")
        choices = tuple(map(str, part.get("enum", ())))
        fields.append(RecipeField(key, part["description"], "" if default is None else str(default), choices, part))
    return tuple(fields)


def read_recipe(data: ProjectData) -> dict[str, str]:
    """Return what the recipe of a workspace says of the main choices, as text; what it leaves out is not in there.

    Raises:
        CurateError: E902 for a recipe that is not TOML; E914 for one outside of the workspace.
    """
    name = data.settings.recipe
    if not name:
        return {}
    values = settings_table(data.root, name)
    return {key: str(values[key]) for key in _KEYS if key in values and not isinstance(values[key], dict | list)}


def write_recipe(data: ProjectData, changes: Mapping[str, str]) -> Path:
    """Write ``changes``, texts by key of which an empty one takes the default, into the recipe, and return its path.

    Comments, order and all else of the file stay. Where the workspace names no recipe, recipe.toml is made and
    curate.toml names it.

    Raises:
        CurateError: E902 for a value that the key does not take, or a file that cannot be changed in place; E906 when
            it cannot be written; E914 for a recipe outside of the workspace.
    """
    fields = {field.key: field for field in recipe_fields()}
    values = {key: fields[key].parse(text) if text else None for key, text in changes.items()}
    root, name = data.root, data.settings.recipe or _NEW
    path = inside(root, root / name)
    if data.settings.recipe:
        write_values(root, "", values, name)
        return path
    if path.exists():
        hint = f'Write recipe = "{_NEW}" into {FILE_NAME}, or move the file away.'
        raise CurateError("E902 bad-settings", f"{_NEW} is there, and {FILE_NAME} names no recipe", hint)
    # What is refused is so before anything is written.
    write_values(root, "", {"recipe": _NEW}, is_trial=True)
    write_atomic(path, [with_values("", "", values, name).encode()])
    write_values(root, "", {"recipe": _NEW})
    return path
