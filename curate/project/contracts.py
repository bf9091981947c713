"""The JSON Schemas that are made from models: curate.toml, journal lines, held-out records, datasets.

`schemas/` holds what this returns, byte for byte, so that programs in any language can check the files.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import ModuleType

from pydantic import TypeAdapter

from curate.base import events
from curate.base.record import CurateError, Json
from curate.formats import dataset as export
from curate.formats import import_plan
from curate.project import golden, held_out
from curate.schema.settings import model as settings
from curate.schema.settings import settings_adapter

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


_SOURCES: dict[str, tuple[Callable[[], Json], ModuleType, str]] = {
    "workspace": (
        lambda: settings_adapter().json_schema(),
        settings,
        "The settings of a workspace: curate.toml, read as JSON.",
    ),
    "journal": (events.EVENTS.json_schema, events, "One decision: the JSON of a journal line, after its checksum."),
    "import": (
        import_plan.Reading.model_json_schema,
        import_plan,
        "How a file was read: imports/NAME.toml of a workspace, for data/NAME.jsonl, read as JSON.",
    ),
    "golden": (golden.Golden.model_json_schema, golden, "The frozen test set of a workspace: golden.json."),
    "held_out": (
        held_out.HeldOut.model_json_schema,
        held_out,
        "The texts that datasets of a workspace have held out: held_out.json.",
    ),
    "dataset": (
        partial(export.Manifest.model_json_schema, by_alias=True),
        export,
        "The manifest of an exported dataset.",
    ),
    "dropped": (
        TypeAdapter(export.Dropped).json_schema,
        export,
        "A record that an export left out: a line of dropped.jsonl.",
    ),
}

NAMES = tuple(_SOURCES)


def contract(name: str) -> str:
    """Return the text of ``schemas/<name>.schema.json``.

    Raises:
        CurateError: E904 for a name that no model stands behind.
    """
    if name not in _SOURCES:
        hint = f"Known: {', '.join(NAMES)}."
        raise CurateError("E904 no-such-file", f"no model stands behind a schema {name!r}", hint)
    make, module, title = _SOURCES[name]
    schema = _tidied(make(), notes_of(module))
    return json.dumps({"$schema": _DIALECT, "title": title, **schema}, indent=2, ensure_ascii=False) + "\n"


def notes_of(module: ModuleType) -> dict[str, str]:
    """Return the docstring of each class of a module, and as CLASS.FIELD the string below each annotated field.

    Fields of a class that others are made from, whose name begins with _, are ``.FIELD``.
    """
    notes: dict[str, str] = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(node, ast.ClassDef):
            continue
        if doc := ast.get_docstring(node):
            notes[node.name] = doc
        for item, after in pairwise(node.body):
            match item, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    owner = "" if node.name.startswith("_") else node.name
                    notes[f"{owner}.{name.rstrip('_')}"] = inspect.cleandoc(text)
    return notes


def _tidied(node: Json, notes: dict[str, str]) -> Json:
    """Take out generated titles and what is not JSON Schema, and describe objects and their properties."""
    if isinstance(node, list):
        return [_tidied(part, notes) for part in node]
    if not isinstance(node, dict):
        return node
    # Before 2.13 pydantic does not describe dataclasses. The title of an object is the name of its class.
    if "properties" in node and "description" not in node and node.get("title") in notes:
        node = dict(sorted({**node, "description": notes[node["title"]]}.items()))
    tidy: dict[str, Json] = {}
    for key, part in node.items():
        if key == "properties":
            owner = node.get("title", "")
            tidy[key] = {name: _described(owner, name, _tidied(inner, notes), notes) for name, inner in part.items()}
        elif key == "$defs":
            tidy[key] = {name: _tidied(inner, notes) for name, inner in part.items()}
        elif key in ("default", "const", "enum", "required"):
            tidy[key] = part
        elif key not in ("title", "discriminator"):
            tidy[key] = _tidied(part, notes)
    return tidy


def _described(owner: str, name: str, schema: Json, notes: dict[str, str]) -> Json:
    note = notes.get(f"{owner}.{name}") or notes.get(f".{name}")
    return {"description": note, **schema} if note and "description" not in schema else schema
