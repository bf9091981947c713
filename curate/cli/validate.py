"""`curate validate`: check record files or a workspace."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate import say
from curate.formats import Page, format_names, render
from curate.record import CurateError, Exit, Finding

if TYPE_CHECKING:
    from curate.settings import Settings
    from curate.shape import Shape
    from curate.validate import Verdict

_SAMPLE_LINES = 100
_EXPLAIN_SECONDS = 2.0
_NUM_EXCERPTS = 20


@click.command("validate")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--schema", default="", help="A shape (instruction, chat, domain) or the path of a schema.")
@click.option(
    "--select", multiple=True, metavar="CODES", help="Run these checks only: codes, names or prefixes, with commas."
)
@click.option("--ignore", multiple=True, metavar="CODES", help="Do not run these checks.")
@click.option(
    "--format", "format_", type=click.Choice(format_names()), default="text", show_default=True, help="How to print."
)
@click.option("--output", type=click.Path(path_type=Path), help="Write the findings to this file.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 even if there are errors.")
@click.option("--explain", is_flag=True, help="Add a second opinion on broken lines; it quotes the data.")
@click.option("--statistics", is_flag=True, help="Print counts by check in place of the findings.")
@click.option("--show-values", is_flag=True, help="Show values of the data, which may be personal or secret.")
@click.option("--jobs", type=click.IntRange(0, 64), default=0, help="Processes; 0 chooses by the size of the data.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=1000, show_default=True, help="Findings to show; all are counted."
)
def command(
    paths: tuple[str, ...],
    schema: str,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    format_: str,
    output: Path | None,
    exit_zero: bool,
    statistics: bool,
    explain: bool,
    show_values: bool,
    jobs: int,
    limit: int,
) -> int:
    """Check every line of record files, or of a workspace, and the data set as a whole.

    Exits 0 when there are no errors (warnings alone are clean), 1 when there are, 2 when the call itself is wrong.

    Example: curate validate my-data --format json
    """
    # Everything that needs pydantic is imported late, so that `--help` stays quick.
    from curate.settings import Settings, read_settings
    from curate.validate import default_jobs, raw_lines, validate

    root, files = _files([Path(path) for path in paths] or [Path()])
    settings = _with_options(read_settings(root) if root else Settings(), _codes(select), _codes(ignore))
    if output and any(output.resolve() == path.resolve() for path in files):
        raise click.BadParameter("this is one of the files to check", param_hint="--output")
    shape = _shape(schema, root, settings, files)
    verdict = validate(
        files,
        shape,
        settings,
        jobs=jobs or default_jobs(files),
        limit=limit,
        dropped=_dropped(root),
        root=root,
        show_values=show_values,
    )
    if shape.view is None:
        say.talk(f"{say.one_line(str(shape.path))} has no x-record, so its own rules were checked and nothing else")
    lines = (
        raw_lines(files, verdict.findings[:_NUM_EXCERPTS], root=root) if format_ == "text" and not statistics else {}
    )
    text = _statistics(verdict) if statistics else render(format_, verdict, Page(lines, show_values))
    _write(list(text), output)
    if explain:
        _explain(shape, files, verdict.findings, root)
    say.talk(_summary(verdict))
    if not verdict.num_records and verdict.num_errors:
        say.talk(f"no line is a record of the shape {say.one_line(shape.name)}; --schema names another")
        say.talk("`curate import` converts Alpaca, ShareGPT, OpenAI and other common forms")
    return Exit.FINDINGS if verdict.num_errors and not exit_zero else Exit.OK


def _explain(shape: Shape, files: Sequence[Path], findings: Sequence[Finding], root: Path | None) -> None:
    """Tell what the jsonschema library says of the first lines that break the schema, each within two seconds.

    Its patterns are Python's and may never end; a signal stops them, because the matcher looks for signals.
    """
    import signal

    from curate.door import strict_loads
    from curate.validate import raw_lines

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError

    broken = [finding for finding in findings if finding.code == "S102"][:_NUM_EXCERPTS]
    before = signal.signal(signal.SIGALRM, stop)
    try:
        for (file, number), raw in raw_lines(files, broken, root=root).items():
            say.talk(f"{say.visible(file)}:{number}: jsonschema says")
            signal.setitimer(signal.ITIMER_REAL, _EXPLAIN_SECONDS)
            try:
                told = shape.explain(strict_loads(raw))
            except (TimeoutError, RecursionError, re.error) as error:
                told = [f"no answer: {type(error).__name__}"]
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for line in told or ["nothing is wrong; the engines disagree"]:
                say.talk(f"  {line}")
    finally:
        signal.signal(signal.SIGALRM, before)


def _files(paths: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """Return the workspace that the paths belong to, if any, and the record files that they name."""
    from curate.settings import FILE_NAME

    files: list[Path] = []
    roots: list[Path | None] = []
    for path in paths:
        if path.is_dir():
            roots.append(path)
            files += _workspace_files(path)
        else:
            roots.append(next((folder for folder in path.absolute().parents if (folder / FILE_NAME).is_file()), None))
            files.append(path)
    if len({root.resolve() if root else None for root in roots}) > 1:
        raise CurateError(
            "E904 no-such-file", "the paths belong to different workspaces", "Validate one workspace at a time."
        )
    return roots[0], list(dict.fromkeys(files))


def _workspace_files(root: Path) -> list[Path]:
    """Return what the globs of a workspace match, links and pipes too: they become findings, not the run's end."""
    from curate.settings import FILE_NAME, read_settings

    if not (root / FILE_NAME).is_file():
        name = say.one_line(str(root))
        raise CurateError(
            "E901 no-workspace", f"{name} has no {FILE_NAME}", "Name record files, or make one with `curate init`."
        )
    settings = read_settings(root)
    files: list[Path] = []
    for pattern in settings.data:
        if pattern.startswith("/") or ".." in Path(pattern).parts:
            raise CurateError(
                "E902 bad-settings", f"data: {pattern!r} leads out of the workspace", "Use a relative glob."
            )
        files += sorted(root.glob(pattern))
    if not files:
        raise CurateError(
            "E904 no-such-file", f"no file matches {', '.join(settings.data)} in {say.one_line(str(root))}"
        )
    return files


