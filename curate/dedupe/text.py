"""Which texts of a record are compared, and how a text becomes tokens divided by single blanks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Literal, NamedTuple

from curate.record import Json, Record, canonical, normalised

Field = Literal["record", "prompt", "completion"]
FIELDS: tuple[Field, ...] = ("record", "prompt", "completion")

# Scripts written without blanks between words: Thai, Lao, Tibetan, Myanmar, Khmer, CJK punctuation, kana, bopomofo,
# Han.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3100-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


class Parts(NamedTuple):
    """The texts of a record: ``num_asked`` of the prompt, one of the completion, one raw, then what follows it.

    Two records teach the same when their parts and ``mark`` are the same once normalised; with ``is_sealed`` the mark
    alone decides.
    """

    texts: list[str]
    num_asked: int
    mark: tuple[int, int]
    is_sealed: bool = False


def spaced(flat: str) -> str:
    """Return normalised text with a blank on either side of each character of a script that is written without."""
    if flat.isascii() or not _UNSPACED.search(flat):
        return flat
    return " ".join(_UNSPACED.sub(r" \1 ", flat).split())


def parts_of(record: Record) -> Parts:
    """Return the texts of a record: a system message belongs to the prompt, and ids, labels, metadata never count."""
    if not record.messages:
        return Parts([record.system, record.prompt, record.completion, record.text], 2, _mark(()))
    texts: list[str] = []
    roles: list[str] = []
    for message in record.messages:
        text, role = message.get("content"), message.get("role")
        if type(text) is not str or type(role) is not str or len(message) != 2:
            return _sealed(record)
        texts.append(text)
        roles.append(role)
    if record.tools:
        return _sealed(record)
    if roles[-1] == "assistant":
        return Parts([*texts, record.text], len(texts) - 1, _mark(tuple(roles)))
    last = max((place for place, role in enumerate(roles) if role == "assistant"), default=len(roles))
    answer, rest = texts[last : last + 1] or [""], texts[last + 1 :]
    return Parts([*texts[:last], *answer, record.text, *rest], last, _mark(tuple(roles)))


def _sealed(record: Record) -> Parts:
    """Return the parts of a record that says more than roles and texts, such as tools and the calls of them."""
    content = [[_message(message) for message in record.messages], [dict(tool) for tool in record.tools]]
    texts = [record.system, record.prompt, record.completion, record.text]
    return Parts(texts, 2, _halves(canonical(content)), is_sealed=True)


def _message(message: Mapping[str, Json]) -> dict[str, Json]:
    return {
        key: normalised(value) if key == "content" and isinstance(value, str) else value
        for key, value in message.items()
    }


@lru_cache(maxsize=4096)
def _mark(roles: tuple[str, ...]) -> tuple[int, int]:
    return _halves(canonical(list(roles)))


def _halves(content: bytes) -> tuple[int, int]:
    digest = blake2b(content, digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


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
