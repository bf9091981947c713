"""Which lines of which files a git diff touched, asked of the `git` program."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from curate.base.console import one_line, spelled
from curate.base.file_guard import open_file
from curate.base.git import GitError, ask_git, stream_git
from curate.base.record import CurateError, Exit, Finding
from curate.jsonl import fault_finding

if TYPE_CHECKING:
    from curate.base.hashing import Indices
    from curate.similarity.dedupe.blocks import Flags

_HUNK = re.compile(rb"@@ -[0-9,]+ \+([0-9]+)(?:,([0-9]+))? @@")
_PIECE = 1 << 16
_MOST_PATHS = 500
# Bytes and lines of each side that are compared at a time.
_BLOCK = 1 << 20
_WINDOW = 256
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

    def are_in(self, lines: Indices) -> Flags:
        """Return which of some line numbers, [N], it has."""
        # Small files are checked without numpy.
        import numpy as np

        numbers = np.asarray(lines, np.uint64)
        starts, ends = (np.array([0, *bounds], np.uint64) for bounds in (self._starts, self._ends))
        return numbers < ends[np.searchsorted(starts, numbers, "right") - 1]


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
    renamed = {name: (status, old) for status, name, old in _renamed(top, commit)}
    names = {path: os.path.relpath(path.resolve(), top) for path in paths}
    # A link can be led elsewhere, which changes all lines that are read through it.
    links = {path: os.path.relpath(path.parent.resolve() / path.name, top) for path in paths if path.is_symlink()}
    wanted = [*names.values(), *links.values()]
    known = set(_by_path(top, list(map(_literal, wanted)), "ls-files", "-z"))
    attributes = _attributes(top, [name for name in wanted if name in renamed])
    filtered = {name for name, attribute in attributes if attribute == "filter"}
    converted = {name for name, _ in attributes}
    for path, name in names.items():
        link = links.get(path)
        if name not in known or name in filtered or (link and (link in renamed or link not in known)):
            yield str(path), ALL_LINES
        elif name in renamed:
            status, old = renamed[name]
            ranges = (
                _unambiguous_ranges(top, f"{commit}:{old}", name) if status in "MR" and name not in converted else None
            )
            if ranges is None:
                ranges = list(_hunks(top, commit, dict.fromkeys([old, name])))
            yield str(path), LineSet(ranges)
        else:
            yield str(path), NO_LINES


def _renamed(top: Path, commit: str) -> Iterator[tuple[str, str, str]]:
    """Yield (how it differs in a letter of git, path, path in the commit) of what differs from the commit."""
    # Files whose times have changed are read from end to end.
    with _refusals(top), stream_git(top, [*_DIFF, "--name-status", "-z", commit]) as answer:
        words = iter(_fields(answer.read()))
    for status in words:
        old = next(words)
        yield status[0], next(words) if status[0] in "RC" else old, old


def _attributes(top: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, attribute) of each of the files that git holds in another form than they have on disk.

    That line ends may be converted is not said.
    """
    words = iter(_by_path(top, names, "check-attr", "-z", "filter", "ident", "working-tree-encoding"))
    asked = [(name, next(words), next(words)) for name in words]
    return [(name, attribute) for name, attribute, value in asked if value not in ("unspecified", "unset")]


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


class _DoubtError(Exception):
    """Which lines have changed depends on how they are compared."""


def _unambiguous_ranges(top: Path, blob: str, name: str) -> list[tuple[int, int]] | None:
    """Return what `_hunks` would, None where there may be two answers.

    That takes less time and memory: `git diff` holds both files in whole, and refuses those beyond a gigabyte.
    """
    # What git itself refuses or cannot read is for `_hunks` to say.
    with suppress(_DoubtError, GitError, OSError), open_file(top / name, top) as file:
        comparison = _Comparison()
        with stream_git(top, ["cat-file", "blob", blob]) as answer:
            comparison.compare(_Lines(answer), _Lines(file, refused=b"\r"))
        comparison.prove()
        return comparison.changed
    return None


