"""The pages of the documentation that are made from the program itself, so that they cannot disagree with it.

MkDocs loads this file as a hook. While the site is built it adds a reference of the checks, the recipe, the settings,
the keys and the commands, and the Markdown files of the repository that lie outside this folder. Nothing of it is
committed. Each `render_*` function returns Markdown and needs no MkDocs, so that tests can read what it says.
"""

from __future__ import annotations

import json
import posixpath
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page
    from textual.binding import Binding

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")
"""Markdown of the repository that the site shows under ``repository/``."""

_FAMILIES = {
    "S": "Strict JSON Lines and the schema",
    "Q": "Texts of a record",
    "X": "Personal data, secrets and control characters",
    "D": "Repeats",
    "P": "Splits and leaks",
    "L": "Labels and categories",
    "B": "Balance of the data set",
    "T": "Rules of a trainer",
    "R": "Runs",
}
_LINK = re.compile(r"(\]\()([^)\s#]+\.(?:md|svg|png))((?:#[^)\s]*)?\))")
_MOST_CHARACTERS = 300
_MOST_EXAMPLES = 3
_NUMBER = re.compile(r"_[0-9]+\Z")


def render_checks() -> str:
    """Return the page of all findings: code, severity, why, and examples, as `curate rule --format json` has them."""
    command = [sys.executable, "-m", "curate", "rule", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    rules: list[dict[str, Any]] = json.loads(done.stdout)
    lines = [
        "# Checks",
        "",
        "Every finding that `curate` can report. Each check carries its examples, which the tests run; the first"
        f" {_MOST_EXAMPLES} of each kind stand here, and `curate rule CODE` prints all of them.",
    ]
    for letter, title in _FAMILIES.items():
        family = [rule for rule in rules if rule["code"].startswith(letter)]
        lines += ["", f"## {title}"]
        for rule in family:
            lines += ["", f"### {rule['code']} {rule['name']}", "", f"Severity: {rule['severity']}", "", rule["help"]]
            lines += _examples("Passes", rule["good"]) + _examples("Is reported", rule["bad"])
    unknown = {rule["code"][0] for rule in rules} - set(_FAMILIES)
    if unknown:
        raise ValueError(f"docs/reference.py has no title for the codes that begin with {sorted(unknown)}")
    return "\n".join(lines) + "\n"


def _examples(title: str, examples: list[Any]) -> list[str]:
    shown = [text for example in examples[:_MOST_EXAMPLES] for text in _example_lines(example)]
    return ["", f"{title}:", "", "````text", *shown, "````"] if shown else []


def _example_lines(example: Any) -> list[str]:
    if isinstance(example, str):  # The bytes of a file: what cannot be seen stands as an escape.
        return [_short(line) for line in _visible(example).rstrip("\n").split("\n")]
    lines = example if isinstance(example, list) else [example]
    return [_short(_visible(json.dumps(line, ensure_ascii=False))) for line in lines]


def _visible(text: str) -> str:
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def render_recipe() -> str:
    """Return the page of the recipe: every key with its values, its default and its meaning."""
    opening = (
        "A recipe is a TOML or YAML file of these keys, for `train run --recipe`, `curate.toml` (`recipe = ...`) or"
        " `--set KEY=VALUE`. `train new` writes one with every key. What a file does not name has the default, and a"
        " key that does not exist is refused."
    )
    return _schema_page("Recipe", "recipe", opening)


def render_settings() -> str:
    """Return the page of curate.toml: every key with its values, its default and its meaning."""
    opening = (
        "`curate.toml` lies at the top of a workspace, and `curate init` writes every setting into it. A variable"
        " of the environment such as `CURATE_SPLIT__SEED=7` stands in for `split.seed`; `curate config show --origin`"
        " says where each value comes from."
    )
    return _schema_page("Settings", "workspace", opening)


def _schema_page(title: str, name: str, opening: str) -> str:
    schema = json.loads((ROOT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    tables = list(_tables("", schema, definitions))
    lines = [f"# {title}", "", opening, "", f"Made from `schemas/{name}.schema.json`."]
    for path, part in tables:
        lines += ["", f"## {f'`[{path}]`' if path else 'Top level'}", ""]
        if path and part.get("description"):
            lines += [part["description"], ""]
        lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
        for key, value in part["properties"].items():
            inner = _table_of(value, definitions)
            if inner is None:
                cells = [f"`{key}`", _values(value, definitions), _default(value), value.get("description", "")]
                lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
            else:
                anchor = f"{path}.{key}".lstrip(".")
                meaning = value.get("description") or inner.get("description", "")
                cells = [f"`{key}`", f"table `[{anchor}]`", "", meaning]
                lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _tables(path: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each table of a schema with its dotted name, the outer ones first."""
    yield path, schema
    for key, value in schema["properties"].items():
        inner = _table_of(value, definitions)
        if inner is not None:
            yield from _tables(f"{path}.{key}".lstrip("."), inner, definitions)
        entry = _table_of(value.get("additionalProperties"), definitions)
        if entry is not None:
            yield from _tables(f"{path}.{key}.NAME".lstrip("."), entry, definitions)
        entry = _table_of(value.get("items"), definitions)
        if entry is not None:
            yield from _tables(f"{path}.{key}[]".lstrip("."), entry, definitions)


def _table_of(value: Any, definitions: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the object that ``value`` refers to, also where null may stand in its place; None for other values."""
    if not isinstance(value, dict):
        return None
    for option in [value, *value.get("anyOf", ()), *value.get("allOf", ())]:
        resolved = definitions[option["$ref"].rsplit("/", 1)[1]] if "$ref" in option else option
        if "properties" in resolved:
            found: Mapping[str, Any] = resolved
            return found
    return None


def _values(value: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return in words what ``value``, a schema, allows."""
    if "$ref" in value:
        return _values(definitions[value["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_values(option, definitions) for option in value["anyOf"]))
    if "enum" in value:
        return ", ".join(f"`{json.dumps(option)}`" for option in value["enum"])
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    match value.get("type"):
        case "array":
            items = value.get("items", {})
            inner = "tables" if _table_of(items, definitions) else _values(items, definitions)
            return f"list of {inner}"
        case "object":
            return "table"
        case "null":
            return "unset"
        case kind:
            return f"{kind or 'any value'}{_bounds(value)}"


def _bounds(value: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {value[name]:,}" for name, sign in signs.items() if name in value]
    return f" {', '.join(bounds)}" if bounds else ""


def _default(value: Mapping[str, Any]) -> str:
    if "default" not in value:
        return ""
    return "unset" if value["default"] is None else f"`{json.dumps(value['default'])}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def render_keys() -> str:
    """Return the page of the keys: for each screen its own help and its keys, with the names that `[keys]` takes."""
    from textual.dom import DOMNode

    from curate.tui.app import CurateApp
    from curate.tui.context import UNTABBED
    from curate.tui.keys import bindings_of, own_subclasses
    from curate.tui.screens import TABS, screen_class

    screens = {tab: screen_class(tab.name) for tab in (*TABS, *UNTABBED)}
    lines = [
        "# Keys",
        "",
        "What `?` shows on each screen. The name in the last column changes a key: `[keys]` in curate.toml takes"
        ' `"browse.drop" = "x"`.',
        "",
        "## Everywhere",
        "",
        *_key_table(bindings_of([CurateApp])),
    ]
    for tab, screen in screens.items():
        help_text = re.sub(r"^# .*\n", "", screen.HELP.strip() + "\n").strip()
        keys = _key_table(bindings_of([screen]))
        lines += ["", f"## {tab.title}", "", f"`g` `{tab.key}` goes there.", "", help_text, "", *keys]
    listed = {binding.id for binding in bindings_of([CurateApp, *screens.values()])}
    others = [binding for binding in bindings_of(own_subclasses(DOMNode)) if binding.id and binding.id not in listed]
    lines += ["", "## In tables, forms and dialogs", "", *_key_table(others)]
    return "\n".join(lines) + "\n"


def _key_table(bindings: Iterable[Binding]) -> list[str]:
    from curate.tui.keys import key_name

    # Keys that are numbered, such as those of answers, share a row.
    rows: dict[str, list[Binding]] = {}
    for binding in bindings:
        rows.setdefault(_NUMBER.sub("", binding.id or binding.action), []).append(binding)
    table = ["| key | does | name |", "|---|---|---|"]
    for group in rows.values():
        keys = " ".join(f"`{_cell(key_name(binding.key))}`" for binding in group)
        names = list(dict.fromkeys(binding.id for binding in group if binding.id))
        shown = " to ".join(f"`{name}`" for name in (names if len(names) < 2 else [names[0], names[-1]]))
        table.append(f"| {keys} | {_cell(group[0].description)} | {shown} |")
    return table


def render_curate() -> str:
    """Return the page of all verbs of `curate` with their options."""
    from curate.cli import cli

    return _commands_page("curate", cli)


def render_train() -> str:
    """Return the page of all verbs of `train` with their options."""
    from train.cli import cli

    return _commands_page("train", cli)


def _commands_page(program: str, group: click.Group) -> str:
    lines = [f"# {program}: all options", "", f"What `{program} VERB --help` prints."]
    lines += [line for words, command in _commands((program,), group) for line in _command(words, command)]
    return "\n".join(lines) + "\n"


def _commands(words: tuple[str, ...], group: click.Group) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from _commands((*words, name), command)


def _command(words: tuple[str, ...], command: click.Command) -> list[str]:
    context = click.Context(command, info_name=" ".join(words), max_content_width=100, terminal_width=100)
    return ["", f"{'#' * len(words)} {' '.join(words)}", "", "```text", command.get_help(context).rstrip(), "```"]


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/checks.md": render_checks,
    "reference/recipe.md": render_recipe,
    "reference/settings.md": render_settings,
    "reference/keys.md": render_keys,
    "reference/curate.md": render_curate,
    "reference/train.md": render_train,
}
"""The pages that exist on the site only, by their path in it."""


def site_links(markdown: str, source: str) -> str:
    """Return ``markdown`` of the file ``source``, a path in the repository, with its links as the site needs them.

    A link is relative to the file that it stands in, so that it also works where the repository is read.
    """
    here = posixpath.dirname(_site_path(source))

    def replaced(match: re.Match[str]) -> str:
        target = match[2]
        if ":" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        return f"{match[1]}{posixpath.relpath(_site_path(path), here or '.')}{match[3]}"

    return _LINK.sub(replaced, markdown)


def _site_path(path: str) -> str:
    """Return where a file of the repository stands in the site."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here; MkDocs calls it."""
    from mkdocs.structure.files import File

    for path, render in PAGES.items():
        files.append(File.generated(config, path, content=render()))
    for path in OUTSIDE:
        content = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, f"repository/{path}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page those of the site; MkDocs calls it."""
    path = page.file.src_uri
    source = path.removeprefix("repository/") if path.startswith("repository/") else f"docs/{path}"
    return site_links(markdown, source)
