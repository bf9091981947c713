"""What the tests of the Edit screen share: workspaces of a schema with every kind of field, and stories."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from curate.project.data import ProjectData, load_data
from curate.tui.app import CurateApp
from tests.curate.tui.edited import LINE, Settled, assert_what_is_seen_is_what_is_there

SCHEMA = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "id": {"type": "string"},
        "category": {"enum": ["billing", "returns", "account", "shipping", "tech"]},
        "level": {"enum": ["easy", "medium", "hard"], "description": "How hard it is."},
        "tags": {"type": "array", "items": {"type": "string"}},
        "langs": {"type": "array", "items": {"enum": ["en", "de", "fr"]}},
        "checked": {"type": "boolean"},
        "score": {"type": ["number", "null"], "minimum": 0},
        "messages": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/turn"}},
        "action": {
            "oneOf": [
                {"type": "object", "required": ["kind"], "properties": {"kind": {"const": "look"}, "q": {}}},
                {
                    "type": "object", "required": ["kind"],
                    "properties": {"kind": {"const": "pay"}, "sum": {"type": "number"}},
                },
            ]
        },
        "tree": {"$ref": "#/$defs/node"},
    },
    "$defs": {
        "turn": {
            "type": "object",
            "required": ["role", "content"],
            "properties": {
                "role": {"enum": ["system", "user", "assistant"]},
                "content": {"type": "string"},
                "name": {"type": "string"},
            },
        },
        "node": {"type": "object", "properties": {"word": {"type": "string"}, "left": {"$ref": "#/$defs/node"}}},
    },
    "x-record": {"id": "/id", "messages": "/messages", "category": "/category"},
}  # fmt: skip


@pytest.fixture
def make_own(make_workspace: Any) -> Callable[..., ProjectData]:
    """Return a function that makes a workspace of the schema above."""

    def make(lines: list[dict[str, Any]] | None = None, settings: str = "") -> ProjectData:
        plain = make_workspace(lines=[])
        (plain.root / "schema.json").write_text(json.dumps(SCHEMA), encoding="utf-8")
        (plain.root / "curate.toml").write_text(
            f'schema = "schema.json"\n{settings}\n[split]\nseed = 1\n', encoding="utf-8"
        )
        text = "".join(json.dumps(line) + "\n" for line in (lines or [LINE]))
        (plain.root / "data" / "a.jsonl").write_text(text, encoding="utf-8")
        return load_data(plain.root)

    return make


@pytest.fixture
def edit_story(make_app: Any, drive: Any, settled: Settled) -> Callable[..., CurateApp]:
    """Return a function that opens the Edit screen and tells a story there; `arrive` is what it is shown with."""

    def tell(
        workspace: ProjectData, story: Any, size: tuple[int, int] = (100, 30), by: str = "ana", **arrive: Any
    ) -> CurateApp:
        app = make_app(workspace, by=by)

        async def whole(pilot: Pilot[Any]) -> None:
            app.go("edit", **arrive)
            await settled(pilot)
            await story(pilot)
            await settled(pilot)
            assert_what_is_seen_is_what_is_there(pilot)

        drive(app, whole, size=size)
        return app

    return tell
