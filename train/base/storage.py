"""Files and folders that are whole or absent, and digests of what they hold.

A file is written under another name, synced and then renamed, so that a killed process leaves the old one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from train.base.errors import Exit, TrainError
from train.base.file_guard import open_file

WRITE_FAILED = "E936 write-failed"


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Within, an error of the disk is raised as TrainError "E936 write-failed" (exit 3), which names ``what``."""
    try:
        yield
    except TrainError:
        raise
    except Exception as error:
        # safetensors and tokenizers report errors of the disk as exceptions of their own, whose text ends in Rust's
        # "(os error N)".
        if not isinstance(error, OSError) and "(os error " not in str(error):
            raise
        raise TrainError(
            WRITE_FAILED, f"{what}: {error}", "Make room on the disk, or name a folder that may be written to.",
            exit_code=Exit.MISSING,
        ) from error  # fmt: skip


def write_whole(path: Path, chunks: Iterable[str]) -> Path:
    """Replace ``path`` in one step by the concatenation of ``chunks`` in UTF-8, synced, and return it.

    Raises TrainError "E936 write-failed" as `writing` does; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Left behind by a killed process that had the same number; a link in its place is not followed.
            temporary.unlink(missing_ok=True)
            with temporary.open("x", encoding="utf-8", newline="\n") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


@contextmanager
def appending(path: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that appends lines to ``path``, each of which outlives a kill of this process.

    It raises TrainError "E936 write-failed" as `writing` does.
    """
    with writing(path):
        file = path.open("a", encoding="utf-8", newline="\n")

    def put(line: str) -> None:
        with writing(path):
            file.write(line)
            file.flush()

    with file:
        yield put


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``final`` when the block ends well, and is gone when it does not.

    Raises TrainError "E936 write-failed" as `writing` does; what was there is then as it was.
    """
    work, old = (final.with_name(f".{final.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        with writing(final):
            # Left behind by a killed process that had the same number.
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            yield work
            # Everything is on the disk before the rename, or a power cut could leave a folder of empty files.
            for path in work.rglob("*"):
                sync(path)
            sync(work)
            # Of two folders none can replace the other in one step, so the old one steps aside.
            if final.exists():
                final.rename(old)
            work.rename(final)
            sync(final.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a power cut."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def canonical_json(value: Any) -> str:
    """Return a JSON value as the one text that stands for it: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    # Weights may lie in a cache of links.
    with open_file(path.resolve()) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def installed_version(name: str) -> str:
    """Return the version of a package, "" where it is not installed as one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def sources_digest(folder: Path) -> str:
    """Return a SHA-256 over the names and digests of all Python files under ``folder``."""
    hashed = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        hashed.update(f"{file.relative_to(folder)} {sha256_of(file)}\n".encode())
    return hashed.hexdigest()
