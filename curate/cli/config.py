"""`curate config`: what the settings are, and what they may be."""

from __future__ import annotations

from pathlib import Path

import click

from curate import say
from curate.record import Exit


@click.group()
def command() -> None:
    """Show the settings of a workspace, or the schemas of the files that it reads and writes.

    Example: curate config show my-data
    """


@command.command("show")
@click.argument("root", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
def show(root: Path) -> int:
    """Print every setting with the value that holds, as TOML; unset ones are left out.

    Example: curate config show my-data
    """
    import tomlkit

    from curate.workspace import open_workspace

    settings = open_workspace(root).settings
    text = tomlkit.dumps(settings.model_dump(mode="json", by_alias=True, exclude_none=True))
    for line in text.rstrip("\n").split("\n"):
        say.data(say.visible(line))
    return Exit.OK


@command.command("schema")
@click.argument("name", default="workspace")
def schema(name: str) -> int:
    """Print the JSON Schema of curate.toml (workspace), of journal lines (journal) or of manifests (dataset).

    Example: curate config schema journal
    """
    from curate.workspace.contracts import contract

    for line in contract(name).rstrip("\n").split("\n"):
        say.data(line)
    return Exit.OK
