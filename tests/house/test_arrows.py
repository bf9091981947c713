"""Who may load what, seen at run time: each module is imported in a fresh interpreter and `sys.modules` is looked at.

import-linter (see pyproject.toml) proves the arrows inside each room; this proves that nothing heavy comes in by a side
door, such as a library that imports another.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.sources import ROOT, trees_of

NEVER_IN_CURATE = {"torch", "transformers", "train", "datasets", "pandas", "scipy"}
NEVER_AT_START = {"polars", "textual", "rich", "numpy", "sklearn", "pyarrow", "genson", "jinja2"}
# What a file of no workspace needs neither, and a small one not: it has no settings to check and no second process.
NEVER_FOR_A_FILE = {"pydantic", "pydantic_core", "multiprocessing", "concurrent", "asyncio"}
# Nor what asks git and trainers, what writes files, and what guesses which word was meant.
NEVER_FOR_A_GOOD_FILE = {"subprocess", "tempfile", "shutil", "difflib", "tomllib"}
NEVER_IN_TRAIN = {"curate", "textual", "polars", "jsonschema", "jsonschema_rs", "datasets"}


def _modules(room: str) -> list[str]:
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / room).rglob("*.py"))
    names = (".".join(path.parts).removesuffix(".__init__") for path in files)
    return sorted(name for name in names if not name.endswith("__main__"))


def _loaded_by(statement: str) -> set[str]:
    """Run ``statement`` in a fresh interpreter and return the top-level names it loaded; its output is dropped."""
    program = (
        "import contextlib, io, json, sys\nwith contextlib.redirect_stdout(io.StringIO()):\n    "
        + statement.replace("\n", "\n    ")
        + "\nprint(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    return {name.split(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.ci
def test_no_room_of_curate_loads_what_trains() -> None:
    loaded = _loaded_by("\n".join(f"import {name}" for name in _modules("curate")))
    assert not loaded & NEVER_IN_CURATE


@pytest.mark.ci
def test_train_loads_only_what_a_gpu_box_has() -> None:
    loaded = _loaded_by("\n".join(f"import {name}" for name in _modules("train")))
    assert not loaded & NEVER_IN_TRAIN


@pytest.mark.ci
def test_validate_starts_light() -> None:
    sample = ROOT / "samples" / "support_desk.jsonl"
    loaded = _loaded_by(f"import curate.cli\ncurate.cli.cli.main(['validate', {str(sample)!r}], standalone_mode=False)")
    assert "jsonschema_rs" in loaded, "nothing was validated"
    assert not loaded & (NEVER_IN_CURATE | NEVER_AT_START | NEVER_FOR_A_FILE)


def test_a_good_file_outside_of_git_loads_nothing_for_trouble(tmp_path: Path) -> None:
    path = tmp_path / "good.jsonl"
    path.write_text('{"instruction": "What?", "output": "That."}\n', encoding="utf-8")
    loaded = _loaded_by(f"import curate.cli\ncurate.cli.cli.main(['validate', {str(path)!r}], standalone_mode=False)")
    assert "jsonschema_rs" in loaded, "nothing was validated"
    assert not loaded & NEVER_FOR_A_GOOD_FILE


@pytest.mark.ci
def test_a_workspace_is_opened_light(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "curate.toml").write_text('data = ["data/*.jsonl"]\n', encoding="utf-8")
    line = '{"instruction": "What?", "output": "That.", "category": "billing"}\n'
    (tmp_path / "data" / "a.jsonl").write_text(line, encoding="utf-8")
    for verb in ("validate", "list", "log"):
        loaded = _loaded_by(
            f"import curate.cli\ncurate.cli.cli.main([{verb!r}, {str(tmp_path)!r}], standalone_mode=False)"
        )
        assert "pydantic" in loaded, "no settings were read"
        assert not loaded & (NEVER_IN_CURATE | NEVER_AT_START)


def test_home_is_painted_before_what_takes_long_is_loaded() -> None:
    loaded = _loaded_by("import curate.tui.app\nimport curate.tui.screens.home")
    assert "textual" in loaded
    assert not loaded & (NEVER_IN_CURATE | {"pydantic", "jsonschema_rs", "orjson", "polars", "numpy", "pyarrow"})


def test_the_python_api_is_loaded_when_it_is_used() -> None:
    loaded = _loaded_by("import curate\nassert len(curate.__all__) == 14")
    assert not loaded & (NEVER_IN_CURATE | NEVER_AT_START | {"pydantic", "jsonschema_rs", "click", "orjson"})
    loaded = _loaded_by("import curate\ncurate.open, curate.Label, curate.Record, curate.Finding, curate.CurateError")
    assert "pydantic" in loaded
    assert not loaded & (NEVER_IN_CURATE | NEVER_AT_START - {"genson"})


@pytest.mark.parametrize("room", ["curate", "train"])
def test_help_starts_light(room: str) -> None:
    loaded = _loaded_by(f"import {room}.cli\n{room}.cli.cli.main(['--help'], standalone_mode=False)")
    assert "click" in loaded
    assert not loaded & (NEVER_IN_CURATE - {room} | NEVER_AT_START | NEVER_FOR_A_FILE | {"orjson", "jsonschema_rs"})


@pytest.mark.ci
def test_somebody_takes_what_a_package_offers() -> None:
    imports = [
        (ROOT / path, node.module, alias.name)
        for path, tree in trees_of("curate", "train", "tests", "benchmarks").items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    taken = {(package, name) for path, package, name in imports}
    idle = []
    for path, module, name in imports:
        package = ".".join(path.relative_to(ROOT).parent.parts)
        # The names of the two public interfaces are for users, and loaded when they are first used.
        if path.name != "__init__.py" or package in ("curate", "train") or not f"{module}.".startswith(f"{package}."):
            continue
        text = path.read_text()
        if (package, name) not in taken and len(re.findall(rf"\b{name}\b", text)) == 1:
            idle.append(f"{package}: {name}")
    assert idle == []
