"""Which lines of which files a git diff touched, asked of the `git` program."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from curate.base.console import one_line, spelled
from curate.base.git import GitError, ask_git, stream_git
from curate.base.record import CurateError, Exit, Finding
from curate.jsonl import fault_finding

_HUNK = re.compile(rb"@@ -[0-9,]+ \+([0-9]+)(?:,([0-9]+))? @@")
_PIECE = 1 << 16
_MOST_PATHS = 500
# Nobody's configuration may change what is compared or how it is printed.
_DIFF = ("diff", "--no-color", "--no-relative", "--find-renames")


class LineSet:
    """Line numbers as sorted, disjoint ranges; false when there are none."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """Take (first line, number of lines) pairs, in order."""
        self._starts, self._ends = array("Q"), array("Q")
        for start, number in ranges:
            if number:
                self._starts.append(start)
                self._ends.append(start + number)

    def __contains__(self, line: int) -> bool:
        index = bisect_right(self._starts, line) - 1
        return index >= 0 and line < self._ends[index]

    def __bool__(self) -> bool:
        return bool(self._starts)


NO_LINES = LineSet()
ALL_LINES = LineSet([(0, 2**63)])


def changed_lines(files: Sequence[Path], since: str) -> dict[str, LineSet]:
    """Return the lines of each file that differ from the commit ``since``, by the path as given.

    What is not committed counts, and so does every line of a file that git does not know. A file that was only moved
    has no changed lines. Where git compares something else than the lines of the file (Git LFS), all of them count.

    Raises:
        CurateError: E957 when ``since`` is no commit of the files' repository, or there is none; exit code 3 without
            git, or with one that is too old or needs too long.
    """
    if since.startswith("-") or not since.isprintable() or not since:
        raise CurateError("E957 bad-revision", f"{one_line(since)!r} is not the name of a commit")
    tops: dict[Path, Path] = {}
    groups: dict[Path, list[Path]] = {}
    for path in files:
        folder = path.resolve().parent
        if folder not in tops:
            tops[folder] = _top(folder)
        groups.setdefault(tops[folder], []).append(path)
    return {name: lines for top, paths in groups.items() for name, lines in _changed_in(top, paths, since)}


def _changed_in(top: Path, paths: Sequence[Path], since: str) -> Iterator[tuple[str, LineSet]]:
    commit = _ask(top, "rev-parse", "--verify", "--quiet", f"{since}^{{commit}}", default=b"").strip().decode()
    if not commit:
        hint = "A shallow clone may lack it: fetch more of the history."
        raise CurateError("E957 bad-revision", f"there is no commit {one_line(since)!r} in {one_line(str(top))}", hint)
    renamed = dict(_old_names(top, commit))
    names = {path: os.path.relpath(path.resolve(), top) for path in paths}
    # A link can be led elsewhere, which changes all lines that are read through it.
    links = {path: os.path.relpath(path.parent.resolve() / path.name, top) for path in paths if path.is_symlink()}
    wanted = [*names.values(), *links.values()]
    known = set(_by_path(top, list(map(_literal, wanted)), "ls-files", "-z"))
    filtered = set(_filtered(top, [name for name in wanted if name in renamed]))
    for path, name in names.items():
        link = links.get(path)
        if name not in known or name in filtered or (link and (link in renamed or link not in known)):
            yield str(path), ALL_LINES
        elif name in renamed:
            # It holds both files in whole, and refuses those beyond a gigabyte.
            yield str(path), LineSet(_hunks(top, commit, dict.fromkeys([renamed[name], name])))
        else:
            yield str(path), NO_LINES


def _old_names(top: Path, commit: str) -> Iterator[tuple[str, str]]:
    """Yield (name, its name in the commit) of each file that differs."""
    # Files whose times have changed are read from end to end.
    with _refusals(top), stream_git(top, [*_DIFF, "--name-status", "-z", commit]) as answer:
        words = iter(_fields(answer.read()))
    for status in words:
        old = next(words)
        yield next(words) if status[0] in "RC" else old, old


def _filtered(top: Path, names: Sequence[str]) -> Iterator[str]:
    """Yield those of the files that git holds in another form than they have on disk, through a program."""
    words = iter(_by_path(top, names, "check-attr", "-z", "filter"))
    return (name for name, _, value in zip(words, words, words, strict=True) if value not in ("unspecified", "unset"))


def _by_path(top: Path, names: Sequence[str], *question: str) -> Iterator[str]:
    """Ask about some paths at a time: a command line has no room for a million of them."""
    for start in range(0, len(names), _MOST_PATHS):
        yield from _fields(_ask(top, *question, "--", *names[start : start + _MOST_PATHS]))


def _hunks(top: Path, commit: str, names: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yield (first line, number of lines) of each changed part of a file; ``names`` has its old name if it moved."""
    # Every line of data in a diff begins with a sign, so that none can be taken for the head of a hunk.
    wanted = ("--text", "--unified=0", "--inter-hunk-context=0", commit, "--", *map(_literal, names))
    with _refusals(top), stream_git(top, [*_DIFF, *wanted]) as answer:
        is_start = True
        while piece := answer.readline(_PIECE):
            if is_start and (hunk := _HUNK.match(piece)):
                yield int(hunk[1]), 1 if hunk[2] is None else int(hunk[2])
            is_start = piece.endswith(b"\n")


