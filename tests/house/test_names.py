"""Names say what things are: no participle stands for a noun, and a class name has one meaning in a package."""

from __future__ import annotations

import ast
import collections
import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.sources import trees_of

VAGUE = frozenset(
    [
        "told",
        "kept",
        "found",
        "seen",
        "held",
        "one",
        "place",
        "places",
        "beside",
        "made",
        "asked",
        "shown",
        "judged",
        "learnt",
        "meant",
        "ran",
        "way",
        "look",
    ]
)
COMPOUNDS = ("held_out", "one_hot", "one_of", "one_line", "in_place", "n_way", "seen_events")
"""Terms of the field, or plain as they are, that have such a word in them."""
MOST = 0.01
"""The share of vague names that is let through: wire names are fields of classes, too."""


def _words(name: str) -> list[str]:
    """Return the words of a snake_case or CamelCase name, without the compounds that the field uses."""
    flat = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().strip("_")
    for compound in COMPOUNDS:
        flat = re.sub(rf"(^|_){compound}(_|$)", "_", flat)
    return flat.split("_")


def _bindings(tree: ast.Module) -> Iterator[str]:
    """Yield the name of each function, argument, class and assignment, locals too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
            yield from (argument.arg for argument in node.args.args + node.args.kwonlyargs)
        elif isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def test_words_are_told_apart() -> None:
    assert not VAGUE.intersection(_words("held_out_ids")) | VAGUE.intersection(_words("OneHot"))
    assert VAGUE.intersection(_words("rows_found")) == {"found"} == VAGUE.intersection(_words("RowsFound"))
    assert list(_bindings(ast.parse("def f(a):\n    with g() as b:\n        c = a\nclass D: pass"))) == [
        "f",
        "a",
        "D",
        "b",
        "c",
    ]


def test_names_say_what_things_are() -> None:
    for package in ("curate", "train"):
        names = collections.Counter(name for tree in trees_of(package).values() for name in _bindings(tree))
        assert names.total() > 1000, "the package was not found"
        vague = {name: count for name, count in names.items() if VAGUE.intersection(_words(name))}
        assert sum(vague.values()) < MOST * names.total(), f"{package}: {vague}"


def test_a_class_name_means_one_thing() -> None:
    for package in ("curate", "train"):
        places = collections.defaultdict(set)
        for path, tree in trees_of(package).items():
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    places[node.name.lstrip("_")].add(path)
        assert not {name: sorted(paths) for name, paths in places.items() if len(paths) > 1}


def test_no_file_has_the_name_of_a_function_of_its_folder(root: Path) -> None:
    """Whoever imports the file later would put it in the place of the function."""
    clashes = []
    for package in ("curate", "train"):
        for name, tree in trees_of(package).items():
            folder = (root / name).parent
            if Path(name).name == "__init__.py":
                own = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
                clashes += [f"{folder}/{file}.py" for file in own if (folder / f"{file}.py").exists()]
    assert not clashes


def test_no_module_or_folder_has_a_name_that_says_nothing() -> None:
    empty_words = {"utils", "util", "common", "helpers", "helper", "core", "misc", "manager", "factory"}
    names = [name for package in ("curate", "train") for name in trees_of(package)]
    assert not [name for name in names if empty_words.intersection(Path(name).with_suffix("").parts)]
