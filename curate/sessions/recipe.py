"""The main choices of a training recipe, read from its file and written back to it; all else in the file stays.

What a key means, its default and what it may be are those of `schemas/recipe.schema.json`: the trainer has the last
word on a recipe.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from curate.base.console import one_line
from curate.base.file_guard import MOST_SETTINGS, inside, read_file
from curate.base.record import CurateError, Json
from curate.base.resources import shipped
from curate.base.storage import write_atomic
from curate.project.data import ProjectData
from curate.schema.settings import FILE_NAME

_KEYS = ("base", "method", "lr", "epochs", "max_steps", "batch_size", "max_length", "on_too_long", "seed")
_NEW = "recipe.toml"
_BY_HAND = "Change the recipe by hand."


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
    values = _values(_text(data, name), name)
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
    name = data.settings.recipe or _NEW
    path = inside(data.root, data.root / name)
    if not data.settings.recipe and path.exists():
        hint = f'Write recipe = "{_NEW}" into {FILE_NAME}, or move the file away.'
        raise CurateError("E902 bad-settings", f"{_NEW} is there, and {FILE_NAME} names no recipe", hint)
    before = _text(data, name) if data.settings.recipe else ""
    after = _changed(before, values, name)
    settings = "" if data.settings.recipe else _changed(_text(data, FILE_NAME), {"recipe": _NEW}, FILE_NAME)
    write_atomic(path, [after.encode()])
    if settings:
        write_atomic(data.root / FILE_NAME, [settings.encode()])
    return path


def _changed(text: str, values: Mapping[str, Json], name: str) -> str:
    """Return ``text`` with other values at its top level, None for none; E902 where that would change more."""
    # Takes a tenth of a second, and only who writes needs it.
    import tomlkit

    wanted, line_end = _values(text, name), "\r\n" if "\r\n" in text else "\n"
    for key in values.keys() - wanted.keys():
        if values[key] is not None:
            text = _with_line(text, f"{key} = {tomlkit.item(values[key]).as_string()}{line_end}", line_end)
    document = tomlkit.parse(text)
    for key in values.keys() & wanted.keys():
        if values[key] is None:
            del document[key]
        else:
            document[key] = values[key]
    changed = tomlkit.dumps(document)
    if _values(changed, name) != {key: value for key, value in {**wanted, **values}.items() if value is not None}:
        message = f"{one_line(name)} cannot be changed without changing something else"
        raise CurateError("E902 bad-settings", message, _BY_HAND)
    return changed


def _with_line(text: str, line: str, line_end: str) -> str:
    # Above the first table and the comments that lead to it: tomlkit parts these from their table.
    lines = text.splitlines(keepends=True)
    index = next((number for number, other in enumerate(lines) if other.lstrip().startswith("[")), len(lines))
    while index and (not lines[index - 1].strip() or lines[index - 1].lstrip().startswith("#")):
        index -= 1
    if index and not lines[index - 1].endswith("\n"):
        lines[index - 1] += line_end
    return "".join([*lines[:index], line, *lines[index:]])


def _text(data: ProjectData, name: str) -> str:
    path = inside(data.root, data.root / name)
    try:
        return read_file(path, data.root, most=MOST_SETTINGS).decode()
    except (OSError, ValueError) as error:
        raise CurateError("E902 bad-settings", f"{one_line(name)}: {error}", _BY_HAND) from error


def _values(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise CurateError("E902 bad-settings", f"{one_line(name)} is not TOML: {error}", _BY_HAND) from error
