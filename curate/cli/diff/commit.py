"""A data set as a commit has it, laid out in a folder for as long as it is read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from curate.merge import ask_git
from curate.record import CurateError
from curate.say import one_line
from curate.store import write_atomic

_NOT_DATA = {"runs", "models", "exports", ".curate", ".git"}
_SUFFIXES = {".toml", ".json", ".jsonl", ".log"}


@contextmanager
def checked_out(commit: str, path: str, folder: Path) -> Iterator[Path]:
    """Lay ``path`` of ``commit`` out in a temporary folder and yield where it lies, a file or a folder.

    ``path`` is spelled as git spells it: from the top of the repository that holds ``folder``, or with a leading "./"
    from ``folder``. Links and submodules are left out, and so is what holds neither records, settings nor decisions.

    Raises:
        CurateError: E966 when git does not know the commit or the path.
    """
    if commit.startswith("-"):
        raise CurateError("E966 git-refused", f"{one_line(commit)!r} is no commit")
    name = f"{commit}:{path}"
    kind = ask_git(folder, ["cat-file", "-t", name]).strip()
    with tempfile.TemporaryDirectory(prefix="curate-diff-") as made:
        place = Path(made)
        if kind == b"blob":
            file = place / (PurePosixPath(path).name or "records.jsonl")
            write_atomic(file, [ask_git(folder, ["cat-file", "blob", name])])
            yield file
        else:
            _lay_out(name, folder, place)
            yield place


def _lay_out(name: str, folder: Path, place: Path) -> None:
    wanted: list[tuple[str, Path]] = []
    for entry in ask_git(folder, ["ls-tree", "-r", "-z", "--full-tree", name]).split(b"\0"):
        head, _, spelled = entry.partition(b"\t")
        path = PurePosixPath(os.fsdecode(spelled))
        if head.startswith(b"100") and path.suffix in _SUFFIXES and not _NOT_DATA & set(path.parts):
            # A tree can be written by hand: what would lie outside the folder is no file of a data set.
            if path.is_absolute() or ".." in path.parts:
                continue
            wanted.append((head.split()[2].decode(), place / path))
    if not wanted:
        return
    blobs = ask_git(folder, ["cat-file", "--batch"], "".join(f"{blob}\n" for blob, _ in wanted).encode())
    start = 0
    for _, file in wanted:
        end = blobs.index(b"\n", start)
        blob, *told = blobs[start:end].decode().split()
        if told[-1] == "missing":
            raise CurateError(
                "E966 git-refused",
                f"the repository lacks {blob}, which {one_line(name)} has",
                "A partial clone fetches it with `git checkout`; a damaged one is told by `git fsck`.",
            )
        size = int(told[-1])
        write_atomic(file, [blobs[end + 1 : end + 1 + size]])
        start = end + 1 + size + 1
