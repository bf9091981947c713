"""The lines of a file and of its older versions as digests, kept by block: git need not unpack what is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b, sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING

from curate.base.console import spelled
from curate.base.file_guard import FileStamp, stamp_of
from curate.base.git import stream_git
from curate.base.record import CurateError, Finding
from curate.checks.runner.select import relative_name
from curate.jsonl import RawBlock, Reader, block_at, cut

if TYPE_CHECKING:
    from curate.base.packs import Pack
    from curate.similarity.dedupe.columns import ColumnCache

DIGEST_SIZE = 16


class DoubtError(Exception):
    """Which lines have changed depends on how they are compared, or cannot be told from their digests."""


class LineDigests:
    """Gives digests of lines, `DIGEST_SIZE` bytes each, joined, and keeps them in a cache if there is one."""

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
            DoubtError: git may hold its lines in another form; or it is not made of lines.
        """
        stamp = stamp_of(path, spelled(relative_name(path, self._root) or str(path)))
        reader = Reader(path.resolve(), name=spelled(str(path)), root=folder)
        # Git converts line ends as settings and attributes say; without CR there is nothing to convert.
        return self._of_blocks(self._blocks_of(reader, stamp), may_have_cr=False)[1]

    def of_blob(self, folder: Path, blob: str) -> bytes:
        """Return the digests of the lines of a file as the git repository of ``folder`` has it.

        Raises:
            GitError: git does not have it.
            DoubtError: it is not made of lines.
        """
        if self._pack and (entry := self._pack.get(_blob_key(blob))):
            known = [self._known(bytes.fromhex(key)) for key in entry.about["keys"]]
            if None not in known:
                return b"".join(digests for digests, _ in filter(None, known))
        with stream_git(folder, ["cat-file", "blob", blob]) as answer:
            keys, digests = self._of_blocks(_blocks_in(answer), may_have_cr=True)
        # Only of what git has unpacked: that a file is the same as a blob it often takes for granted.
        self._keep_blob(blob, keys)
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
                raise DoubtError
            key = block.key if self._pack else b""
            known = self._known(key)
            if known is None:
                known = digests_of(block), b"\r" in block.whole
                self._keep(key, *known)
            if known[1] and not may_have_cr:
                raise DoubtError
            keys.append(key)
            digests.append(known[0])
        return keys, b"".join(digests)

    def _known(self, key: bytes) -> tuple[bytes, bool] | None:
        """Return the digests of the lines of a block, and whether one has a CR."""
        entry = self._pack.get(_lines_key(key)) if self._pack else None
        return (entry.arrays["digests"].tobytes(), entry.about["has_cr"]) if entry else None

    def _keep(self, key: bytes, digests: bytes, has_cr: bool) -> None:
        if self._pack:
            import numpy as np

            with suppress(OSError):
                arrays = {"digests": np.frombuffer(digests, np.uint8)}
                self._pack.append(_lines_key(key), {"has_cr": has_cr}, arrays, np.zeros(0, np.uint64))

    def _keep_blob(self, blob: str, keys: Sequence[bytes]) -> None:
        """Keep which blocks a blob has: its name says what its bytes are."""
        if self._pack and _blob_key(blob) not in self._pack:
            import numpy as np

            with suppress(OSError):
                about = {"keys": [key.hex() for key in keys]}
                self._pack.append(_blob_key(blob), about, {}, np.zeros(0, np.uint64))


def digests_of(block: RawBlock) -> bytes:
    """Return the digests of the lines of a block; the last line has another one where no newline ends it."""
    digests = [sha256(line).digest()[:DIGEST_SIZE] for line in block.lines]
    if not block.is_ended:
        digests[-1] = digests[-1][::-1]
    return b"".join(digests)


def _blocks_in(answer: IO[bytes]) -> Iterator[RawBlock]:
    number = 1
    for offset, whole, _ in cut(lambda num, _: answer.read(num)):
        if whole is None:
            raise DoubtError
        block = block_at(number, offset, whole)
        number += block.num_lines
        yield block


def _lines_key(key: bytes) -> bytes:
    return blake2b(key, digest_size=16, person=b"lines").digest()


def _blob_key(blob: str) -> bytes:
    return blake2b(blob.encode(), digest_size=16, person=b"blob").digest()
