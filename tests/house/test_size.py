"""How much there is to hold in the head: no room is larger than its ceiling, no function or file longer than is read.

Tokens are Python's own without comments, docstrings and line ends, so that layout cannot change them. Nodes are those
of the syntax tree without docstrings; they see into f-strings. Words are those of templates and style sheets.

A ceiling goes down to what was reached when a piece of work ends. Denser lines are no way to meet one.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.house.sources import parse, trees_of


class Size(NamedTuple):
    """Code tokens, syntax nodes and words of templates."""

    tokens: int
    nodes: int
    words: int


CEILINGS = {
    "curate": Size(401, 233, 0),
    "curate/base": Size(11_136, 7_917, 0),
    "curate/checks": Size(55_588, 37_202, 594),
    "curate/cli": Size(51_826, 36_506, 0),
    "curate/formats": Size(60_496, 42_363, 0),
    "curate/jsonl": Size(9_445, 6_742, 0),
    "curate/project": Size(76_115, 52_088, 0),
    "curate/scale": Size(5_490, 3_568, 0),
    "curate/schema": Size(25_223, 17_597, 0),
    "curate/sessions": Size(82_934, 56_629, 0),
    "curate/similarity": Size(27_385, 18_302, 0),
    "curate/tui": Size(108_170, 73_570, 338),
    "train": Size(147, 89, 0),
    "train/base": Size(5_631, 4_024, 0),
    "train/cli": Size(6_783, 4_342, 0),
    "train/contestants": Size(11_459, 7_807, 0),
    "train/data": Size(20_195, 14_165, 0),
    "train/evaluate": Size(15_517, 10_615, 0),
    "train/loop": Size(7_314, 4_970, 0),
    "train/model": Size(18_165, 12_147, 0),
    "train/pipeline": Size(24_360, 17_162, 0),
    "train/recipe": Size(4_894, 3_644, 0),
    "train/report": Size(31_051, 22_103, 1_267),
    "tests": Size(676_813, 445_468, 0),
}
MAX_LINES_OF_A_FUNCTION = 60
MAX_LINES_OF_A_FILE = 700

_MEASURED = ("curate", "train", "benchmarks", "samples")
_TEMPLATES = (".j2", ".tcss", ".css", ".html")
_LAYOUT = frozenset(
    [tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER]
)
_SIGNS = (ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop)


def _docstrings(tree: ast.AST) -> set[tuple[int, int]]:
    """Return the line and column of each string that stands alone as a statement."""
    return {
        (node.lineno, node.col_offset)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def _measure(text: str, tree: ast.Module) -> Size:
    docstrings = _docstrings(tree)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return Size(
        sum(token.type not in _LAYOUT and token.start not in docstrings for token in tokens),
        sum(not isinstance(node, _SIGNS) for node in ast.walk(tree)) - len(docstrings),
        0,
    )


def _size_of(room: str, root: Path) -> Size:
    """Return the size of a room: all below its folder, or the files of a package that lie in none of its rooms."""
    folder = root / room
    files = folder.glob("*") if room in ("curate", "train") else folder.rglob("*")
    sizes = [_measure(path.read_text(encoding="utf-8"), parse(path)) for path in files if path.suffix == ".py"]
    templates = [path.read_text(encoding="utf-8") for path in folder.rglob("*") if path.suffix in _TEMPLATES]
    words = sum(len(text.split()) for text in templates) if "/" in room or room == "tests" else 0
    return Size(sum(size.tokens for size in sizes), sum(size.nodes for size in sizes), words)


def test_layout_comments_and_docstrings_are_not_counted() -> None:
    plain, dressed = '"""Doc."""\nx = 1\n', '"""Doc.\n\nMore."""\n\n# Why.\nx =   1  # So.\n'
    assert _measure(plain, ast.parse(plain)) == _measure(dressed, ast.parse(dressed)) == Size(3, 5, 0)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the tokens of an f-string are counted as Python 3.11 has them")
@pytest.mark.parametrize("room", CEILINGS)
def test_no_room_is_larger_than_its_ceiling(room: str, root: Path) -> None:
    size, ceiling = _size_of(room, root), CEILINGS[room]
    assert size.tokens, f"no code was found in {room}"
    assert all(figure <= most for figure, most in zip(size, ceiling, strict=True)), f"{room}: {size} is over {ceiling}"


def test_every_room_has_a_ceiling(root: Path) -> None:
    rooms = {f"{path.parent.parent.name}/{path.parent.name}" for path in root.glob("[ct]*/*/__init__.py")}
    assert {room for room in rooms if room.startswith(("curate/", "train/"))} == {
        room for room in CEILINGS if "/" in room
    }


def test_no_file_is_too_long(root: Path) -> None:
    lengths = {path: (root / path).read_text(encoding="utf-8").count("\n") for path in trees_of(*_MEASURED)}
    assert not {path: lines for path, lines in lengths.items() if lines > MAX_LINES_OF_A_FILE}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, tree in trees_of(*_MEASURED).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES_OF_A_FUNCTION}
