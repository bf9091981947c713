"""A Recipe as a commented TOML file with every default in view, and as a digest."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from pydantic import BaseModel

from train.base.storage import digest_of
from train.recipe.model import Recipe


def recipe_toml(recipe: Recipe) -> str:
    """Return the recipe as TOML that reads back as the same recipe; each key carries its meaning above it."""
    lines = ["# A pairsmith recipe: every choice of the run. Keys that you remove take their defaults."]
    lines += _fields(recipe) + _sections(recipe)
    return "\n".join(lines) + "\n"


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe; `schemas/recipe.schema.json` holds it, and a test keeps them equal."""
    schema = Recipe.model_json_schema()
    # The one rule about two keys at once that is said here; the others are about methods, and the reading says them.
    both = {"batch_size": {"type": "integer"}, "batch_tokens": {"type": "integer"}}
    schema["not"] = {"required": sorted(both), "properties": both}
    schema["title"], schema["examples"] = "The recipe of a run.", [Recipe().model_dump(mode="json")]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256 of the recipe's canonical JSON."""
    return digest_of(recipe.model_dump(mode="json"))


def _sections(section: BaseModel, prefix: str = "") -> list[str]:
    lines: list[str] = []
    for name, inner in section:
        if isinstance(inner, BaseModel):
            lines += ["", f"[{prefix}{name}]", *_fields(inner), *_sections(inner, f"{prefix}{name}.")]
    return lines


def _fields(section: BaseModel) -> list[str]:
    lines: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            continue
        lines += ["", *(f"# {line}" for line in textwrap.wrap(field.description or "", 110))]
        # TOML has no null: a key that is off stands there as a comment.
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return repr(value)
