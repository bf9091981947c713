"""The documentation as a whole: its links, the pages that are made from the code, and the site that MkDocs builds."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from curate.cli import cli as curate_cli
from train.cli import cli as train_cli

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(`{3,}).*?^\1", re.DOTALL | re.MULTILINE)
_MOST_LINES_OF_THE_README = 250


@pytest.fixture(scope="module")
def reference(root: Path) -> ModuleType:
    """The generator of the reference pages, a file that MkDocs loads by its path."""
    spec = importlib.util.spec_from_file_location("docs_reference", root / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages(root: Path) -> list[Path]:
    return [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "benchmarks").glob("*.md")]


def test_the_readme_is_one_page(root: Path) -> None:
    assert len((root / "README.md").read_text(encoding="utf-8").splitlines()) <= _MOST_LINES_OF_THE_README


def test_a_link_between_documents_leads_somewhere(root: Path, reference: ModuleType) -> None:
    made = {root / "docs" / path for path in reference.PAGES}
    links = [
        (page, target.split("#")[0])
        for page in pages(root)
        for target in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
        if not target.startswith(("http", "#"))
    ]
    assert len(links) > 100
    targets = [(page, Path(os.path.normpath(page.parent / target))) for page, target in links]
    assert not [f"{page}: {target}" for page, target in targets if not target.exists() and target not in made]


def test_no_page_has_a_section_twice(root: Path) -> None:
    # As a merge leaves it where two branches wrote one section.
    headings = [
        (page.name, line)
        for page in pages(root)
        if page.name != "CHANGELOG.md"
        for line in _FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()
        if line.startswith("#")
    ]
    assert not [heading for heading, number in Counter(headings).items() if number > 1]


@pytest.mark.ci
def test_every_check_is_on_the_page_of_checks(reference: ModuleType) -> None:
    page = reference.render_checks()
    done = subprocess.run(
        [sys.executable, "-m", "curate", "rule", "--format", "json"], capture_output=True, text=True, check=True
    )
    rules = json.loads(done.stdout)
    assert len(rules) > 50
    titles = re.findall(r"^### (.*)\n\nSeverity: (.*)$", page, re.MULTILINE)
    assert sorted(titles) == sorted((f"{rule['code']} {rule['name']}", rule["severity"]) for rule in rules)
    truncated = page[page.index("### Q203") : page.index("### Q204")]
    assert '{"instruction": "Add 2 and 3.", "output": "5"}' in truncated.split("Is reported:")[0]
    assert "Here you are:" in truncated.split("Is reported:")[1]


@pytest.mark.parametrize(("name", "render"), [("recipe", "render_recipe"), ("workspace", "render_settings")])
def test_every_key_of_a_schema_is_on_its_page(name: str, render: str, root: Path, reference: ModuleType) -> None:
    page = getattr(reference, render)()
    schema: dict[str, Any] = json.loads((root / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    tables = [schema, *(table for table in schema["$defs"].values() if "properties" in table)]
    keys = [(key, value) for table in tables for key, value in table["properties"].items()]
    assert len(keys) > 40
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {line.split("`")[1] for line in rows} == {key for key, _ in keys}
    for _, value in keys:
        meaning = " ".join(value.get("description", "").split()).replace("|", "\\|")
        assert meaning in page


def test_a_recipe_key_has_values_default_and_meaning(reference: ModuleType) -> None:
    assert (
        "| `num_train_epochs` | integer ≥ 1, ≤ 1,000,000,000 | `2` | Passes over the training records. |"
        in reference.render_recipe()
    )
    assert '| `method` | `"lora"`, `"full"` | `"lora"` |' in reference.render_recipe()


def test_every_screen_and_its_keys_are_on_the_page_of_keys(reference: ModuleType) -> None:
    page = reference.render_keys()
    for title in ("Home", "Browse", "Edit", "Label", "Dedupe", "Split", "Validate", "Train", "Compare"):
        assert f"\n## {title}\n" in page
    for row in ("| `d` | Drop | `browse.drop` |", "| `u` | Undo | `app.undo` |", "| `space` | Mark | `table.mark` |"):
        assert row in page


@pytest.mark.parametrize(("program", "group"), [("curate", curate_cli), ("train", train_cli)])
def test_every_verb_has_its_options_and_a_place_in_the_guide(
    program: str, group: click.Group, root: Path, reference: ModuleType
) -> None:
    options = getattr(reference, f"render_{program}")()
    guide = "".join(page.read_text(encoding="utf-8") for page in (root / "docs" / "commands").glob("*.md"))
    for verb in group.list_commands(click.Context(group)):
        assert f"\n## {program} {verb}\n" in options
        assert re.search(rf"`(?:{program} )?{verb}`|^\$ {program} {verb}\b", guide, re.MULTILINE), verb


def test_the_page_of_the_architecture_names_every_room_in_the_order_of_its_arrows(root: Path) -> None:
    page = (root / "docs/architecture.md").read_text(encoding="utf-8")
    contracts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    for package in ("curate", "train"):
        (layers,) = [contract["layers"] for contract in contracts if contract.get("containers") == [package]]
        rooms = [room for layer in layers for room in layer.split(" | ") if (root / package / room).is_dir()]
        assert len(rooms) > 5
        table = page[page.index(f"| `{package}/` | what it holds |") :].split("\n\n")[0]
        assert re.findall(r"^\| `(\w+)/` ", table, re.MULTILINE)[1:] == rooms


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_a_path_that_a_page_about_the_code_names_is_there(name: str, root: Path) -> None:
    text = re.sub(r"<!-- file.*?^```$", "", (root / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    paths = set(re.findall(r"`((?:curate|train|tests|docs|schemas|samples|benchmarks)/[\w./]*)`", text))
    example = {"curate/checks/shouting.py"}
    assert len(paths) > 5
    assert not {path for path in paths - example if not (root / path).exists()}


def test_a_link_out_of_docs_leads_to_its_copy_on_the_site(reference: ModuleType) -> None:
    text = "[a](../benchmarks/README.md#speed) [b](start.md) [c](https://example.com/x.md)"
    links = "[a](repository/benchmarks/README.md#speed) [b](start.md) [c](https://example.com/x.md)"
    assert reference.site_links(text, "docs/index.md") == links
    assert reference.site_links("[d](docs/start.md)", "CONTRIBUTING.md") == "[d](../start.md)"
    assert reference.site_links("![e](../pictures/home.svg)", "docs/screens/home.md") == "![e](../pictures/home.svg)"


def build(folder: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of ``folder`` as `make docs` does; --quiet would count no warning, and so find no broken link."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(site)],
        cwd=folder, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip


@pytest.mark.ci
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    done = build(root, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    html = [page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")]
    assert len(html) > 30
    loaded = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*href=\"?(?:https?:)?//")
    assert not [found for page in html for found in loaded.findall(page)]


@pytest.mark.ci
def test_a_broken_link_stops_the_build(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra [docs]")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# One\n\n[a](nothing.md) [b](index.md#nowhere)\n", encoding="utf-8")
    settings = (root / "mkdocs.yml").read_text(encoding="utf-8")
    settings = re.sub(r"^(hooks|nav):\n(?:[ -].*\n)+", "", settings, flags=re.MULTILINE)
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert "nothing.md" in done.stderr
    assert "nowhere" in done.stderr
