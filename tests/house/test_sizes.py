"""No function over 60 lines, no file over 500: one idea that fills a file is better than three to be read together."""

from __future__ import annotations

import ast
from pathlib import Path

MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 60


def _sources(root: Path) -> list[Path]:
    return sorted(path for room in ("curate", "train", "benchmarks", "samples") for path in (root / room).rglob("*.py"))


def test_no_file_is_too_long(root: Path) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in _sources(root)}
    assert lengths, "no source file was found"
    assert not {str(path.relative_to(root)): n for path, n in lengths.items() if n > MOST_LINES_OF_A_FILE}


def test_no_function_is_too_long(root: Path) -> None:
    too_long = {
        f"{path.relative_to(root)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in _sources(root)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    }
    assert not too_long


def test_no_folder_has_a_name_that_says_nothing(root: Path) -> None:
    empty_words = {"utils", "util", "common", "helpers", "helper", "core", "misc", "manager", "factory"}
    assert not [str(path) for path in _sources(root) if path.stem in empty_words or path.parent.name in empty_words]


def test_every_file_that_quick_leaves_out_is_there(root: Path) -> None:
    lines = (root / "tests" / "heavy.txt").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if not line.startswith("#")]
    assert names == sorted(set(names))
    assert [name for name in names if not (root / "tests" / name).is_file()] == []
