"""Which lines of which files a git diff touched, asked of the `git` program."""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b, sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from curate.base.console import one_line, spelled
from curate.base.file_guard import FileStamp, stamp_of
from curate.base.git import GitError, ask_git, stream_git
from curate.base.record import CurateError, Exit, Finding, Json
from curate.checks.runner.select import relative_name
from curate.jsonl import RawBlock, Reader, block_at, cut, fault_finding

if TYPE_CHECKING:
    from curate.base.hashing import Indices
    from curate.base.packs import Pack
    from curate.similarity.dedupe.blocks import Flags
    from curate.similarity.dedupe.columns import ColumnCache

_DIGEST_SIZE = 16  # Bytes of the digest of a line.
_HUNK = re.compile(rb"@@ -[0-9,]+ \+([0-9]+)(?:,([0-9]+))? @@")
_PIECE = 1 << 16
_MOST_PATHS = 500
# Bytes of digests of each side that are looked at behind a difference, and that are compared at once.
_WINDOW = 256 * _DIGEST_SIZE
_MOST_AT_ONCE = 1 << 20
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


def changed_lines(
    files: Sequence[Path], since: str, cache: ColumnCache | None = None, root: Path | None = None
) -> dict[str, LineSet]:
    """Return the lines of each file that differ from the commit ``since``, by the path as given.

    What ``cache``, that of the workspace ``root``, knows of a commit's files is not read again.

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
    digests = _LineDigests(cache, root)
    return {name: lines for top, paths in groups.items() for name, lines in _changed_in(top, paths, since, digests)}


def _changed_in(top: Path, paths: Sequence[Path], since: str, digests: _LineDigests) -> Iterator[tuple[str, LineSet]]:
    commit = _ask(top, "rev-parse", "--verify", "--quiet", f"{since}^{{commit}}", default=b"").strip().decode()
    if not commit:
        hint = "A shallow clone may lack it: fetch more of the history."
        raise CurateError("E957 bad-revision", f"there is no commit {one_line(since)!r} in {one_line(str(top))}", hint)
    renamed = {difference.name: difference for difference in _renamed(top, commit)}
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
            differs = renamed[name]
            ranges = None
            if differs.status in "MR" and name not in converted:
                # That takes less time and memory: `git diff` holds both files in whole, and refuses those beyond a
                # gigabyte. What cannot be read, or has two answers, is for git to say.
                with suppress(_DoubtError, GitError, OSError, CurateError):
                    old_lines = digests.of_blob(top, differs.old_blob)
                    ranges = changed_ranges(old_lines, digests.of_file(path, top))
            if ranges is None:
                ranges = list(_hunks(top, commit, dict.fromkeys([differs.old_name, name])))
            yield str(path), LineSet(ranges)
        else:
            yield str(path), NO_LINES


class _Difference(NamedTuple):
    """How a file differs from a commit: in a letter of git, its name here and there, and the blob there."""

    status: str
    name: str
    old_name: str
    old_blob: str


def _renamed(top: Path, commit: str) -> Iterator[_Difference]:
    # Files whose times have changed are read from end to end.
    with _refusals(top), stream_git(top, [*_DIFF, "--raw", "--no-abbrev", "-z", commit]) as answer:
        words = iter(_fields(answer.read()))
    for about in words:
        _, _, old_blob, _, status = about.split(" ")
        old = next(words)
        yield _Difference(status[0], next(words) if status[0] in "RC" else old, old, old_blob)


def _attributes(top: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, attribute) of each of the files that git holds in another form than they have on disk.

    That line ends may be converted is not said.
    """
    words = iter(_by_path(top, names, "check-attr", "-z", "filter", "ident", "working-tree-encoding"))
    values = [(name, next(words), next(words)) for name in words]
    return [(name, attribute) for name, attribute, value in values if value not in ("unspecified", "unset")]


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


