"""Which texts of a record are compared, and how a text becomes tokens divided by single blanks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from curate.record import Json, Record, canonical, normalised

Field = Literal["record", "prompt", "completion"]

# Scripts written without blanks between words: Thai, Lao, Tibetan, Myanmar, Khmer, CJK punctuation, kana, bopomofo,
# Han.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3100-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def tokenised(text: str) -> str:
    """Return normalised ``text``, a blank between tokens: words, or characters where the script has no blanks."""
    flat = normalised(text)
    return flat if flat.isascii() else " ".join(_UNSPACED.sub(r" \1 ", flat).split())


def exact_key(record: Record) -> bytes:
    """Return a 16-byte digest of the normalised content that a record teaches; ids, labels, metadata never count."""
    if record.messages:
        content: Json = [[_message(message) for message in record.messages], [dict(tool) for tool in record.tools]]
    else:
        content = [normalised(record.system), normalised(record.prompt), normalised(record.completion or record.text)]
    return blake2b(canonical(content), digest_size=16).digest()


def _message(message: Mapping[str, Json]) -> dict[str, Json]:
    return {
        key: normalised(value) if key == "content" and isinstance(value, str) else value
        for key, value in message.items()
    }


def field_text(record: Record, field: Field) -> str:
    """Return the text of one field: a system message belongs to the prompt, and raw text is the whole record."""
    if field == "completion":
        return record.completion
    prompt = record.prompt if not record.system else f"{record.system}\n{record.prompt}"
    return prompt if field == "prompt" else f"{prompt}\n{record.completion}\n{record.text}"


@dataclass(frozen=True, slots=True)
class Column:
    """One field of all records: its distinct tokenised texts in order of appearance, and which record has which."""

    texts: list[str]
    of_record: list[int]
    """Number of the text of each record; -1 where it is empty."""
    members: list[list[int]]
    """Records of each text, in order."""


def column(records: Sequence[Record], field: Field, *, by_character: bool) -> Column:
    """Collect the distinct texts of ``field``, tokenised unless they are to be read by character."""
    spelled = normalised if by_character else tokenised
    numbers: dict[str, int] = {}
    of_record: list[int] = []
    members: list[list[int]] = []
    for index, record in enumerate(records):
        text = spelled(field_text(record, field))
        if not text:
            of_record.append(-1)
            continue
        number = numbers.setdefault(text, len(numbers))
        if number == len(members):
            members.append([])
        members[number].append(index)
        of_record.append(number)
    return Column(list(numbers), of_record, members)
