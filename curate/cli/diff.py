"""`curate diff`: what changed between two versions of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.cli._options import format_option
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.cli._versions import Version
    from curate.project.diff import VersionDiff


@click.command()
@click.argument("versions", metavar="[BEFORE] [AFTER]", nargs=-1)
@click.option("--since", default="", metavar="REF", help="Compare with what git has in this commit, e.g. HEAD or main.")
@format_option("text", "markdown", "json")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Records shown in text.")
@click.option("--no-values", is_flag=True, help="Name what changed and show no value, as for personal data.")
@click.option("--show-values", is_flag=True, help="Show also what others answered to what you are still asked.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when the versions differ.")
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file in place of stdout.")
def command(
    versions: tuple[str, ...],
    since: str,
    form: str,
    limit: int,
    no_values: bool,
    show_values: bool,
    exit_code: bool,
    output: Path | None,
) -> int:
    """Compare two versions of a data set by record id and field: what is added, removed, changed or in another split.

    A version is a workspace, a dataset such as dataset/v2, a folder or file of JSON Lines, or REF:PATH, which is what
    git has in a commit. With --since, one path (by default this folder) is compared with that commit. A record without
    an id is known by its content: once it is edited it is another one.

    Where a record of a workspace still asks you a question that others have answered, they are compared as if they had
    not: see `curate list --help`.

    Texts are compared by words: [-removed-] and {+added+}. Markdown is for the comment on a pull request;
    it also lists what `[review]` of the second version still wants approved, the records that differ first.

    Example: curate diff --since main my-data
    """
    if (len(versions) > 1) if since else (len(versions) != 2):
        raise click.UsageError("name two versions, or --since REF and one path.")
    if no_values and show_values:
        raise click.UsageError("--no-values and --show-values contradict each other")
    names = (f"{since}:{versions[0] if versions else '.'}", versions[0] if versions else ".") if since else versions
    with ExitStack() as stack:
        paths = _paths(names, since, stack)
        _spare(output, paths)
        difference = _difference(paths, (names[0], names[1]), show_values=show_values)
    print_lines(_rendered(difference, form, (names[0], names[1]), limit, show_values=not no_values), output)
    return Exit.FINDINGS if exit_code and difference.changes else Exit.OK


def _paths(names: tuple[str, ...], since: str, stack: ExitStack) -> list[Path]:
    """Return where the two versions lie; what a commit has lies there until ``stack`` is closed."""
    from curate.cli._versions import checked_out

    if since:
        path = Path(names[1])
        if not path.exists():
            raise CurateError("E904 no-such-file", f"{console.one_line(names[1])} is not there")
        folder, spelled = (path, "./") if path.is_dir() else (path.parent, f"./{path.name}")
        return [stack.enter_context(checked_out(since, spelled, folder)), path]
    paths = []
    for name in names:
        commit, colon, spelled = name.partition(":")
        # A file may have a colon in its name, and what is there comes first.
        is_of_commit = bool(colon and commit) and not Path(name).exists()
        paths.append(stack.enter_context(checked_out(commit, spelled, Path())) if is_of_commit else Path(name))
    return paths


def _spare(output: Path | None, paths: list[Path]) -> None:
    """Refuse to write over a record file of one of the versions."""
    if output is None or not output.exists():
        return
    target = output.resolve()
    # Every record file below a folder is part of its version.
    is_record_file = target.suffix == ".jsonl"
    if any(target == path.resolve() or (is_record_file and path.resolve() in target.parents) for path in paths):
        raise click.BadParameter("this is a file of the versions to compare", param_hint="--output")


def _difference(paths: list[Path], names: tuple[str, str], *, show_values: bool) -> VersionDiff:
    from curate.cli._versions import comparable, read_version
    from curate.project.diff import compare

    read: list[Version] = [
        read_version(path, name, show_values=show_values) for path, name in zip(paths, names, strict=True)
    ]
    difference = compare(*comparable(read[0], read[1], names))
    difference.waiting = read[1].waiting
    return difference


def _rendered(
    difference: VersionDiff, form: str, names: tuple[str, str], limit: int, *, show_values: bool
) -> Iterator[str]:
    import json

    from curate.project.diff import document, render_markdown, render_text

    before, after = (console.spelled(name) for name in names)
    if form == "json":
        # ASCII only: what steers a terminal must not reach one.
        yield json.dumps(document(difference, before, after, show_values=show_values))
    elif form == "markdown":
        yield "".join(render_markdown(difference, before, after, show_values=show_values)).rstrip("\n")
    else:
        yield from render_text(difference, width=console.width(), limit=limit, show_values=show_values)