def changed_ranges(old: bytes, new: bytes) -> list[tuple[int, int]]:
    """Return (first line, number of lines) of each part of a text that an older one does not have, in order.

    Both come as the digests of their lines, see `_LineDigests`.

    Raises:
        _DoubtError: there may be another result.
    """
    # Lines are matched in turn, and behind a difference where the next equal ones are. Any comparison comes to this
    # result if no line that is left over on either side occurs on the other: they cannot be matched, and all others
    # are. Git lets a frequent line go unmatched between two that are left over, unless one that is not frequent stands
    # there as well: so the first line behind each difference must be the only one of its kind, up to the last one.
    ranges: list[tuple[int, int]] = []
    removed: list[bytes] = []
    added: list[bytes] = []
    behind: list[bytes] = []
    is_behind, left, right = True, 0, 0
    while left < len(old) or right < len(new):
        if num := _num_equal(old, new, left, right):
            if not is_behind:
                behind += _records(old[left : left + _DIGEST_SIZE])
            is_behind, left, right = True, left + num, right + num
            continue
        num_old, num_new = _num_apart(old, new, left, right)
        removed += _records(old[left : left + num_old])
        added += _records(new[right : right + num_new])
        if num_new:
            ranges.append((right // _DIGEST_SIZE + 1, num_new // _DIGEST_SIZE))
        is_behind, left, right = False, left + num_old, right + num_new
    # Nothing stands between the last difference and another.
    between = behind[:-1] if is_behind else behind
    watched = {*removed, *added, *between}
    if len(watched) != len({*removed}) + len({*added}) + len(between):
        raise _DoubtError
    if watched and sum(map(watched.__contains__, _records(old))) != len(removed) + len(between):
        raise _DoubtError
    return ranges


def _num_apart(old: bytes, new: bytes, left: int, right: int) -> tuple[int, int]:
    """Return how many bytes of each stand before the next equal lines."""
    old_window, new_window = old[left : left + _WINDOW], new[right : right + _WINDOW]
    firsts = {digest: index for index, digest in reversed(list(enumerate(_records(new_window))))}
    equal = [(index, firsts[digest]) for index, digest in enumerate(_records(old_window)) if digest in firsts]
    if not equal and left + _WINDOW < len(old) and right + _WINDOW < len(new):
        raise _DoubtError
    if not equal:
        return len(old_window), len(new_window)
    num_old, num_new = min(equal, key=sum)
    return num_old * _DIGEST_SIZE, num_new * _DIGEST_SIZE


def _records(digests: bytes) -> Iterator[bytes]:
    return (digests[start : start + _DIGEST_SIZE] for start in range(0, len(digests), _DIGEST_SIZE))


def _num_equal(old: bytes, new: bytes, left: int, right: int) -> int:
    """Return how many bytes are equal from there on, in whole digests."""
    start, size = left, _WINDOW
    while (part := old[left : left + size]) and part == new[right : right + len(part)]:
        left, right, size = left + len(part), right + len(part), min(2 * size, _MOST_AT_ONCE)
    while (digest := old[left : left + _DIGEST_SIZE]) and digest == new[right : right + _DIGEST_SIZE]:
        left, right = left + _DIGEST_SIZE, right + _DIGEST_SIZE
    return left - start


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


# Lines as digests, kept by block: git need not unpack what is known.


class _DoubtError(Exception):
    """Which lines have changed depends on how they are compared, or cannot be told from their digests."""


class _LineDigests:
    """Gives digests of lines, `_DIGEST_SIZE` bytes each, joined, and keeps them in a cache if there is one."""

    def __init__(self, cache: ColumnCache | None = None, root: Path | None = None) -> None:
        """Take the cache of the workspace ``root``."""
        self._root = root
        self._pack: Pack | None = None
        if cache:
            with suppress(CurateError):
                self._pack = cache.opened()

    def of_file(self, path: Path, folder: Path) -> bytes:
        """Return the digests of the lines of a file within ``folder``.

        Raises:
            CurateError: E904 when it may not be read; E974 when it changes meanwhile.
            _DoubtError: git may hold its lines in another form; or it is not made of lines.
        """
        stamp = stamp_of(path, spelled(relative_name(path, self._root) or str(path)))
        reader = Reader(path.resolve(), name=spelled(str(path)), root=folder)
        # Git converts line ends as settings and attributes say; without CR there is nothing to convert.
        return self._of_blocks(self._blocks_of(reader, stamp), may_have_cr=False)[1]

    def of_blob(self, folder: Path, blob: str) -> bytes:
        """Return the digests of the lines of a file as the git repository of ``folder`` has it.

        Raises:
            GitError: git does not have it.
            _DoubtError: it is not made of lines.
        """
        if self._pack and (entry := self._pack.get(_blob_key(blob))):
            known = [self._known(bytes.fromhex(key)) for key in entry.about["keys"]]
            if None not in known:
                return b"".join(digests for digests, _ in filter(None, known))
        with stream_git(folder, ["cat-file", "blob", blob]) as answer:
            keys, digests = self._of_blocks(_blocks_in(answer), may_have_cr=True)
        # Only of what git has unpacked: that a file is the same as a blob it often takes for granted.
        if self._pack and _blob_key(blob) not in self._pack:
            self._keep(_blob_key(blob), {"keys": [key.hex() for key in keys]})
        return digests

    def _blocks_of(self, reader: Reader, stamp: FileStamp) -> Iterator[RawBlock | Finding]:
        """Yield the blocks of a file, and keep where they are, so that it is cut once."""
        if self._pack is None:
            yield from reader.blocks()
            return
        # It needs numpy.
        from curate.checks.runner.file_parts import FileParts, keep_parts, known_parts
        from curate.similarity.dedupe.columns import Part

        if known := known_parts(self._pack, stamp, has_columns=False):
            yield from reader.blocks_at(known.parts, known.num_lines)
            return
        of_file = FileParts(stamp)
        for item in reader.blocks():
            if isinstance(item, Finding):
                of_file.findings.append(item)
            else:
                of_file.parts.append(Part(item.key, item.number, item.offset, item.size))
            yield item
        of_file.num_lines = reader.num_lines
        if stamp_of(reader.path, stamp[0]) == stamp:
            keep_parts(self._pack, of_file)

    def _of_blocks(self, blocks: Iterator[RawBlock | Finding], *, may_have_cr: bool) -> tuple[list[bytes], bytes]:
        """Return the keys of blocks, where there is a cache, and the digests of their lines."""
        keys: list[bytes] = []
        digests: list[bytes] = []
        for block in blocks:
            if isinstance(block, Finding):
                raise _DoubtError
            key = block.key if self._pack else b""
            known = self._known(key)
            if known is None:
                known = _digests_of(block), b"\r" in block.whole
                self._keep(_lines_key(key), {"has_cr": known[1]}, known[0])
            if known[1] and not may_have_cr:
                raise _DoubtError
            keys.append(key)
            digests.append(known[0])
        return keys, b"".join(digests)

    def _known(self, key: bytes) -> tuple[bytes, bool] | None:
        """Return the digests of the lines of a block, and whether one has a CR."""
        entry = self._pack.get(_lines_key(key)) if self._pack else None
        return (entry.arrays["digests"].tobytes(), entry.about["has_cr"]) if entry else None

    def _keep(self, key: bytes, about: dict[str, Json], digests: bytes | None = None) -> None:
        """Keep what is known of a block or of a blob, where there is a cache that can be written to."""
        if self._pack:
            import numpy as np

            arrays = {} if digests is None else {"digests": np.frombuffer(digests, np.uint8)}
            with suppress(OSError):
                self._pack.append(key, about, arrays, np.zeros(0, np.uint64))


def _digests_of(block: RawBlock) -> bytes:
    """Return the digests of the lines of a block; the last line has another one where no newline ends it."""
    digests = [sha256(line).digest()[:_DIGEST_SIZE] for line in block.lines]
    if not block.is_ended:
        digests[-1] = digests[-1][::-1]
    return b"".join(digests)


def _blocks_in(answer: IO[bytes]) -> Iterator[RawBlock]:
    number = 1
    for offset, whole, _ in cut(lambda num, _: answer.read(num)):
        if whole is None:
            raise _DoubtError
        block = block_at(number, offset, whole)
        number += block.num_lines
        yield block


def _lines_key(key: bytes) -> bytes:
    return blake2b(key, digest_size=16, person=b"lines").digest()


def _blob_key(blob: str) -> bytes:
    return blake2b(blob.encode(), digest_size=16, person=b"blob").digest()
