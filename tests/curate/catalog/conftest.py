"""What the tests of the catalogue share."""

from __future__ import annotations

import json

import pytest

from curate.project.data import ProjectData, load_data
from tests.curate.catalogs import LINES, age, line


@pytest.fixture
def workspace(make_workspace) -> ProjectData:
    """A workspace of two files with repeated ids and lines that are no records."""
    made = make_workspace(LINES)
    second = [line(2), line(7, category="billing"), {"id": "r002-2", "instruction": "odd", "output": ""}]
    text = "\n".join(["nonsense", "", *(json.dumps(one) for one in second), '{"id": 5}'])
    (made.root / "data" / "b.jsonl").write_text(f"{text}\r\n", encoding="utf-8")
    age(made.root)
    return load_data(made.root)
