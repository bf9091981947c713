"""`curate redact`: personal data and secrets out of record files, and back again with the key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate import say
from curate.record import CurateError, Exit, Json, strings_of
from curate.table import counted

if TYPE_CHECKING:
    from curate.redact import Key, Redactor, Restorer, Run, Terms, Told
    from curate.shape import Shape

_CACHE = ".curate"
_KEY_NAME = "redact.key.json"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be gone through, with which key, and how it is told.

    ``key_file`` is None where no key is kept; ``taken`` are then the placeholders of the key that would have been.
    """

    files: Sequence[Path]
    root: Path | None
    shape: Shape | None
    keep: Collection[str]
    hold: Collection[str]
    key_file: Path | None
    taken: Collection[str]
    output: Path | None
    diff: bool
    show_values: bool
    is_written: bool


@dataclass(frozen=True, slots=True)
class _Planned:
    """A redaction that was gone through without writing; ``known`` is what the key held before.

    ``inexact`` says of what, in how many places, restoring would write something else.
    """

    run: Run
    redactor: Redactor
    key: Key
    known: Mapping[str, object]
    inexact: Mapping[str, int]

    @property
    def num_new(self) -> int:
        return len(self.key.entries) - len(self.known)


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--terms", type=click.Path(path_type=Path), help="Names of people, one person a line, aliases after |.")
@click.option("--key", "key_path", type=click.Path(path_type=Path), help="In place of .curate/redact.key.json.")
@click.option("--no-key", is_flag=True, help="Keep no key: what is replaced can never be restored.")
@click.option("--restore", is_flag=True, help="Put the values back that the key knows.")
@click.option("--output", type=click.Path(path_type=Path), help="Write to this file or folder, and not in place.")
@click.option("--diff", is_flag=True, help="Print what would change and write nothing; exits 1 if anything would.")
@click.option("--show-values", is_flag=True, help="With --diff: show the values themselves.")
@click.option("--dry-run", is_flag=True, help="Say what would be replaced, and write nothing.")
def command(
    paths: tuple[Path, ...],
    terms: Path | None,
    key_path: Path | None,
    no_key: bool,
    restore: bool,
    output: Path | None,
    diff: bool,
    show_values: bool,
    dry_run: bool,
) -> int:
    """Replace personal data and secrets in a workspace, or in record files, by placeholders such as [EMAIL_1].

    The same value is the same placeholder in every turn, record and file, and in later runs with the same key. E-mail
    addresses, phone and card numbers, IBANs, US social security numbers, IP addresses and secrets are found by rules
    (X701, X702); names of people are not, and are replaced only as --terms lists them. Ids, categories, splits and
    keys stay, and are reported, as are copies in quarantine, datasets and runs. Exits 1 when something sensitive stays.

    --restore writes each value as it was first met. It goes by placeholders alone and cannot tell whose they are: a
    file that was redacted with --no-key before there was a key, or with another key, gets the values of this one.

    Example: curate redact my-data --terms people.txt --dry-run
    """
    from curate.redact import Terms, read_terms
    from curate.workspace.loose import shape_for

    if no_key and (restore or key_path):
        raise click.UsageError("--no-key goes with neither --key nor --restore.")
    if restore and terms:
        raise click.UsageError("--terms does not go with --restore, which goes by the key alone.")
    root, files = _input(list(paths) or [Path()])
    # It says which strings are names, and so stay.
    shape = shape_for(files, root)
    place = _key_file(key_path, root, files)
    # Without a key of their own they must not be taken for those of the key that is there.
    taken = _entries_in(place) if no_key else {}
    key_file = None if no_key else place
    is_written = not (diff or dry_run)
    task = _Task(files, root, shape, *_names_in_use(root), key_file, taken, output, diff, show_values, is_written)
    if restore:
        return _restore(task)
    planned = _redact(task, read_terms(terms) if terms else Terms([]))
    if not terms:
        say.talk("no rule finds the names of people; list them in a file for --terms")
    told, look = planned.run.told, planned.redactor.kinds
    is_left = _tell_left(told, _sensitive_decisions(root, look)) | (root is not None and _tell_copies(root, look))
    return Exit.FINDINGS if is_left or (diff and told.num_changed) else Exit.OK


def _restore(task: _Task) -> int:
    from curate.redact import restoration

    assert task.key_file is not None
    # A key that is not there is said to be missing, and nothing is made beside it.
    with _held(task.key_file if task.is_written and task.key_file.exists() else None):
        key = _known_key(task.key_file)
        run, restorer = restoration(task.files, key, shape=task.shape, keep=task.keep, root=task.root)
        if task.is_written:
            run.write(_targets(task.files, task.output))
        else:
            _plan(run, diff=task.diff, show_values=task.show_values)
    _tell(run.told, "restored" if task.is_written else "would restore")
    _tell_restored(restorer)
    return Exit.FINDINGS if task.diff and run.told.num_changed else Exit.OK


