"""`curate merge-driver`: what git calls to merge two versions of a record file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate import say
from curate.record import CurateError, Exit
from curate.table import counted

if TYPE_CHECKING:
    from curate.merge import Merged
    from curate.shape import Shape

_SHOWN = 10


@click.command("merge-driver")
@click.argument("parts", metavar="BASE OURS THEIRS [MARKER_SIZE] [PATH]", nargs=-1)
@click.option("--install", is_flag=True, help="Set git up to merge records, in the repository of [DIR].")
@click.option("--dry-run", is_flag=True, help="With --install: print what would be set up, and change nothing.")
def command(parts: tuple[str, ...], install: bool, dry_run: bool) -> int:
    """Merge what two sides did to a file of records, by record id and field, and write the result to OURS.

    Exits 0 when everything is merged, and 1 when a field was given two values or a record was deleted here and changed
    there: both versions of its line are then kept between conflict markers, which `curate validate` refuses (S113).
    Files that are not records are merged as text. A record without an id is known by its content, and where it was
    edited by its place; an edit that leaves little of it counts as deleting one record and adding another.

    Git calls this with %O %A %B %L %P once it is set up, which each clone needs once: --install.

    Example: curate merge-driver --install my-data
    """
    if install:
        if len(parts) > 1:
            raise click.UsageError("--install takes one folder.")
        return _install(Path(parts[0] if parts else "."), dry_run=dry_run)
    if not 3 <= len(parts) <= 5 or dry_run:
        raise click.UsageError("name BASE, OURS and THEIRS, as git does for %O %A %B; or use --install.")
    size = parts[3] if len(parts) > 3 else "7"
    if not size.isdecimal() or not 1 <= int(size) <= 32:
        raise click.UsageError("MARKER_SIZE is a number from 1 to 32.")
    base, ours, theirs = (Path(part) for part in parts[:3])
    # Shorter markers would be no markers to a reader of the file.
    return _merge(base, ours, theirs, max(7, int(size)), Path(parts[4]) if len(parts) > 4 else ours)


def _merge(base: Path, ours: Path, theirs: Path, size: int, path: Path) -> int:
    from curate.merge import SideError, merge_records, merge_text
    from curate.store import write_atomic

    shown = say.one_line(say.spelled(str(path)))
    try:
        merged = merge_records(
            base.read_bytes(), ours.read_bytes(), theirs.read_bytes(), _shape_for(path), marker_size=size
        )
    except SideError as error:
        say.talk(f"{shown}: merged as text, because it is not records: {say.one_line(str(error))}")
        text, is_clean = merge_text(base, ours, theirs, marker_size=size)
        write_atomic(ours, [text])
        return Exit.OK if is_clean else Exit.FINDINGS
    write_atomic(ours, merged.chunks)
    _tell(merged, shown)
    return Exit.FINDINGS if merged.conflicts else Exit.OK


def _tell(merged: Merged, shown: str) -> None:
    if merged.num_nameless:
        records = counted(merged.num_nameless, "record")
        say.talk(f"{shown}: {records} without an id replaced on both sides; look whether two edits of one are both in")
    if not merged.conflicts:
        return
    number = counted(len(merged.conflicts), "record")
    names = ", ".join(str(conflict) for conflict in merged.conflicts[:_SHOWN])
    rest = len(merged.conflicts) - _SHOWN
    say.talk(f"{shown}: {number} in conflict: {names}" + (f", and {rest:,} more" if rest > 0 else ""))


def _shape_for(path: Path) -> Shape | None:
    """Return the shape of the workspace that ``path`` lies in; None where there is none, or none that can be read.

    In the middle of a merge the settings may be in conflict themselves, and records are still told apart by their id.
    """
    from curate.settings import read_settings, root_of
    from curate.shape import load_shape

    root = root_of(path)
    if root is None:
        return None
    try:
        return load_shape(read_settings(root).schema_, root)
    except CurateError as error:
        say.talk(f"{say.one_line(str(root))}: records are told apart by /id: {say.one_line(error.message)}")
        return None


def _install(folder: Path, *, dry_run: bool) -> int:
    from curate.file_guard import MOST_SETTINGS, read_file
    from curate.merge import attribute_lines, config_lines, configure, with_attributes
    from curate.merge.attributes import merge_answers
    from curate.settings import FILE_NAME, read_settings
    from curate.store import write_atomic

    if not folder.is_dir():
        raise CurateError("E904 no-such-file", f"{say.one_line(str(folder))} is no folder", "Name a workspace.")
    globs = read_settings(folder).data if (folder / FILE_NAME).is_file() else ["*.jsonl"]
    path = folder / ".gitattributes"
    # Bytes: line ends stay what they are, and what is added ends as the lines before it do.
    old = read_file(path, most=MOST_SETTINGS).decode("utf-8", "surrogateescape") if path.exists() else ""
    added = with_attributes(old, globs)[len(old) :]
    new = old + (added.replace("\n", "\r\n") if "\r\n" in old else added)
    if dry_run:
        for key, value in config_lines():
            say.data(f"git config {key} {shlex.quote(value)}")
        for line in attribute_lines(globs) if new != old else []:
            say.data(f"{say.visible(str(path))}: {say.visible(line)}")
        say.talk("nothing was written")
        return Exit.OK
    top = configure(folder)
    if new != old:
        write_atomic(path, [new.encode("utf-8", "surrogateescape")])
        say.talk(f"{say.one_line(str(path))}: sends {say.one_line(', '.join(globs))} to the driver; commit it")
    return _tell_answers(say.one_line(str(top)), merge_answers(folder, globs))


def _tell_answers(top: str, answers: Mapping[str, str]) -> int:
    """Say what git will do with the files of records, and return 1 where that is not what was asked for."""
    from curate.merge.git import DRIVER

    others = [(path, answer) for path, answer in answers.items() if answer != DRIVER]
    if not others:
        say.data(f"{top}: git merges records by id and field from now on, in this clone")
        return Exit.OK
    told = ", ".join(f"{say.one_line(path)} (merge: {say.one_line(answer)})" for path, answer in others[:_SHOWN])
    rest = f", and {len(others) - _SHOWN:,} more" if len(others) > _SHOWN else ""
    say.data(f"{top}: the driver is set up in this clone, but git merges some files in another way: {told}{rest}")
    say.talk("  help: the last line that fits a path wins; see `git check-attr -a PATH`, and .git/info/attributes")
    return Exit.FINDINGS
