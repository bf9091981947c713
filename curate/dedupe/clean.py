"""Many texts at once to keys and tokens: lower-cased, blanks joined, hashed, in arrays of bytes instead of strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.dedupe.shingles import Ragged, word_hashes
from curate.hashing import Hashes

BLANKS = (*range(9, 14), *range(28, 33))
"""The white space of ASCII, as `str.split` sees it."""
LOWER = bytes(32 if code in BLANKS else code + 32 if 65 <= code <= 90 else code for code in range(256))


@dataclass(frozen=True, slots=True)
class Cleaned:
    """N texts as keys, [N, 2], that are the same for equal normalised texts, and as the hashes of their words."""

    keys: Hashes
    words: Ragged


def joined_bytes(texts: Sequence[str]) -> tuple[bytes, NDArray[np.int64]]:
    """Return the UTF-8 of ``texts`` with one byte between two, and where each ends."""
    whole = "\n".join(texts)
    units = whole.encode()
    if len(units) == len(whole):
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    else:
        sizes = (len(text) if text.isascii() else len(text.encode()) for text in texts)
        lengths = np.fromiter(sizes, np.int64, len(texts))
    return units, np.cumsum(lengths + 1) - 1


def flattened(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Return the normalised UTF-8 of `storable` texts, a newline between two."""
    units, ends = joined_bytes(texts)
    flat = np.frombuffer(bytearray(units.translate(LOWER)), np.uint8)
    flat[ends[:-1]] = 10
    is_blank = flat == 32
    doubled = np.flatnonzero(is_blank[:-1] & is_blank[1:])
    return np.delete(flat, doubled) if len(doubled) else flat


def text_keys(flat: NDArray[np.uint8]) -> Hashes:
    """Return two xxh3 hashes, [N, 2], of each of the texts in ``flat``, which a newline divides."""
    # Only commands that compare load polars.
    import polars as pl
    import polars_hash as plh

    column = pl.DataFrame({"text": flat.tobytes().decode().split("\n")})
    text = plh.col("text").nchash
    hashed = column.select(text.xxh3_64(seed=1).alias("one"), text.xxh3_64(seed=2).alias("two"))
    return np.stack([hashed["one"].to_numpy(), hashed["two"].to_numpy()], axis=1)


def clean(texts: Sequence[str]) -> Cleaned:
    """Return keys and words of `storable` texts, with numpy and polars."""
    flat = flattened(texts)
    return Cleaned(text_keys(flat), word_hashes(flat))