def _redact(task: _Task, terms: Terms) -> _Planned:
    planned = _planned(task, terms)
    # Where nothing is found no key is begun, and no lock beside it.
    is_written = bool(task.is_written and (planned.run.told.num_changed or task.output))
    key_file = task.key_file if is_written else None
    held = key_file if key_file and (planned.num_new or key_file.exists()) else None
    with _held(held):
        if held and planned.known != _entries_in(held):
            # Another call has added to the key since it was read: its placeholders are taken.
            planned = _planned(task, terms)
        if is_written:
            targets = _targets(task.files, task.output)
            if key_file:
                _keep_key(key_file, planned)
            planned.run.write(targets)
    _tell(planned.run.told, "redacted" if task.is_written else "would redact")
    _tell_key(key_file if planned.num_new else None, planned.inexact if task.key_file else {})
    return planned


def _planned(task: _Task, terms: Terms) -> _Planned:
    """Read the key and go through the files for the values that it lacks."""
    from curate.redact import Key, redaction

    key = _known_key(task.key_file) if task.key_file and task.key_file.exists() else Key()
    key.reserve(task.taken)
    known = dict(key.entries)
    shape, keep, hold = task.shape, task.keep, task.hold
    run, redactor = redaction(task.files, key, terms, shape=shape, keep=keep, hold=hold, root=task.root)
    _plan(run, diff=task.diff, show_values=task.show_values)
    # Writing goes through all of it again, and would count twice.
    inexact = {
        "value": redactor.num_other_spellings, "bare number": redactor.num_numbers,
        "JSON text": redactor.num_respelled,
    }  # fmt: skip
    return _Planned(run, redactor, key, known, inexact)


def _entries_in(key_file: Path) -> Mapping[str, object]:
    from curate.redact import read_key

    return read_key(key_file).entries if key_file.exists() else {}


@contextmanager
def _held(key_file: Path | None) -> Iterator[None]:
    """Keep other calls from the key, from before it is read for good until all that goes with it is written.

    Raises:
        CurateError: E906 when the system refuses.
    """
    from curate.store import locked

    if key_file is None:
        yield
        return
    name = say.one_line(str(key_file))
    with locked(key_file, on_wait=lambda: say.talk(f"waiting for another `curate redact` with the key {name}")):
        yield


def _plan(run: Run, *, diff: bool, show_values: bool) -> None:
    """Go through the files without writing, and print each change where a diff is wanted."""
    from curate.checks.spans import with_values_hidden
    from curate.door.hunk import diff_of

    if diff:
        for line in diff_of(run.changes(), str if show_values else with_values_hidden):
            say.data(line)
    else:
        for _ in run.changes():
            pass


def _input(paths: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """Return the workspace that the paths belong to, if any, and the record files that they name."""
    from curate.settings import root_of
    from curate.workspace import open_workspace

    files: list[Path] = []
    roots: list[Path | None] = []
    for path in paths:
        if path.is_dir():
            roots.append(path)
            files += open_workspace(path).files()
        else:
            roots.append(root_of(path))
            files.append(path)
    if len({root.resolve() if root else None for root in roots}) > 1:
        raise CurateError("E904 no-such-file", "the paths belong to different workspaces", "Redact one at a time.")
    return roots[0], list(dict.fromkeys(files))


def _names_in_use(root: Path | None) -> tuple[Collection[str], Collection[str]]:
    """Return the ids of records that decisions or the newest dataset name, and those with decisions in a chain."""
    from curate.workspace.in_use import names_in_chains, names_in_use

    return (names_in_use(root), names_in_chains(root)) if root else ((), ())


def _key_file(asked: Path | None, root: Path | None, files: Sequence[Path]) -> Path:
    """Return where the key is; in a workspace only its .curate is out of reach of git, exports and uploads.

    Raises:
        CurateError: E914 when its .curate leads outside the workspace; E958 when the key would be shared or redacted.
    """
    from curate.file_guard import inside

    path = asked or (root or Path()) / _CACHE / _KEY_NAME
    if root and path.absolute().is_relative_to(root.absolute()):
        inside(root, path)
    place = path.resolve()
    home = root.resolve() if root else None
    if home and place.is_relative_to(home) and not place.is_relative_to(home / _CACHE):
        message = f"the key {say.one_line(str(path))} would lie where git and uploads take it along"
        raise CurateError("E958 bad-key", message, f"Keep it in {_CACHE}, or outside the workspace.")
    if any(place == file.resolve() for file in files):
        raise CurateError("E958 bad-key", f"{say.one_line(str(path))} is one of the files to redact")
    return path


def _known_key(path: Path) -> Key:
    from curate.redact import is_private, read_key

    key = read_key(path)
    if not is_private(path):
        say.talk(f"warning: others may read the key {say.one_line(str(path))}; `chmod 600` makes it private")
    return key


def _keep_key(path: Path, planned: _Planned) -> None:
    """Save the key as it is for good, before any file needs it."""
    from curate.redact import write_key
    from curate.store import make_cache

    if planned.num_new:
        if path.parent.name == _CACHE:
            make_cache(path.parent)
        write_key(path, planned.key)
    planned.key.close()


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
            "E919 would-overwrite", f"{say.one_line(str(taken))} is there already", "Nothing was written."
        )
    return targets


