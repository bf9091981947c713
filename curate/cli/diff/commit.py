"""A data set as a commit has it, laid out in a folder for as long as it is read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from curate.base.console import one_line
from curate.base.git import GitError, ask_git, stream_git
from curate.base.record import CurateError, Exit
from curate.base.storage import write_atomic
from curate.cli.diff.versions import is_of_a_version

_SUFFIXES = {".toml", ".json", ".jsonl", ".log"}
_PIECE = 1 << 20


@contextmanager
def checked_out(commit: str, path: str, folder: Path) -> Iterator[Path]:
    """Lay ``path`` of ``commit`` out in a temporary folder and yield where it lies, a file or a folder.

    ``path`` is spelled as git spells it: from the top of the repository that holds ``folder``, or with a leading "./"
    from ``folder``. Links and submodules are left out, and so is what holds neither records, settings nor decisions.

    Raises:
        CurateError: E966 when git does not know the commit or the path, or the repository lacks some of it; E906 when
            there is no room for it.
    """
    if commit.startswith("-"):
        raise CurateError("E966 git-refused", f"{one_line(commit)!r} is no commit")
    with tempfile.TemporaryDirectory(prefix="curate-diff-") as scratch:
        with _refusals_as_errors(folder):
            laid = _lay_out(f"{commit}:{path}", folder, Path(scratch))
        yield laid


@contextmanager
def _refusals_as_errors(folder: Path) -> Iterator[None]:
    """Raise the reason why git does not answer in ``folder`` as an error of ours.

    Raises:
        CurateError: E966; exit code 3 where git is absent, too old or too slow.
    """
    try:
        yield
    except GitError as error:
        why = one_line(error.why, 300)
        if error.is_missing:
            raise CurateError("E966 git-refused", why, error.hint, exit_code=Exit.MISSING) from error
        raise CurateError("E966 git-refused", f"{one_line(str(folder))}: {why}", error.hint) from error


def _lay_out(name: str, folder: Path, target: Path) -> Path:
    """Write what git calls ``name`` into ``target``, and return the file or folder that it is now."""
    if ask_git(folder, ["cat-file", "-t", name]).strip() == b"blob":
        file = target / (PurePosixPath(name.partition(":")[2]).name or "records.jsonl")
        with stream_git(folder, ["cat-file", "blob", name]) as answer:
            write_atomic(file, iter(lambda: answer.read(_PIECE), b""))
        return file
    wanted: list[tuple[str, Path]] = []
    for entry in ask_git(folder, ["ls-tree", "-r", "-z", "--full-tree", name]).split(b"\0"):
        head, _, spelled = entry.partition(b"\t")
        path = PurePosixPath(os.fsdecode(spelled))
        if head.startswith(b"100") and path.suffix in _SUFFIXES and is_of_a_version(path):
            # A tree can be written by hand: what would lie outside the folder is no file of a data set.
            if path.is_absolute() or ".." in path.parts:
                continue
            wanted.append((head.split()[2].decode(), target / path))
    if not wanted:
        return target
    request = "".join(f"{blob}\n" for blob, _ in wanted).encode()
    # One after another as they come: a data set need not fit in memory.
    with stream_git(folder, ["cat-file", "--batch"], request) as answer:
        for blob, file in wanted:
            # Its name, its type and its size, unless git has said that it is missing, or nothing more at all.
            header = answer.readline().split()
            if len(header) != 3:
                raise _lacking(blob, name)
            write_atomic(file, _content(answer, int(header[2]), _lacking(blob, name)))
    return target


def _content(answer: IO[bytes], size: int, otherwise: CurateError) -> Iterator[bytes]:
    """Yield the ``size`` bytes that come next, and pass the newline after them."""
    while size:
        piece = answer.read(min(size, _PIECE))
        if not piece:
            raise otherwise
        size -= len(piece)
        yield piece
    answer.read(1)


def _lacking(blob: str, name: str) -> CurateError:
    message = f"the repository lacks {blob}, which {one_line(name)} has"
    hint = "A partial clone fetches it with `git checkout`; a damaged one is told by `git fsck`."
    return CurateError("E966 git-refused", message, hint)
