"""Where the blocks of a file are, kept by what tells that the file changed: one that is as it was is not cut again."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from curate.base.file_guard import SETTLED, FileStamp
from curate.base.packs import MemoryPack, Pack
from curate.base.record import Finding, canonical
from curate.similarity.dedupe.columns import Part


@dataclass
class FileParts:
    """The blocks of a file, and findings about it that are of none of them."""

    stamp: FileStamp
    parts: list[Part] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    num_lines: int = 0

    def extend(self, later: FileParts) -> None:
        """Add what was found in lines that follow."""
        self.parts += later.parts
        self.findings += later.findings
        self.num_lines += later.num_lines


def file_key(stamp: FileStamp) -> bytes:
    """Return the key of where the blocks of a file are."""
    return blake2b(canonical(list(stamp)), digest_size=16, person=b"file").digest()


def known_parts(pack: Pack | MemoryPack, stamp: FileStamp) -> FileParts | None:
    """Return the blocks of a file that is as it was when it was read before.

    None also where the pack lacks the columns of some.
    """
    entry = pack.get(file_key(stamp))
    if entry is None:
        return None
    about = entry.about
    parts = [Part(bytes.fromhex(key), *extent) for key, *extent in about["parts"]]
    is_whole = sum(part.size for part in parts) == stamp[1]
    is_whole = is_whole and all(part.key in pack for part in parts)
    return FileParts(stamp, parts, num_lines=about["num_lines"]) if is_whole else None


def keep_parts(pack: Pack, of_file: FileParts) -> None:
    """Keep where the blocks of a file are, unless it could change within the tick of a clock, or is no lines."""
    _, _, *times, _ = of_file.stamp
    known = known_parts(pack, of_file.stamp)
    is_known = known is not None and known.parts == of_file.parts
    if is_known or of_file.findings or any(time.time_ns() - changed < SETTLED for changed in times):
        return
    about = {"parts": [(part.key.hex(), *part[1:]) for part in of_file.parts], "num_lines": of_file.num_lines}
    with suppress(OSError):
        pack.append(file_key(of_file.stamp), about, {}, np.zeros(0, np.uint64))
