"""Which texts of a record are compared, and how texts become arrays of normalised bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Hashes, Indices
from curate.base.record import normalised

Field = Literal["record", "prompt", "completion"]
FIELDS: tuple[Field, ...] = ("record", "prompt", "completion")
# The white space of ASCII, as `str.split` sees it.
BLANKS = (*range(9, 14), *range(28, 33))
LOWER = bytes(32 if code in BLANKS else code + 32 if 65 <= code <= 90 else code for code in range(256))

# Scripts written without blanks between words: Thai, Lao, Tibetan, Myanmar, Khmer, CJK punctuation, kana, bopomofo,
# Han.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3100-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
# Quotation marks, ellipses and stops that are not ASCII, which NFKC leaves as they are.
_PUNCTUATION = str.maketrans(
    {"\u2019": "'", **dict.fromkeys("\u2018\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a", '"'),
     **dict.fromkeys("\u3001\u3002\u300c\u300d\u300e\u300f\u3010\u3011", " ")}
)  # fmt: skip


def spaced(flat: str) -> str:
    """Return normalised text with ASCII quotation marks, and a blank on either side of each character of a script that
    is written without."""
    if flat.isascii():
        return flat
    flat = flat.translate(_PUNCTUATION)
    if not _UNSPACED.search(flat):
        return flat
    return " ".join(_UNSPACED.sub(r" \1 ", flat).split())


def storable(texts: Sequence[str]) -> list[str]:
    """Return ``texts`` so that cutting them at blanks and lower-casing ASCII letters is all that is left to normalise.

    Halves of surrogate pairs, which no encoding holds, become three letters each.
    """
    return [text.strip() if text.isascii() else _encodable(normalised(text)) for text in texts]


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return normalised("".join(c if not "\ud800" <= c <= "\udfff" else f"\ufffd{ord(c):x}" for c in text))
    return text


def joined_bytes(texts: Sequence[str]) -> tuple[bytes, Indices]:
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
