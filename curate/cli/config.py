"""`curate config`: what the settings are, where each one was set, and what they may be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from curate.base import console
from curate.base.record import CurateError, Exit, Json
from curate.cli._output import print_lines

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_DIR = click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path))


@click.group()
def command() -> None:
    """Show the settings of a workspace, trust its plug-ins, or show the schemas of the files that it reads and writes.

    Settings come from curate.toml; a variable such as CURATE_SPLIT__SEED=7 stands in for split.seed.

    Example: curate config show my-data --origin
    """


@command.command("show")
@_DIR
@click.option("--origin", is_flag=True, help="Say where each setting was set: default, curate.toml:LINE or a variable.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON instead of TOML.")
def show(root: Path, origin: bool, is_json: bool) -> int:
    """Print every setting with the value that holds, as TOML; unset ones are left out.

    Example: curate config show my-data --origin
    """
    import tomlkit

    from curate.project.project import open_project
    from curate.schema.settings import foreign_variables, origins, settings_adapter

    settings = open_project(root).settings
    values = settings_adapter().dump_python(settings, mode="json", by_alias=True, exclude_none=True)
    for name in foreign_variables():
        console.talk(f"not a setting: {console.one_line(name)}")
    if origin:
        rows = list(_rows(values, origins(root)))
        if is_json:
            text = json.dumps([dict(zip(("key", "value", "origin"), row, strict=True)) for row in rows], indent=2)
        else:
            spelled = (
                (key, tomlkit.item(value).as_string() if value != {} else "{}", source) for key, value, source in rows
            )
            text = "\n".join(f"{key} = {value}  # {source}" for key, value, source in spelled)
    else:
        text = json.dumps(values, indent=2) if is_json else tomlkit.dumps(values)
    # A setting is text of the user, and a terminal must not obey it.
    for line in text.rstrip("\n").split("\n"):
        console.data(console.visible(line))
    return Exit.OK


@command.command("validate")
@_DIR
def validate(root: Path) -> int:
    """Read the settings, the schema and what else they name, and say whether a command could work with them.

    Example: curate config validate my-data
    """
    from curate.base.file_guard import inside
    from curate.checks.runner import select_checks
    from curate.project.project import open_project

    project = open_project(root)
    settings = project.settings
    select_checks(settings)
    for key, name in (("recipe", settings.recipe), ("dedupe.encoder", settings.dedupe.encoder)):
        if name and not inside(root, root / name).exists():
            raise CurateError(
                "E902 bad-settings", f"{key}: {name} is not there", "Paths are relative to the workspace."
            )
    project.files()
    console.talk(f"{console.one_line(str(root / 'curate.toml'))}: nothing is wrong with the settings")
    return Exit.OK


@command.command("trust")
@_DIR
@click.option("--forget", is_flag=True, help="Trust none of them any more.")
def trust(root: Path, forget: bool) -> int:
    """Let the workspace's own Python files run on this machine, as they are now.

    [plugins] path in curate.toml names their folder. They may add checks, fixes, importers, exporters and reports, and
    can do whatever you can do: read them first. The SHA-256 of each is stored in your own state folder, outside of the
    workspace, so that no clone brings its trust along; a file that is changed must be trusted again. In CI
    CURATE_TRUST_PLUGINS=1 trusts all, or a list of SHA-256, parted by commas, those alone.

    Example: curate config trust my-data
    """
    from curate.base.registry import trust_path, write_trust
    from curate.project.project import open_project

    path = open_project(root).settings.plugins.path
    if not path:
        raise CurateError("E902 bad-settings", f"{root}: plugins.path is empty", "Name the folder of your plug-ins.")
    for file, digest in write_trust(root, path, is_trusted=not forget).items():
        console.data(f"{digest}  {console.visible(str(file))}")
    console.talk(f"{'forgotten' if forget else 'trusted'}: {console.one_line(str(trust_path()))} was written")
    return Exit.OK


@command.command("schema")
@click.argument("name", default="workspace")
def schema(name: str) -> int:
    """Print the JSON Schema of curate.toml (workspace), of journal lines (journal) or of manifests (dataset).

    Example: curate config schema journal
    """
    from curate.project.contracts import contract

    print_lines(contract(name).rstrip("\n").split("\n"))
    return Exit.OK


def _rows(
    values: Mapping[str, Json], known: Mapping[tuple[str | int, ...], str], above: tuple[str, ...] = ()
) -> Iterator[tuple[str, Json, str]]:
    """Yield (dotted key, value, origin) of every setting; what was set as a whole is the origin of its parts."""
    for key, value in values.items():
        path = (*above, key)
        if isinstance(value, Mapping) and value:
            yield from _rows(value, known, path)
        else:
            # A table that one variable sets as a whole is the origin of each of its keys: the longest known path wins.
            origin = next((known[path[:n]] for n in range(len(path), 0, -1) if path[:n] in known), "default")
            yield ".".join(part if _BARE.fullmatch(part) else json.dumps(part) for part in path), value, origin