def _top(folder: Path) -> Path:
    answer = _ask(folder, "rev-parse", "--show-toplevel", default=b"").rstrip(b"\n")
    if not answer:
        raise _refused(folder, GitError("not in the working tree of a git repository"))
    return Path(os.fsdecode(answer)).resolve()


def _ask(folder: Path, *question: str, default: bytes | None = None) -> bytes:
    """Return what git answers; where it refuses, ``default`` if there is one."""
    try:
        return ask_git(folder, question)
    except GitError as error:
        if default is None or error.is_missing:
            raise _refused(folder, error) from error
        return default


def _literal(name: str) -> str:
    """Return the path as git takes it for one and for no pattern."""
    return f":(literal){name}"


def _fields(answer: bytes) -> list[str]:
    return [os.fsdecode(field) for field in answer.split(b"\0")[:-1]]


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    try:
        yield
    except GitError as error:
        raise _refused(folder, error) from error


def _refused(folder: Path, error: GitError) -> CurateError:
    return git_refusal(folder, error, "E957 bad-revision", "--since needs git: ")


def git_refusal(folder: Path, error: GitError, code: str, need: str = "") -> CurateError:
    """Return the reason why git does not answer in ``folder``, with exit code 3 where it is absent, too old or slow."""
    why = one_line(error.why, 300)
    if error.is_missing:
        return CurateError(code, f"{need}{why}", error.hint, exit_code=Exit.MISSING)
    return CurateError(code, f"{one_line(str(folder))}: {why}", error.hint)


def unmerged_findings(files: Sequence[Path], root: Path | None) -> list[Finding]:
    """Return S129 for each of ``files`` that git holds as unmerged.

    Without git, and outside of repositories, there is nothing to find. ``root`` is the workspace; files elsewhere are
    looked up where they lie.
    """
    tops: dict[Path, Path | None] = {}
    findings: list[Finding] = []
    unmerged: dict[Path, set[str]] = {}
    for path in files:
        folder = (root if root is not None and path.is_relative_to(root) else path.parent).resolve()
        if folder not in tops:
            tops[folder] = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), None)
        top = tops[folder]
        if top is None:
            continue
        if top not in unmerged:
            unmerged[top] = _unmerged_in(top)
        # The name is that of the link, if it is one, because git knows the link.
        unlinked = path.parent.resolve() / path.name
        if unmerged[top] and unlinked.is_relative_to(top) and str(unlinked.relative_to(top)) in unmerged[top]:
            findings.append(
                fault_finding(
                    "S129",
                    "an unfinished git merge; the file may hold the records of one side only",
                    spelled(str(path)),
                    fix="Compare with `git show :2:FILE` (ours) and `git show :3:FILE` (theirs), then `git add` it.",
                )
            )
    return findings


def _unmerged_in(top: Path) -> set[str]:
    try:
        listed = os.fsdecode(ask_git(top, ["ls-files", "-u", "-z"]))
    except GitError:
        # No git, or none that reads this repository: then it cannot have left a merge unfinished for us to find.
        return set()
    return {entry.partition("\t")[2] for entry in listed.split("\0") if entry}
