"""What git has to know of us, and what we have to know of git: attributes, the driver's command, unmerged paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from curate import git
from curate.door import door_finding
from curate.record import CurateError, Exit, Finding
from curate.say import one_line, spelled

DRIVER = "curate-records"
"""What `.gitattributes` calls us."""
DESCRIPTION = "records of JSON Lines, by id and field"
COMMAND = (
    "curate merge-driver -- %O %A %B %L %P || "
    'if grep -q "^<<<<<<<" %A; then false; else git merge-file --marker-size=%L %A %O %B; fi'
)
"""The command in git's configuration. Whatever keeps us from merging (we are not installed, or not whole), the text is
merged as git merges it; a conflict that we have written is one, and is not merged again."""


def config_lines() -> list[tuple[str, str]]:
    """Return what belongs into the configuration of every clone: keys and values."""
    return [(f"merge.{DRIVER}.name", DESCRIPTION), (f"merge.{DRIVER}.driver", COMMAND)]


def attribute_lines(globs: Iterable[str]) -> list[str]:
    """Return the lines of `.gitattributes` that send the files of ``globs`` to the driver."""
    return [f"{_pattern(glob)} merge={DRIVER}" for glob in globs]


def with_attributes(text: str, globs: Iterable[str]) -> str:
    """Return ``text`` of a `.gitattributes` with the lines for ``globs`` that it lacks."""
    held = {" ".join(line.split()) for line in text.splitlines()}
    lacking = [line for line in attribute_lines(globs) if line not in held]
    if text and lacking and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{line}\n" for line in lacking)


def configure(folder: Path) -> Path:
    """Write the driver into the configuration of the repository that holds ``folder``; return its top folder.

    Raises:
        CurateError: E966 when there is no git, or ``folder`` is in no repository that it may configure.
    """
    top = os.fsdecode(ask_git(folder, ["rev-parse", "--show-toplevel"]))
    for key, value in config_lines():
        ask_git(folder, ["config", "--local", key, value])
    return Path(top.removesuffix("\n"))


def unmerged_findings(files: Sequence[Path], root: Path | None) -> list[Finding]:
    """Return S129 for each of ``files`` that git holds as unmerged.

    Such a file may hold one side only, without a marker: that is what git leaves where a merge driver cannot be run,
    and what the next commit would make of it is the loss of the other side. Without git, and outside of repositories,
    there is nothing to find. ``root`` is the workspace; files elsewhere are looked up where they lie.
    """
    tops: dict[Path, Path | None] = {}
    findings: list[Finding] = []
    unmerged: dict[Path, set[str]] = {}
    for path in files:
        folder = (root if root is not None and path.is_relative_to(root) else path.parent).resolve()
        if folder not in tops:
            tops[folder] = next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)
        top = tops[folder]
        if top is None:
            continue
        if top not in unmerged:
            unmerged[top] = _unmerged_in(top)
        # The name is that of the link, if it is one, because git knows the link.
        place = path.parent.resolve() / path.name
        if unmerged[top] and place.is_relative_to(top) and str(place.relative_to(top)) in unmerged[top]:
            findings.append(
                door_finding(
                    "S129",
                    "git has not merged this file, and it may hold the records of one side only",
                    spelled(str(path)),
                    fix="Compare with `git show :2:FILE` (ours) and `git show :3:FILE` (theirs), then `git add` it.",
                )
            )
    return findings


def ask_git(folder: Path, question: Sequence[str]) -> bytes:
    """Return what git answers in ``folder`` to a question that is quickly answered.

    Raises:
        CurateError: E966 when git is not there, refuses, or needs too long.
    """
    with refusals_told(folder):
        return git.ask_git(folder, question)


@contextmanager
def refusals_told(folder: Path) -> Iterator[None]:
    """Tell in our way what keeps git from answering in ``folder``.

    Raises:
        CurateError: E966 in the place of a `GitError`; exit code 3 where git is absent, too old or too slow.
    """
    try:
        yield
    except git.GitError as error:
        why = one_line(error.why, 300)
        if error.is_missing:
            raise CurateError("E966 git-refused", why, error.hint, exit_code=Exit.MISSING) from error
        raise CurateError("E966 git-refused", f"{one_line(str(folder))}: {why}", error.hint) from error


def _unmerged_in(top: Path) -> set[str]:
    try:
        listed = os.fsdecode(ask_git(top, ["ls-files", "-u", "-z"]))
    except CurateError:
        # No git, or none that reads this repository: then it cannot have left a merge unfinished for us to find.
        return set()
    return {entry.partition("\t")[2] for entry in listed.split("\0") if entry}


def _pattern(glob: str) -> str:
    """Return a glob as `.gitattributes` spells it: with blanks or quotes it is a C string."""
    if not any(character in glob for character in ' \t"\\'):
        return glob
    return '"' + glob.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'
