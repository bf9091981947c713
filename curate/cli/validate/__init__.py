"""`curate validate`: check record files or a workspace."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from curate.cli._options import ray_option

_TARGETS = ("openai", "trl", "axolotl", "llama-factory", "together")


class ReportName(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2
    """The name of a format: one of ours, or a plug-in's, which `run` knows once it has read the settings."""

    def __init__(self) -> None:
        self.case_sensitive = True

    @cached_property
    def choices(self) -> Sequence[str]:  # type: ignore[override]
        """The names of ours, which only help and completion ask for."""
        from curate.formats.reports import format_names

        return format_names()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name as it is."""
        return value


@click.command("validate")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--schema", default="", help="A shape (instruction, chat, domain) or the path of a schema.")
@click.option(
    "--select", multiple=True, metavar="CODES", help="Run these checks only: codes, names or prefixes, with commas."
)
@click.option("--ignore", multiple=True, metavar="CODES", help="Do not run these checks.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file of old findings, which are counted and do not fail; curate.toml can name it too.",
)
@click.option("--update-baseline", is_flag=True, help="Write what is found now to the baseline, and forgive it.")
@click.option(
    "--since",
    default="",
    metavar="REF",
    help="Check only lines that differ from this git commit; cross-record checks still see the rest.",
)
@click.option("--target", type=click.Choice(_TARGETS), help="A trainer whose own rules are checked too.")
@click.option(
    "--model", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Count tokens as this model does."
)
@click.option("--max-length", type=click.IntRange(min=1), help="Tokens that the trainer takes; needs --model.")
@click.option("--fix", is_flag=True, help="Fix what is safe to fix, then check.")
@click.option("--unsafe-fixes", is_flag=True, help="Also make fixes that may change the meaning.")
@click.option("--diff", is_flag=True, help="Show what would be fixed, write nothing, and exit 1 if there is anything.")
@click.option("--watch", is_flag=True, help="Check again after every change, until Ctrl-C.")
@click.option("--stdin-filename", default="", metavar="NAME", help="What to call the lines that the path '-' reads.")
@click.option("--format", "format_", type=ReportName(), default="text", show_default=True, help="How to print.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the findings to this file.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 even if something fails.")
@click.option("--statistics", is_flag=True, help="Print counts by check in place of the findings.")
@click.option("--show-values", is_flag=True, help="Show values of the data, which may be personal or secret.")
@ray_option
@click.option("--jobs", type=click.IntRange(0, 64), default=0, help="Processes; 0 chooses by the size of the data.")
@click.option(
    "--limit",
    type=click.IntRange(0, 1_000_000_000),
    default=1000,
    show_default=True,
    help="Findings to show; all are counted.",
)
def command(**given: Any) -> int:
    """Check every line of record files, or of a workspace, and the data set as a whole. The path '-' reads stdin.

    Exits 0 when nothing fails, 1 when something does, 2 when the call itself is wrong. Errors fail; warnings do not,
    unless curate.toml sets a tolerance for their check and there are more. Findings within a tolerance, and those that
    the baseline holds, are counted and do not fail.

    Example: curate validate my-data --format json
    """
    # All of it is imported late, so that `--help` stays quick.
    from curate.cli.validate.inputs import Options
    from curate.cli.validate.run import run

    options = Options(**given)
    options.refuse_contradictions()
    if options.watch:
        from curate.cli.validate.run import watch

        return watch(options)
    return run(options)
