"""The syntax trees of our own code; a process parses each file once, which takes as long as half of the tests here."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file; it is shared, so leave it as it is."""
    return ast.parse(path.read_text(encoding="utf-8"))


def trees_of(*folders: str) -> dict[str, ast.Module]:
    """Return the syntax trees of all modules below ``folders`` of the repository, by their paths in it."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert paths, f"no module was found in {folders}"
    return {str(path.relative_to(ROOT)): parse(path) for path in paths}