class _Lines:
    """The lines of a file, from the next one on."""

    def __init__(self, file: IO[bytes], refused: bytes = b"") -> None:
        """Take an open file; what has ``refused`` in it is doubtful."""
        self._file, self._refused = file, refused
        self.ahead = b""
        self.is_read = False

    def fill(self) -> bytes:
        """Return what comes next, a block at least unless it is the rest."""
        while len(self.ahead) < _BLOCK and not self.is_read:
            block = self._file.read(_BLOCK)
            # Git converts line ends as settings and attributes say; without these bytes there is nothing to convert.
            if self._refused and self._refused in block:
                raise _DoubtError
            self.ahead += block
            self.is_read = not block
        return self.ahead

    def window(self) -> tuple[list[bytes], bool]:
        """Return the next lines with their ends, and whether they are all that is left."""
        *lines, rest = self.ahead.split(b"\n", _WINDOW)
        is_rest = self.is_read and (len(lines) < _WINDOW or not rest)
        whole = [line + b"\n" for line in lines]
        return [*whole, rest] if is_rest and rest else whole, is_rest

    def skip(self, number: int) -> None:
        """Go on behind so many bytes."""
        self.ahead = self.ahead[number:]


class _Comparison:
    """The lines of a file that an older text does not have, in order."""

    # Lines are matched in turn, and behind a difference where the next equal ones are. Any comparison comes to this
    # result if no line that is left over on either side occurs on the other: they cannot be matched, and all others
    # are. Git lets a frequent line go unmatched between two that are left over, unless one that is not frequent stands
    # there as well: so the first line behind each difference must be the only one of its kind, up to the last one.

    def __init__(self) -> None:
        self.changed: list[tuple[int, int]] = []
        self._line = 1
        self._removed: set[int] = set()
        self._added: set[int] = set()
        self._after: list[int] = []
        """The first line behind each difference."""
        self._is_behind = False
        self._matched = array("q")

    def compare(self, old: _Lines, new: _Lines) -> None:
        """Match the lines of both, to their ends.

        Raises:
            _DoubtError: they cannot be matched in turn.
        """
        while old.fill() or new.fill():
            ahead = new.fill()
            equal = _num_equal(old.ahead, ahead)
            is_whole = equal == len(old.ahead) == len(ahead) and old.is_read and new.is_read
            if end := equal if is_whole else old.ahead.rfind(b"\n", 0, equal) + 1:
                self._match(old.ahead[:end])
                old.skip(end)
                new.skip(end)
            else:
                self._differ(old, new)

    def prove(self) -> None:
        """Make sure that there is no other result.

        Raises:
            _DoubtError: there may be.
        """
        # Nothing stands between the last difference and another.
        between = self._after[:-1] if self._is_behind else self._after
        left_over = self._removed | self._added
        watched = left_over.union(between)
        if len(watched) != len(self._removed) + len(self._added) + len(between):
            raise _DoubtError
        if watched and sum(map(watched.__contains__, self._matched)) != len(between):
            raise _DoubtError

    def _match(self, text: bytes) -> None:
        lines = text.removesuffix(b"\n").split(b"\n")
        numbers = array("q", map(hash, lines))
        if (self._removed or self._added) and not self._is_behind:
            self._after.append(numbers[0])
            self._is_behind = True
        self._matched.extend(numbers)
        self._line += len(lines)

    def _differ(self, old: _Lines, new: _Lines) -> None:
        """Leave the lines over that stand before the next equal ones."""
        (old_lines, is_old_rest), (new_lines, is_new_rest) = old.window(), new.window()
        firsts = {line: index for index, line in reversed(list(enumerate(new_lines)))}
        equal = [(index, firsts[line]) for index, line in enumerate(old_lines) if line in firsts]
        if not equal and not is_old_rest and not is_new_rest:
            raise _DoubtError
        num_old, num_new = min(equal, key=sum, default=(len(old_lines), len(new_lines)))
        removed, added = old_lines[:num_old], new_lines[:num_new]
        # A line that is longer than a block is in neither.
        if not removed and not added:
            raise _DoubtError
        for lines, side, numbers in ((removed, old, self._removed), (added, new, self._added)):
            side.skip(sum(map(len, lines)))
            numbers.update(hash(line.removesuffix(b"\n")) for line in lines)
        if added:
            self.changed.append((self._line, num_new))
        self._line += num_new
        self._is_behind = False


def _num_equal(left: bytes, right: bytes) -> int:
    """Return how many bytes are equal at the start of both."""
    least, most = 0, min(len(left), len(right))
    if left[:most] == right[:most]:
        return most
    # That many are, and so many are not.
    while most - least > 1:
        middle = (least + most) // 2
        if left[least:middle] == right[least:middle]:
            least = middle
        else:
            most = middle
    return least


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
