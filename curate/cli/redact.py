"""`curate redact`: personal data and secrets out of record files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit, Json, strings_of
from curate.base.tables import counted
from curate.cli._options import paths_argument
from curate.cli._output import print_lines

if TYPE_CHECKING:
    from curate.checks.redact import PlaceholderTable, Redaction, RedactionSummary, Terms
    from curate.schema import Shape

_PRIVATE_FOLDER = ".curate"
_TABLE_NAME = "redaction.json"
_MAX_LOCATIONS = 5


@dataclass(frozen=True, slots=True)
class _Task:
    """What to redact, by which table, and what to print; ``keeps_table`` is False with --no-table."""

    files: Sequence[Path]
    root: Path | None
    shape: Shape | None
    keep: Collection[str]
    decided: Mapping[Path, Mapping[int, str]]
    terms: Terms
    table_file: Path
    keeps_table: bool
    output: Path | None
    diff: bool
    show_values: bool
    is_written: bool


@click.command()
@paths_argument
@click.option("--terms", type=click.Path(path_type=Path), help="Names of people, one person a line, aliases after |.")
@click.option("--table", "table_file", type=click.Path(path_type=Path), help="In place of .curate/redaction.json.")
@click.option("--no-table", is_flag=True, help="Keep no table: a later run may give a value another number.")
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file or folder, and not in place.")
@click.option("--diff", is_flag=True, help="Print what would change and write nothing; exits 1 if anything would.")
@click.option("--show-values", is_flag=True, help="With --diff: show the values themselves.")
@click.option("--dry-run", is_flag=True, help="Say what would be replaced, and write nothing.")
def command(
    paths: tuple[Path, ...],
    terms: Path | None,
    table_file: Path | None,
    no_table: bool,
    output: Path | None,
    diff: bool,
    show_values: bool,
    dry_run: bool,
) -> int:
    """Replace personal data and secrets in a workspace, or in record files, by placeholders such as [EMAIL_1].

    The same value is the same placeholder in every turn, record and file, and in later runs with the same table. E-mail
    addresses, phone and card numbers, IBANs, US social security numbers, IP addresses and secrets are found by rules
    (X701, X702); names of people are not, and are replaced only as --terms lists them. Ids, categories, splits and
    keys stay, and are reported, as are copies in quarantine, datasets and runs. Exits 1 when something sensitive stays.

    Nothing turns a placeholder back. The table holds no value, only a random key and, for each value, its number by an
    HMAC under that key. Whoever holds the table can test whether a value that they guess was replaced; keep it private.

    Example: curate redact my-data --terms people.txt --dry-run
    """
    from curate.base.file_guard import inside
    from curate.checks.redact import Terms, read_terms
    from curate.project.ids import names_in_use
    from curate.project.loose import shape_for

    if no_table and table_file:
        raise click.UsageError("--no-table does not go with --table.")
    root, files = _input(list(paths) or [Path()])
    folder = (root or Path()) / _PRIVATE_FOLDER
    # A link in place of .curate would lead the table out of the workspace.
    if root:
        inside(root, folder / _TABLE_NAME)
    task = _Task(
        files,
        root,
        # It says which strings are names, and so stay.
        shape_for(files, root),
        keep=names_in_use(root) if root else (),
        decided=_decided_lines(root) if root else {},
        terms=read_terms(terms) if terms else Terms([]),
        table_file=_table_path(table_file or folder / _TABLE_NAME, root, files),
        keeps_table=not no_table,
        output=output,
        diff=diff,
        show_values=show_values,
        is_written=not (diff or dry_run),
    )
    run = _redact(task)
    if not terms:
        console.talk("no rule finds the names of people; list them in a file for --terms")
    summary, find_kinds = run.summary, run.redactor.kinds
    is_left = _tell_left(summary, _sensitive_decisions(root, find_kinds))
    has_copies = root is not None and _tell_copies(root, find_kinds)
    return Exit.FINDINGS if is_left or has_copies or (diff and summary.num_changed) else Exit.OK


def _decided_lines(root: Path) -> Mapping[Path, Mapping[int, str]]:
    from curate.project.applied import lines_of
    from curate.project.data import load_data
    from curate.project.golden import frozen_ids

    data = load_data(root)
    return lines_of(data, {*data.decisions.names, *frozen_ids(root)})


def _redact(task: _Task) -> Redaction:
    """Redact, and return what was done."""
    from curate.checks.redact import is_private, write_table
    from curate.project.applied import save_rewrites
    from curate.project.golden import require_unlocked

    name = console.one_line(str(task.table_file))
    if task.table_file.exists() and not is_private(task.table_file):
        console.talk(f"warning: others may read the table {name}; `chmod 600` makes it private")
    saved = _saved_table(task.table_file)
    # Planned without the lock: to go through large files takes minutes, in which nobody else must wait.
    run = _planned(task, saved)
    # Where nothing is found no table is begun, and no lock beside it.
    is_written = bool(task.is_written and (run.summary.num_changed or task.output))
    num_saved = saved.num_values if saved else 0
    is_saved = is_written and task.keeps_table and run.redactor.table.num_values > num_saved
    with _locked(task.table_file if is_saved else None):
        if is_saved and _numbers(present := _saved_table(task.table_file)) != _numbers(saved):
            # Another call has added to the table since it was read: its numbers are taken.
            run = _planned(task, present)
        if is_written:
            if task.root and not task.output:
                require_unlocked(task.root, run.rewrites, "redacting")
            targets = _targets(task.files, task.output)
            if is_saved:
                # Before any file needs it: a number that is lost could be given to another value.
                write_table(task.table_file, run.redactor.table)
            run.redactor.table.close()
            if task.root and not task.output:
                save_rewrites(task.root, run.rewrites, "redact")
            run.write(targets)
    _tell(run.summary, "redacted" if task.is_written else "would redact")
    if is_saved:
        console.talk(f"table: {name}; it holds no value, but whoever has it can test whether one they guess is in it")
    return run


def _planned(task: _Task, saved: PlaceholderTable | None) -> Redaction:
    """Go through the files without writing, for the values that the table lacks; print each change for a diff."""
    from curate.checks.redact import PlaceholderTable, Redaction, Redactor, placeholders_in
    from curate.checks.spans import with_values_hidden
    from curate.jsonl.rewrite import diff_of

    table = PlaceholderTable(saved.key, saved.numbers) if saved else PlaceholderTable()
    if not task.keeps_table:
        # Placeholders of the table must not mean something else too.
        taken = table.placeholders()
        table = PlaceholderTable()
        table.reserve(taken)
    for path in task.files:
        # A file may hold placeholders of an earlier run; their numbers must not mean another value.
        table.reserve(placeholders_in(path, task.root))
    redactor = Redactor(table, task.terms)
    run = Redaction(task.files, redactor, shape=task.shape, keep=task.keep, decided=task.decided, root=task.root)
    hide: Callable[[str], str] = str if task.show_values else with_values_hidden
    if task.diff:
        print_lines(diff_of(run.changes(), hide))
    else:
        for _ in run.changes():
            pass
    return run


def _numbers(table: PlaceholderTable | None) -> Mapping[str, Mapping[str, int]]:
    return table.numbers if table else {}


def _saved_table(path: Path) -> PlaceholderTable | None:
    from curate.checks.redact import read_table

    return read_table(path) if path.exists() else None


@contextmanager
def _locked(table_file: Path | None) -> Iterator[None]:
    """Keep other calls from the table, from before it is read for good until all that goes with it is written."""
    from curate.base.storage import locked, make_cache

    if table_file is None:
        yield
        return
    if table_file.parent.name == _PRIVATE_FOLDER:
        make_cache(table_file.parent)
    name = console.one_line(str(table_file))
    with locked(table_file, on_wait=lambda: console.talk(f"waiting for another `curate redact` with the table {name}")):
        yield


def _input(paths: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """Return the workspace that the paths belong to, if any, and the record files that they name."""
    from curate.project.project import open_project
    from curate.schema.settings import root_of

    files: list[Path] = []
    roots: list[Path | None] = []
    for path in paths:
        if path.is_dir():
            roots.append(path)
            files += open_project(path).files()
        else:
            roots.append(root_of(path))
            files.append(path)
    if len({root.resolve() if root else None for root in roots}) > 1:
        raise CurateError("E904 no-such-file", "the paths belong to different workspaces", "Redact one at a time.")
    return roots[0], list(dict.fromkeys(files))


def _table_path(path: Path, root: Path | None, files: Sequence[Path]) -> Path:
    # In a workspace only .curate is out of reach of git, exports and uploads.
    from curate.base.file_guard import inside

    if root and path.absolute().is_relative_to(root.absolute()):
        inside(root, path)
    target = path.resolve()
    home = root.resolve() if root else None
    if home and target.is_relative_to(home) and not target.is_relative_to(home / _PRIVATE_FOLDER):
        message = f"the table {console.one_line(str(path))} would lie where git and uploads take it along"
        raise CurateError("E958 bad-key", message, f"Keep it in {_PRIVATE_FOLDER}, or outside the workspace.")
    if any(target == file.resolve() for file in files):
        raise CurateError("E958 bad-key", f"{console.one_line(str(path))} is one of the files to redact")
    return path


def _targets(files: Sequence[Path], output: Path | None) -> dict[Path, Path]:
    """Return the new place of each file, none where they are changed in place."""
    if output is None:
        return {}
    if len(files) == 1 and output.suffix and not output.is_dir():
        return {files[0]: output}
    targets = {path: output / path.name for path in files}
    if len(set(targets.values())) < len(files):
        raise click.UsageError("--output: two of the files have the same name; redact them one at a time.")
    taken = next((target for target in targets.values() if target.exists()), None)
    if taken:
        raise CurateError(
            "E919 would-overwrite", f"{console.one_line(str(taken))} is there already", "Nothing was written."
        )
    return targets


def _tell(summary: RedactionSummary, verb: str) -> None:
    labels = ", ".join(f"{number:,} {label}" for label, number in sorted(summary.replaced.items()))
    what = counted(summary.replaced.total(), "value")
    in_what = f"{summary.num_changed:,} of {counted(summary.num_lines, 'line')}"
    console.talk(f"{verb} {what} in {in_what}" + (f": {labels}" if labels else ""))
    if summary.num_named:
        number = counted(summary.num_named, "record")
        console.talk(f"{number} without an id now carry the one that decisions or a dataset know them by")
    for finding in summary.faults:
        location = f"{finding.file}:{finding.line}" if finding.line else finding.file
        console.talk(f"warning: {console.visible(location)}: {finding.code}: {console.one_line(finding.message)}")


def _tell_left(summary: RedactionSummary, num_decisions: int) -> bool:
    """Say what sensitive data, or may be, is still there; return whether there is any."""
    if summary.num_unchanged:
        locations = [
            f"{console.visible(value.file)}:{value.line} {console.one_line(value.pointer, 40)}"
            for value in summary.unchanged[:_MAX_LOCATIONS]
        ]
        more = ", …" if summary.num_unchanged > _MAX_LOCATIONS else ""
        what = counted(summary.num_unchanged, "value")
        console.talk(f"left: {what} in ids, categories, splits, keys or numbers: {', '.join(locations)}{more}")
    if summary.num_broken:
        console.talk(
            f"not looked into: {counted(summary.num_broken, 'line')} without a JSON object; see `curate validate`"
        )
    if summary.unfit:
        file, line = summary.unfit[0]
        console.talk(f"no longer fit the schema: {counted(len(summary.unfit), 'record')}, the first at {file}:{line}")
    if num_decisions:
        console.talk(
            f"left: {counted(num_decisions, 'decision')} in the journal with sensitive values; it is never rewritten"
        )
    return bool(summary.num_unchanged or summary.num_broken or summary.unfit or summary.faults or num_decisions)


def _tell_copies(root: Path, find_kinds: Callable[[str], Sequence[str]]) -> bool:
    """Say in which copies of records sensitive values stand, and what to do; return whether there are any."""
    from curate.checks.redact import folders_of_copies, num_values

    folders = folders_of_copies(root)
    inside = [folder for folder in folders if folder.resolve().is_relative_to(root.resolve())]
    left = {folder: number for folder in inside if (number := num_values(folder, find_kinds))}
    if left:
        listed = ", ".join(
            f"{number:,} in {console.one_line(str(folder.relative_to(root)))}" for folder, number in left.items()
        )
        what = counted(sum(left.values()), "value")
        console.talk(f"left: {what} in copies, which are not rewritten: {listed}; delete them, and export again")
    if outside := len(folders) - len(inside):
        console.talk(f"not looked into: {counted(outside, 'folder')} of copies that lead outside the workspace")
    return bool(left or outside)


def _sensitive_decisions(root: Path | None, find_kinds: Callable[[str], Sequence[str]]) -> int:
    """Return how many decisions repeat personal data or secrets: the journal keeps what was edited."""
    from curate.base.events import AddEvent, AnyEvent, DropEvent, EditEvent, LabelEvent, ProposeEvent, ResolveEvent
    from curate.project.journal import read_journal

    def value_of(event: AnyEvent) -> Json:
        if isinstance(event, EditEvent):
            return event.changes
        if isinstance(event, AddEvent):
            return event.record
        if isinstance(event, ProposeEvent):
            return event.record or event.changes
        if isinstance(event, DropEvent):
            return event.reason
        return event.value if isinstance(event, LabelEvent | ResolveEvent) else None

    if root is None:
        return 0
    return sum(any(map(find_kinds, strings_of(value_of(event)))) for event in read_journal(root)[0])
