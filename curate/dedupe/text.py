"""Which texts of a record are compared, and how a text becomes tokens divided by single blanks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from curate.record import normalised

Field = Literal["record", "prompt", "completion"]
FIELDS: tuple[Field, ...] = ("record", "prompt", "completion")

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
