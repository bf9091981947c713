"""`curate edit`: one record in one's own editor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit
from curate.cli._options import refuse_if

if TYPE_CHECKING:
    from curate.project.project import Project
    from curate.sessions.edits import EditSession


@click.command("edit")
@click.argument("words", metavar="ID|FILE:LINE [DIR]", nargs=-1)
@click.option("--new", "is_new", is_flag=True, help="Write a new record; there is no ID then.")
@click.option("--copy", "is_copy", is_flag=True, help="Write a new record that begins as a copy of this one.")
@click.option(
    "--by", default="", metavar="NAME", help="Who decides; by default CURATE_ANNOTATOR, else the user's name."
)
@click.option("--json", "as_json", is_flag=True, help="Edit JSON, and not TOML.")
@click.option("--discard-draft", is_flag=True, help="Begin anew where a draft was left.")
@click.option(
    "--where", default="", metavar="FILTER", help="With --set: change all records that a filter lets through."
)
@click.option("--set", "changes", multiple=True, metavar="category=NAME", help="Their category from now on.")
@click.option("--dry-run", is_flag=True, help="With --set: say what would change, and write nothing.")
def command(
    words: tuple[str, ...], is_new: bool, is_copy: bool, by: str, as_json: bool, discard_draft: bool,
    where: str, changes: tuple[str, ...], dry_run: bool,
) -> int:  # fmt: skip
    """Edit one record in the editor that VISUAL or EDITOR names, and save what changed as a decision.

    It opens as TOML, in which a text of many lines is read as it is. A record that TOML cannot hold exactly, such as
    one with null, opens as JSON. What cannot be read, or what the schema refuses, is told with
    its place and can be edited again; it is kept as a draft until it is saved, and nothing else is. The editor gets a
    file of its own; no screen is needed. With FILE:LINE, as findings tell it, a line that is no record yet is opened;
    saving writes it into its file.

    With --where and --set a category is renamed, or several become one: all records that a filter lets through, as
    `curate list --where` takes it, get it in one decision that `curate undo` takes back. It says which lines of
    curate.toml and of the recipe name the old one; they are yours to change. Answers that people gave stay as given.

    Example: EDITOR=nano curate edit r012 my-data

    Example: curate edit my-data --where 'category:billing|invoices' --set category=payments --dry-run
    """
    refuse_if(
        (bool(where) != bool(changes), "--where and --set go together: which records, and their category."),
        (changes and (is_new or is_copy or discard_draft or as_json), "--set changes records that are there."),
        (dry_run and not changes, "--dry-run is for --where and --set."),
    )
    if changes:
        return _recategorise(words, where, changes, by, dry_run=dry_run)
    from curate.project.project import open_project
    from curate.sessions.edits import copied_edit, new_edit

    name, root = _called(words, is_new)
    with open_project(root, by) as project:
        project.load()
        edit = new_edit(project) if is_new else copied_edit(project, name) if is_copy else _opened(project, name)
        if discard_draft:
            edit.discard()
        else:
            for note in edit.notes:
                console.talk(console.one_line(note, 500))
        return _edit_until_saved(edit, as_json=as_json)


def _recategorise(words: tuple[str, ...], where: str, changes: tuple[str, ...], by: str, *, dry_run: bool) -> int:
    from curate.cli._bulk import named_records, pairs_of, recategorise_all

    pairs = pairs_of(changes)
    if pairs.keys() != {"category"}:
        hint = "only category= can be set for many; `curate edit ID` changes one record, `curate label --set` answers."
        raise click.BadParameter(hint, param_hint="--set")
    with named_records(words, where, by) as (project, states):
        recategorise_all(project, states, pairs["category"], dry_run=dry_run)
    return Exit.OK


def _called(words: tuple[str, ...], is_new: bool) -> tuple[str, Path]:
    most = 1 if is_new else 2
    if len(words) > most or (not words and not is_new):
        raise click.UsageError("name the record, and the workspace where it is another folder than this one.")
    return ("", Path(words[0] if words else ".")) if is_new else (words[0], Path(words[1] if words[1:] else "."))


def _opened(project: Project, name: str) -> EditSession:
    """Return a record under edit, or what stands at a place where there is no record of that name."""
    from curate.sessions.edits import open_edit
    from curate.sessions.lines import open_line

    file, _, number = name.rpartition(":")
    is_location = bool(file) and number.isdecimal() and project.catalog.find(name) is None
    return open_line(project, file, int(number)) if is_location else open_edit(project, name)


def _edit_until_saved(edit: EditSession, *, as_json: bool) -> int:
    from curate.sessions.edits import NOTHING_CHANGED
    from curate.sessions.own_editor import edited

    while True:
        before = edit.written(as_json=as_json)
        after = edited(before, edit.editor_path(before))
        if after is None:
            console.talk("the editor gave up; nothing was changed")
            return Exit.USAGE
        # An editor that is left without a change ends the call, also where it is a script.
        if after == before and not edit.is_changed and not edit.is_new:
            console.talk(NOTHING_CHANGED)
            return Exit.OK
        faults = edit.take(after)
        # Before it is saved: what the editor left must outlive a refusal and a crash.
        edit.keep()
        if not faults:
            try:
                console.talk(edit.save())
            except CurateError as error:
                # What stands in the way of this text alone is for the one who typed it; a full disk is not.
                if error.number not in ("E916", "E972", "E986"):
                    raise
                faults = [f"{error.message}. {error.hint}"]
            else:
                return Exit.OK
        for fault in faults:
            console.talk(console.one_line(fault, 500))
        if not (sys.stdin.isatty() and click.confirm("Edit again?", default=True, err=True)):
            console.talk(f"not saved; kept as a draft in {console.one_line(str(edit.draft_path), 300)}")
            return Exit.FINDINGS
