"""The only file that writes to disk: whole files are replaced in one step, and nothing is called saved before it is.

A crash, a full disk or a power cut leaves the old file or the new one, never a part of either. The promise rests on the
file system's fsync and rename being truthful. What the system refuses here is a `CurateError` E906 with its
reason; a new file whose name is taken, E919.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import open_descriptor, open_file
from curate.base.record import CurateError, Exit

# The code of errors for whatever the system does not write.
WRITE_FAILED = "E906 write-failed"
# Bytes that wait in memory to be written at once.
_BLOCK = 1 << 20
_NOT_SAVED = "The last decision is not saved."


class AtomicFile:
    """A file that takes the place of ``path`` in one step, once all of it is written and synced.

    It grows under a temporary name in the same folder, which is made when it is missing. Until `commit`, and whatever
    fails, ``path`` is untouched.
    """

    def __init__(self, path: Path) -> None:
        # It takes a while to load, and most calls only read.
        import tempfile

        make_folder(path.parent)
        self.path = path
        self.num_bytes = 0
        self._digest = hashlib.sha256()
        self._chunks: list[bytes] = []
        self._num_waiting = 0
        try:
            # A link or a device (/dev/null) is somebody else's file: replacing it would take it away from them.
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise FileExistsError(errno.EEXIST, "is there and is no regular file")
            # Long names are cut, because the temporary one is longer still.
            self._handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
        except OSError as error:
            raise refusal(path, error) from error
        self._temporary = Path(name)

    def write(self, chunk: bytes) -> None:
        """Add ``chunk`` to the end."""
        self._chunks.append(chunk)
        self._num_waiting += len(chunk)
        # Lines come one by one, and a call of the system for each takes as long as to make it.
        if self._num_waiting >= _BLOCK:
            try:
                self._flush()
            except OSError as error:
                raise refusal(self.path, error) from error

    def commit(self, *, is_new: bool = False, mode: int | None = None) -> str:
        """Sync the file, compare what is read back by digest, give it its name, and return its SHA-256 in hex.

        With ``is_new`` a file that is there is not replaced. ``mode`` holds its permissions, by default what the umask
        leaves of 0666.

        Raises:
            CurateError: E919 when ``is_new`` and the file is there.
        """
        path, temporary = self.path, self._temporary
        try:
            self._flush()
            os.fsync(self._handle)
            self._close()
            digest = self._digest.hexdigest()
            with open_file(temporary) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    raise OSError("what was read back is not what was written")
            # mkstemp makes files private; a data set is as readable as the user's umask says.
            temporary.chmod(0o666 & ~_umask() if mode is None else mode)
            if is_new:
                # Unlike a rename, a link never takes the place of a file that another process put there meanwhile.
                os.link(temporary, path)
            else:
                temporary.replace(path)
            sync_folder(path.parent)
        except FileExistsError as error:
            message = f"{one_line(str(path), 500)} is there already"
            raise CurateError("E919 would-overwrite", message, "Nothing was written.") from error
        except OSError as error:
            raise refusal(path, error) from error
        return digest

    def close(self) -> None:
        """Remove what is left of the temporary file; closing twice is harmless."""
        self._close()
        self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        content = b"".join(self._chunks)
        self._chunks.clear()
        self._num_waiting = 0
        self._digest.update(content)
        self.num_bytes += len(content)
        rest = memoryview(content)
        while rest:
            # os.write may take less than it is given and report no error, as on a nearly full disk.
            rest = rest[os.write(self._handle, rest) :]

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


def write_atomic(path: Path, chunks: Iterable[bytes], *, is_new: bool = False, mode: int | None = None) -> str:
    """Replace ``path`` by the concatenation of ``chunks`` and return its SHA-256 in hex, as `AtomicFile` does.

    ``is_new`` and ``mode`` as in `AtomicFile.commit`.

    Raises:
        CurateError: E919 when ``is_new`` and the file is there.
    """
    with closing(AtomicFile(path)) as file:
        try:
            for chunk in chunks:
                file.write(chunk)
        except OSError as error:
            raise refusal(path, error) from error
        return file.commit(is_new=is_new, mode=mode)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, "" where there is none."""
    if path.is_symlink() or not path.is_file():
        return ""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(folder: Path) -> None:
    """Make ``folder`` and what is missing above it, durably."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)
    except OSError as error:
        raise refusal(folder, error) from error


def make_cache(folder: Path) -> None:
    """Make ``folder`` for what can be made again or must stay on this machine: git leaves all of it out."""
    ignore = folder / ".gitignore"
    if not ignore.exists():
        write_atomic(ignore, [b"# Caches, drafts and private files of this machine; git leaves all of it out.\n*\n"])


@contextmanager
def locked(path: Path, on_wait: Callable[[], object]) -> Iterator[None]:
    """Hold the lock of ``path``, a file next to it; where another process has it, call ``on_wait`` and wait for it."""
    # Few commands lock anything.
    from filelock import FileLock, Timeout

    target = path.resolve()
    make_folder(target.parent)
    # In a folder where we may not write, ``path`` cannot be replaced either, so nothing is locked.
    if not os.access(target.parent, os.W_OK):
        yield
        return
    # The lock file stays, because removing it would let two processes in at once.
    lock = FileLock(f"{target}.lock", mode=0o600)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            lock.acquire()
    except OSError as error:
        raise refusal(path, error) from error
    try:
        yield
    finally:
        lock.release()


def publish_folder(temporary: Path, folder: Path) -> None:
    """Give the finished ``temporary`` folder its name ``folder``, which must not exist yet, in one durable step.

    Both lie in the same parent folder, and the files of ``temporary`` are already synced. It is left as it is where
    that fails.
    """
    try:
        sync_folder(temporary)
        # A rename onto an empty folder would succeed in silence.
        if folder.exists():
            raise FileExistsError(f"{folder} exists")
        temporary.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise CurateError(WRITE_FAILED, f"{folder}: {error}") from error


class Segment:
    """A new file that only grows. What `append` has returned from is on the disk; nothing is ever written over.

    As long as it is open the system holds a lock on it for us, see `is_segment_open`; it lets go when we close it, and
    when we die.
    """

    def __init__(self, path: Path) -> None:
        """Create ``path``, which must not exist."""
        make_folder(path.parent)
        self.path = path
        self._length = 0
        self._handle = -1
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._handle = os.open(path, flags, 0o666)
            # Where a file system has no locks, `is_segment_open` says so.
            with suppress(OSError):
                fcntl.flock(self._handle, fcntl.LOCK_EX)
            sync_folder(path.parent)
        except OSError as error:
            self.close()
            raise refusal(path, error, _NOT_SAVED) from error

    def append(self, frames: bytes) -> None:
        """Write ``frames`` whole and sync them."""
        try:
            if self._handle < 0:
                raise OSError("the segment is closed")
            rest = memoryview(frames)
            while rest:
                # os.write may take less than it is given and report no error.
                rest = rest[os.write(self._handle, rest) :]
            os.fsync(self._handle)
            self._require_name()
        # Where that fails, the file is cut back to what was whole before, closed, and takes no more, because after a
        # failed sync the system may have forgotten what it had accepted.
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._handle, self._length)
            self.close()
            raise refusal(self.path, error, _NOT_SAVED) from error
        self._length += len(frames)

    def close(self) -> None:
        """Close the file for good; closing twice is harmless. One that never held anything is removed."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            with suppress(OSError):
                if self._length == 0 and os.path.samestat(os.fstat(handle), self.path.lstat()):
                    self.path.unlink()
            with suppress(OSError):
                os.close(handle)

    def _require_name(self) -> None:
        # What was written must be found again: somebody may have moved or removed the file under us.
        if not os.path.samestat(os.fstat(self._handle), self.path.stat()):
            raise OSError("somebody has put another file in its place")


