"""Codes are API: one code has one name, in both packages, and is never used for two things."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

_ERROR = re.compile(r'"(E[89]\d\d) ([a-z-]+)"')


def test_an_error_code_has_one_name(root: Path) -> None:
    names: dict[str, set[str]] = defaultdict(set)
    for path in [*(root / "curate").rglob("*.py"), *(root / "train").rglob("*.py")]:
        for code, name in _ERROR.findall(path.read_text(encoding="utf-8")):
            names[code].add(name)
    assert names, "no error code was found"
    assert not {code: found for code, found in names.items() if len(found) > 1}


def test_a_finding_code_has_one_name() -> None:
    from curate.checks import discover
    from curate.jsonl import FAULTS

    shelves = [(c.code, c.name) for c in discover().values()] + [(f.code, f.name) for f in FAULTS.values()]
    assert len({code for code, _ in shelves}) == len(shelves)
    assert len({name for _, name in shelves}) == len(shelves)
