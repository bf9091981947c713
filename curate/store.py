"""The only file that writes to disk: whole files are replaced in one step, and nothing is called saved before it is.

A crash, a full disk or a power cut leaves the old file or the new one, never a part of either. The promise rests on the
file system's fsync and rename being truthful.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from curate.record import CurateError


def write_atomic(path: Path, chunks: Iterable[bytes]) -> str:
    """Replace ``path`` by the concatenation of ``chunks`` and return its SHA-256 in hex.

    Written to a temporary file in the same folder, synced, read back and compared by digest, renamed, folder synced. The
    folder is made when it is missing. On any failure ``path`` is untouched and the temporary file is gone.

    Raises:
        CurateError: E906 write-failed, with the reason the system gave.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        digest = _write_all(handle, chunks)
        if hashlib.sha256(temporary.read_bytes()).hexdigest() != digest:
            raise OSError("what was read back is not what was written")
        # mkstemp makes files private; a data set is as readable as the user's umask says.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise CurateError("E906 write-failed", f"{path}: {error}", "The old file, if any, is untouched.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable: a rename is safe only once its folder is synced."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, chunks: Iterable[bytes]) -> str:
    """Write every byte to ``handle``, sync and close it, and return the SHA-256 of what was to be written."""
    digest = hashlib.sha256()
    try:
        for chunk in chunks:
            digest.update(chunk)
            rest = memoryview(chunk)
            while rest:
                # os.write may take less than it is given and report no error, as on a nearly full disk.
                rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    return digest.hexdigest()


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
