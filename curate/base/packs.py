"""Arrays in one file that only ever grows: a cache of what can be made again, which several processes read and write.

A pack lies in a folder of its own. Its entries are found by a key of 16 bytes, the last one of a key counts, and what a
writer left half done is cut off by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from mmap import MADV_DONTNEED, mmap
from pathlib import Path
from struct import Struct
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from curate.base.file_guard import open_descriptor
from curate.base.hashing import Hashes
from curate.base.storage import is_locked, make_folder, remove_folder

_PACK, _LOCK = "pack", "lock"
# Magic, key, bytes of the text, words of the small arrays and the large one, sums of the words of each
# (see `_small_sum`).
_ENTRY = Struct("<8s16sQQQQQ")
_ENTRY_MAGIC, _MAGIC = b"entry\x00\x00\x01", b"pack\x00\x00\x00\x02"
# Magic, inode and time of change of the folder, inode of the file.
_HEAD = Struct("<8sQQQ")
_WORD = 8
# Parts of some 10 MB whose words stay in memory.
_RELEASE_EVERY = 16
Part = TypeVar("Part")


class _Extent(NamedTuple):
    """Where an entry is: the word it begins with, bytes of its text, words of its arrays, their sums."""

    start: int
    num_text: int
    num_small: int
    num_large: int
    small_sum: int
    large_sum: int

    @property
    def large_start(self) -> int:
        return self.start + _ENTRY.size // _WORD + self.num_small


class PackEntry(NamedTuple):
    """What is stored under a key; ``start`` and ``stop`` are where the large array lies among the words of the pack."""

    about: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    start: int
    stop: int


# What is stored under a key, as `append` takes it: key, text as JSON, small arrays, the large one.
PackItem = tuple[bytes, dict[str, Any], Mapping[str, NDArray[Any]], Hashes]


class Pack:
    """A pack that is open. Several threads may use it.

    Raises:
        OSError: it cannot be opened or made.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder
        self._reader = self._opened()
        self._lock = Lock()
        self._extents: dict[bytes, _Extent] = {}
        self._end = _HEAD.size
        weakref.finalize(self, os.close, self._reader)
        self.refresh()

    # No one but us has made what is read here: the folder's time of change, which nobody can set, is that of the making
    # of the two files in it, and stands at the beginning of the pack. Unpacking what somebody sent, or checking out
    # what somebody committed, leaves another one.

    def _opened(self) -> int:
        """Open the pack, made anew unless it is whole and was made here, and hold it so that nobody sweeps it away."""
        for _ in range(3):
            with suppress(FileExistsError):
                os.close(os.open(self.folder / _LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
            with self._alone():
                with suppress(FileExistsError):
                    os.close(os.open(self.folder / _PACK, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
                handle = open_descriptor(self.folder / _PACK)
                head = self._origin(handle)
                if os.fstat(handle).st_size < _HEAD.size:
                    self._write(b"", head)
                if os.pread(handle, _HEAD.size, 0) == head:
                    with suppress(OSError):
                        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return handle
                os.close(handle)
                remove_folder(self.folder)
            make_folder(self.folder)
        raise OSError(f"{self.folder} is changed by somebody else")

    def _origin(self, handle: int) -> bytes:
        folder = self.folder.stat()
        return _HEAD.pack(_MAGIC, folder.st_ino, folder.st_ctime_ns, os.fstat(handle).st_ino)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other writers out."""
        handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def refresh(self) -> None:
        """Take notice of what others have added."""
        size = os.fstat(self._reader).st_size
        while self._end + _ENTRY.size <= size:
            head = os.pread(self._reader, _ENTRY.size, self._end)
            magic, key, num_text, *rest = _ENTRY.unpack(head)
            extent = _Extent(self._end // _WORD, num_text, *rest)
            stop = (extent.large_start + extent.num_large) * _WORD
            if magic != _ENTRY_MAGIC or stop > size:
                break
            self._extents[key] = extent
            self._end = stop

    def __len__(self) -> int:
        """How many bytes it has."""
        return self._end

    def __contains__(self, key: bytes) -> bool:
        return key in self._extents

    def get(self, key: bytes) -> PackEntry | None:
        """Return what is stored under ``key``, None where nothing is, or nothing whole."""
        extent = self._extents.get(key)
        if extent is None:
            return None
        content = os.pread(self._reader, extent.num_small * _WORD, extent.start * _WORD + _ENTRY.size)
        sizes = extent.num_text, extent.num_small, extent.num_large
        if len(content) < extent.num_small * _WORD or _small_sum(content, sizes) != extent.small_sum:
            del self._extents[key]
            return None
        about = orjson.loads(content[: extent.num_text])
        arrays, offset = {}, _padded(extent.num_text)
        for name, kind, shape in about.pop("arrays"):
            array = np.frombuffer(content, np.dtype(kind), int(np.prod(shape)), offset).reshape(shape)
            arrays[name] = array
            offset += _padded(array.nbytes)
        return PackEntry(about, arrays, extent.large_start, extent.large_start + extent.num_large)

    def words(self) -> Hashes:
        """Return all words of the pack as it is, mapped from the file: entries say where their large arrays are."""
        with os.fdopen(os.dup(self._reader), "rb") as file:
            array = np.memmap(file, np.uint64, "r", shape=(self._end // _WORD,))
        # numpy cannot know the name of an open file, by which workers elsewhere map the same.
        array.filename = str(self.folder / _PACK)
        return array

    def are_whole(self, words: Hashes, keys: Iterable[bytes]) -> bool:
        """Whether the large arrays of ``keys`` among ``words`` are what was written; others are forgotten."""
        is_whole = True
        for key in releasing_pages(keys, words):
            extent = self._extents.get(key)
            if (
                extent is None
                or _sum(words[extent.large_start : extent.large_start + extent.num_large]) != extent.large_sum
            ):
                self._extents.pop(key, None)
                is_whole = False
        return is_whole

    def size_of(self, keys: Iterable[bytes]) -> int:
        """Return how many bytes the entries of ``keys`` take."""
        extents = [self._extents[key] for key in {*keys} if key in self._extents]
        return sum(_ENTRY.size + (extent.num_small + extent.num_large) * _WORD for extent in extents)

    def append(self, key: bytes, about: dict[str, Any], arrays: Mapping[str, NDArray[Any]], large: Hashes) -> None:
        """Store ``about``, ``arrays``, which are read at once, and ``large``, which is mapped.

        Raises:
            OSError: it cannot be written; then nothing is stored.
        """
        forms = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
        text = orjson.dumps({**about, "arrays": forms})
        parts = [text, *(np.ascontiguousarray(array).tobytes() for array in arrays.values())]
        small = b"".join(part + bytes(_padded(len(part)) - len(part)) for part in parts)
        large = np.ascontiguousarray(large)
        sizes = len(text), len(small) // _WORD, len(large)
        head = _ENTRY.pack(_ENTRY_MAGIC, key, *sizes, _small_sum(small, sizes), _sum(large))
        with self._lock, self._alone():
            if not os.path.samestat(os.fstat(self._reader), (self.folder / _PACK).stat()):
                # What is written at our place would cut off what the others have written since.
                raise OSError(errno.ESTALE, "the cache was made anew by another process")
            self.refresh()
            self._write(head, small, large.data, at=self._end)
            self.refresh()

    def _write(self, *parts: bytes | memoryview, at: int = 0) -> None:
        """Write ``parts`` from the place ``at`` on, which is the end of what is whole."""
        handle = os.open(self.folder / _PACK, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # A writer that ended badly may have left a part of an entry.
            os.ftruncate(handle, at)
            os.lseek(handle, at, os.SEEK_SET)
            try:
                for part in parts:
                    rest = memoryview(part).cast("B")
                    while rest:
                        rest = rest[os.write(handle, rest) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(handle, at)
                raise
        finally:
            os.close(handle)


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // _WORD) * _WORD


def _sum(words: Hashes) -> int:
    """Return a sum by which a page that never reached the disk is found out."""
    return int(np.add.reduce(words, dtype=np.uint64)) if len(words) else 0


def _small_sum(small: bytes, sizes: tuple[int, ...]) -> int:
    """Return a sum of the small arrays and of how long the parts of their entry are."""
    return (_sum(np.frombuffer(small, np.uint64)) + sum(sizes)) % (1 << 64)


def is_open(folder: Path) -> bool:
    """Whether some process has the pack in ``folder`` open, or may have."""
    try:
        return is_locked(folder / _PACK, fcntl.LOCK_EX)
    except OSError:
        return False


class MemoryPack:
    """What `Pack` does, without a file: for what is too little to keep, or where nothing can be written."""

    def __init__(self, *, has_values: bool = False) -> None:
        self.values: dict[bytes, Sequence[Mapping[str, Any]]] | None = {} if has_values else None
        """What was parsed for an entry, by its key, where it is little enough to be held."""
        self._entries: dict[bytes, PackEntry] = {}
        self._parts: list[Hashes] = []
        self._num_words = 0
        self._lock = Lock()

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def get(self, key: bytes) -> PackEntry | None:
        """Return what is stored under ``key``, None where nothing is."""
        return self._entries.get(key)

    def append(self, key: bytes, about: dict[str, Any], arrays: Mapping[str, NDArray[Any]], large: Hashes) -> None:
        """Store ``about``, ``arrays`` and ``large``."""
        with self._lock:
            if key in self._entries:
                # Another thread was faster.
                return
            start, self._num_words = self._num_words, self._num_words + len(large)
            self._entries[key] = PackEntry(about, dict(arrays), start, self._num_words)
            self._parts.append(large)

    def words(self) -> Hashes:
        """Return the words of all large arrays; entries say where theirs are."""
        # In the place of its parts, so that they are not in memory twice.
        with self._lock:
            self._parts = [np.concatenate([np.zeros(0, np.uint64), *self._parts])]
            return self._parts[0]

    def are_whole(self, _words: Hashes, _keys: Iterable[bytes]) -> bool:
        """Nothing is lost here."""
        return True

    def items(self) -> Iterator[PackItem]:
        """Yield all that was stored, for the pack of another process."""
        words = self.words()
        for key, entry in self._entries.items():
            yield key, entry.about, entry.arrays, words[entry.start : entry.stop]


def release_pages(words: Hashes) -> None:
    """Give the memory of words that are mapped from a file back to the system; they are read again where they are used.

    Else all that a pass has looked at counts as memory of this process, a gigabyte for a million records.
    """
    base: object = words.base
    if isinstance(base, mmap):
        base.madvise(MADV_DONTNEED)


def releasing_pages(parts: Iterable[Part], words: Hashes) -> Iterator[Part]:
    """Yield ``parts`` of the work on ``words``, and let go of those now and then."""
    for number, part in enumerate(parts, start=1):
        yield part
        if number % _RELEASE_EVERY == 0:
            release_pages(words)