def _tell(told: Told, verb: str) -> None:
    labels = ", ".join(f"{number:,} {label}" for label, number in sorted(told.replaced.items()))
    what = counted(told.replaced.total(), "value")
    in_what = f"{told.num_changed:,} of {counted(told.num_lines, 'line')}"
    say.talk(f"{verb} {what} in {in_what}" + (f": {labels}" if labels else ""))
    if told.num_named:
        number = counted(told.num_named, "record")
        say.talk(f"{number} without an id now carry the one that decisions or a dataset know them by")
    for finding in told.faults:
        place = f"{finding.file}:{finding.line}" if finding.line else finding.file
        say.talk(f"warning: {say.visible(place)}: {finding.code}: {say.one_line(finding.message)}")


def _tell_key(path: Path | None, inexact: Mapping[str, int]) -> None:
    if path:
        say.talk(f"key: {say.one_line(str(path))}; whoever has it can restore the values, and nobody without it")
    ways = {
        "value": "spelled in more than one way: {}; --restore writes the first",
        "bare number": "no longer bare: {} in JSON within a text; --restore writes strings",
        "JSON text": "spelled by other escapes after --restore: {}",
    }
    for what, number in inexact.items():
        if number:
            say.talk(ways[what].format(counted(number, what)))


def _tell_restored(restorer: Restorer) -> None:
    """Say what was not put back, and what may have been something else."""
    if unknown := restorer.unknown.total():
        say.talk(f"left: {counted(unknown, 'placeholder')} that this key does not know")
    if restorer.num_aliased:
        say.talk(f"written as the first of several names: {counted(restorer.num_aliased, 'name')} of people")
    if restorer.num_digits:
        say.talk(f"restored as strings: {counted(restorer.num_digits, 'number')} in JSON within a text")


def _tell_left(told: Told, num_decisions: int) -> bool:
    """Say what sensitive data, or may be, is still there; return whether there is any."""
    if told.num_left:
        places = [f"{say.visible(one.file)}:{one.line} {say.one_line(one.pointer, 40)}" for one in told.left[:_SHOWN]]
        more = ", …" if told.num_left > _SHOWN else ""
        what = counted(told.num_left, "value")
        say.talk(f"left: {what} in ids, categories, splits, keys or numbers: {', '.join(places)}{more}")
    if told.num_broken:
        say.talk(f"not looked into: {counted(told.num_broken, 'line')} without a JSON object; see `curate validate`")
    if told.unfit:
        file, line = told.unfit[0]
        say.talk(f"no longer fit the schema: {counted(len(told.unfit), 'record')}, the first at {file}:{line}")
    if told.num_held:
        held = counted(told.num_held, "record")
        say.talk(f"look again at {held} decided on in several sittings: the old text told which decision was the last")
    if num_decisions:
        say.talk(
            f"left: {counted(num_decisions, 'decision')} in the journal with sensitive values; it is never rewritten"
        )
    return bool(told.num_left or told.num_broken or told.num_held or told.unfit or told.faults or num_decisions)


def _tell_copies(root: Path, look: Callable[[str], Sequence[str]]) -> bool:
    """Say in which copies of records sensitive values stand, and what to do; return whether there are any."""
    from curate.redact import folders_of_copies, num_values

    folders = folders_of_copies(root)
    inside = [folder for folder in folders if folder.resolve().is_relative_to(root.resolve())]
    left = {folder: number for folder in inside if (number := num_values(folder, look))}
    if left:
        places = ", ".join(
            f"{number:,} in {say.one_line(str(folder.relative_to(root)))}" for folder, number in left.items()
        )
        what = counted(sum(left.values()), "value")
        say.talk(f"left: {what} in copies, which are not rewritten: {places}; delete them, and export again")
    if outside := len(folders) - len(inside):
        say.talk(f"not looked into: {counted(outside, 'folder')} of copies that lead outside the workspace")
    return bool(left or outside)


def _sensitive_decisions(root: Path | None, look: Callable[[str], Sequence[str]]) -> int:
    """Return how many decisions repeat personal data or secrets: folding would bring them back, or has kept them."""
    from curate.journal import Add, AnyEvent, Drop, Edit, Label, Resolve, read_journal
    from curate.workspace.snapshot import folded_record, read_snapshot, retired_events

    def held(event: AnyEvent) -> Json:
        if isinstance(event, Edit):
            return event.changes
        if isinstance(event, Add):
            return event.record
        return event.reason if isinstance(event, Drop) else event.value if isinstance(event, Label | Resolve) else None

    if root is None:
        return 0
    events = [*retired_events(root), *read_journal(root)[0]]
    snapshots = [folded_record(one).model_dump(mode="json") for one in read_snapshot(root).records.values()]
    return sum(any(map(look, strings_of(value))) for value in [*map(held, events), *snapshots])