def _dropped(root: Path | None) -> Collection[str]:
    """Return the records of a workspace that people took out."""
    if root is None or not (root / "journal").is_dir():
        return ()
    # A workspace brings much with it, and only one with decisions needs it here.
    from curate.workspace import open_workspace

    return open_workspace(root).dropped()


def _shape(schema: str, root: Path | None, settings: Settings, files: Sequence[Path]) -> Shape:
    """Load the shape asked for, else that of the workspace, else guess it by the first lines and say so."""
    from curate.door import Entry, read_entries
    from curate.shape import guess_shape, load_shape, resembled_shape

    if schema:
        return load_shape(schema)
    if root:
        return load_shape(
            settings.schema_, root if "/" in settings.schema_ or settings.schema_.endswith(".json") else None
        )
    items = chain.from_iterable(read_entries(path) for path in files)
    values = list(islice((item.value for item in items if isinstance(item, Entry)), _SAMPLE_LINES))
    name = guess_shape(values) or resembled_shape(values)
    say.talk(f"schema: {name} (guessed from the data; --schema chooses another)")
    return load_shape(name)


def _codes(options: tuple[str, ...]) -> list[str]:
    return [code.strip() for option in options for code in option.split(",") if code.strip()]


def _with_options(settings: Settings, select: list[str], ignore: list[str]) -> Settings:
    """Return the settings with the command line's choice: a selection replaces theirs, what to ignore adds to it."""
    checks = settings.checks
    new = {"select": select or checks.select, "ignore": [*checks.ignore, *ignore]}
    return settings.model_copy(update={"checks": checks.model_copy(update=new)})


def _statistics(verdict: Verdict) -> list[str]:
    from curate.checks import discover
    from curate.door import FAULTS

    names = {code: FAULTS[code].name if code in FAULTS else discover()[code].name for code in verdict.counts}
    return [
        f"{number:>11,}  {code} {names[code]}"
        for code, number in sorted(verdict.counts.items(), key=lambda item: -item[1])
    ]


def _write(lines: list[str], output: Path | None) -> None:
    if output is None:
        for line in lines:
            say.data(line)
        return
    from curate.store import write_atomic

    write_atomic(output, (f"{line}\n".encode() for line in lines))


def _summary(verdict: Verdict) -> str:
    parts = [
        _count(verdict.num_records, "record"),
        _count(verdict.num_errors, "error"),
        _count(verdict.num_warnings, "warning"),
        *([_count(verdict.num_infos, "info")] if verdict.num_infos else []),
        *([f"{verdict.num_suppressed:,} suppressed"] if verdict.num_suppressed else []),
    ]
    shown = len(verdict.findings)
    more = f" ({shown:,} shown of {verdict.num_findings:,})" if shown < verdict.num_findings else ""
    return f"{', '.join(parts)} in {_count(verdict.num_lines, 'line')}{more}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
