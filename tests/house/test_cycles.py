"""No module imports itself by way of others, at no level: imports within functions and for type checkers count too.

import-linter leaves out what stands under TYPE_CHECKING, and such an import ties two files together all the same.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.house.sources import trees_of


def _name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _imports(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Return by module the modules among ``trees`` that it imports anywhere in its text, the nearest that exists."""
    found: dict[str, set[str]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            targets: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            for target in targets:
                while target and target not in trees:
                    target = target.rpartition(".")[0]
                if target and target != name:
                    found[name].add(target)
    return found


def _in_circles(imports: dict[str, set[str]]) -> set[str]:
    """Return the modules that can be reached from themselves."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = imports[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    return {name for name in imports if name in reached(name)}


def test_a_circle_is_seen_however_it_is_imported() -> None:
    texts = {
        "p.a": "def f():\n    from p.b import g",
        "p.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.c",
        "p.c": "from p import a, d",
        "p.d": "import os",
        "p": "",
    }
    assert _in_circles(_imports({name: ast.parse(text) for name, text in texts.items()})) == {"p.a", "p.b", "p.c"}


def test_no_room_has_a_circle_of_imports() -> None:
    trees = {_name(Path(path)): tree for path, tree in trees_of("curate", "train").items()}
    assert sorted(_in_circles(_imports(trees))) == []