def is_segment_open(path: Path) -> bool:
    """Whether a process on this machine has the segment ``path`` open, so that its last line may still be growing.

    True also where the file system cannot tell.

    Raises:
        OSError: the file is gone, or may not be read.
    """
    handle = open_descriptor(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def move_file(path: Path, target: Path) -> None:
    """Give ``path`` the name ``target``, which must not exist, durably; the folder of ``target`` is made."""
    make_folder(target.parent)
    try:
        # A rename would take the place of a file without a word.
        if target.exists():
            raise FileExistsError(errno.EEXIST, "is there already")
        path.rename(target)
        sync_folder(target.parent)
        sync_folder(path.parent)
    except OSError as error:
        raise refusal(target, error, "Nothing was moved.") from error


def remove_file(path: Path) -> None:
    """Remove ``path``, durably; one that is not there is no fault."""
    try:
        path.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise refusal(path, error, "It is still there.") from error


class Scratch:
    """A folder of files that can be made again, such as a cache: it gets its name only when it is whole."""

    def __init__(self, folder: Path) -> None:
        """Begin ``folder`` under a name of this process."""
        make_folder(folder.parent)
        self.folder = folder
        self._temporary = folder.parent / f".{folder.name}.{os.getpid()}.tmp"
        remove_folder(self._temporary)
        make_folder(self._temporary)

    def path(self, name: str) -> Path:
        """Return where the file called ``name`` lies until the folder is published."""
        return self._temporary / name

    def append(self, name: str, content: bytes | memoryview) -> None:
        """Add ``content`` to the end of the file called ``name``."""
        try:
            with self.path(name).open("ab") as file:
                file.write(content)
        except OSError as error:
            raise refusal(self.path(name), error) from error

    def publish(self) -> None:
        """Sync what was written and give the folder its name; if it is there meanwhile, that one stays."""
        try:
            for path in self._temporary.iterdir():
                with open_file(path) as file:
                    os.fsync(file.fileno())
            if self.folder.exists():
                self.discard()
            else:
                publish_folder(self._temporary, self.folder)
        except OSError as error:
            raise refusal(self.folder, error) from error

    def discard(self) -> None:
        """Remove what was written, unless it was published."""
        remove_folder(self._temporary)


def remove_folder(folder: Path) -> None:
    """Remove ``folder`` and what is in it, as far as the system lets us: only for what can be made again."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable: a rename is safe only once its folder is synced."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refusal(path: Path, error: OSError, hint: str = "The old file, if any, is untouched.") -> CurateError:
    """Return E906 for ``path``, which the system does not let us write, with exit code 3 where the disk is full."""
    lacks_space = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return CurateError(
        WRITE_FAILED,
        f"{one_line(str(path), 500)}: {error.strerror or error}",
        hint,
        exit_code=Exit.MISSING if lacks_space else Exit.USAGE,
    )


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
