"""The text of `curate.toml`: every setting with its default in sight and a comment that says what it does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, asdict, fields, is_dataclass
from typing import Any

import tomlkit
from tomlkit.items import Table

from curate.base.record import Json
from curate.project.given_answers import questions_array
from curate.schema.settings import CheckSettings, Question, Settings, SplitSettings, model

_NO_CATEGORIES = (
    "The categories that records are scored under, each with its metric. While none is listed, any is accepted.",
    "[categories.billing]",
    'scorer = "exact"',
)


def settings_text(
    *,
    schema: str,
    seed: int,
    categories: Mapping[str, str],
    options: Mapping[str, Mapping[str, Json]] | None = None,
    ratios: tuple[float, float, float] | None = None,
    recipe: str = "",
    allow_refusals: tuple[str, ...] = (),
    questions: Sequence[Question] = (),
    group: str = "",
) -> str:
    """Return `curate.toml` for a workspace whose ``categories`` map to the names of their scorers.

    ``options`` are those of a category's scorer.
    """
    # The descriptions are those of `curate config schema`.
    from curate.project.contracts import notes_of

    split = SplitSettings(seed=seed, group=group, ratios=ratios or SplitSettings.ratios)
    checks = CheckSettings(allow_refusals=list(allow_refusals))
    settings = Settings(schema_=schema, recipe=recipe, checks=checks, split=split)
    values, notes = asdict(settings), notes_of(model)
    if questions:
        values["label"]["questions"] = questions_array(questions)
    document = tomlkit.document()
    document.add(tomlkit.comment("Settings of this workspace. Every setting is listed; what you see is its value."))
    # A key below a table would be the table's.
    for part in sorted(fields(Settings), key=lambda part: isinstance(values[part.name], dict)):
        own = getattr(settings, part.name)
        if part.name != "categories":
            note = notes[type(own).__name__] if is_dataclass(own) else notes[f"Settings.{_key(part)}"]
            document.add(tomlkit.nl())
            document.add(tomlkit.comment(note))
            value = values[part.name]
            document.add(_key(part), _section(own, value, notes) if isinstance(value, dict) else tomlkit.item(value))
    document.add(tomlkit.nl())
    if categories:
        document.add(
            tomlkit.comment("The categories found in the data, each with a guess at its metric: look them through.")
        )
        about = {name: {"options": of} for name, of in (options or {}).items()}
        document.add(
            "categories",
            tomlkit.item({name: {"scorer": scorer, **about.get(name, {})} for name, scorer in categories.items()}),
        )
    else:
        for line in _NO_CATEGORIES:
            document.add(tomlkit.comment(line))
    # tomlkit puts a blank line before each section; the comment about the section belongs right above it.
    return re.sub(r"^(# .*)\n\n\[", r"\1\n[", tomlkit.dumps(document), flags=re.MULTILINE)


def _key(part: Field[Any]) -> str:
    return str(part.metadata.get("alias", part.name))


def _section(own: Any, values: Mapping[str, Json], notes: Mapping[str, str]) -> Table:
    table = tomlkit.table()
    for part in fields(own) if is_dataclass(own) else ():
        value = values[part.name]
        table.add(tomlkit.comment(notes[f"{type(own).__name__}.{part.name}"]))
        if isinstance(value, dict):
            # An empty table in a table would be a section of its own; inline it stays beside its comment.
            inline = tomlkit.inline_table()
            inline.update(value)
            value = inline
        table.add(part.name, tomlkit.item(list(value) if isinstance(value, tuple) else value))
    return table
