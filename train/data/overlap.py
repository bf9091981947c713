"""What training texts give away of an exam: the same text, or thirteen words of it in a row.

Thirteen words are what Brown et al. 2020, arXiv:2005.14165, appendix C, take for a sign of contamination.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence

from train.data.dataset import Row, trace_of

NUM_WORDS = 13
_WORD = re.compile(r"\w+")


def text_of_row(row: Row) -> str:
    """Return all that a row says, its answers that were not chosen left out."""
    return row.text or "\n".join(message["content"] or "" for message in row.messages or ())


def is_same_text(rows: Sequence[Row], exam: Sequence[Row]) -> list[bool]:
    """Return for each row whether it is an exam row, with its calls and reasoning, but for the white space."""
    known = {_digest(row) for row in exam}
    return [_digest(row) in known for row in rows]


def overlapping(rows: Sequence[Row], exam: Sequence[Row]) -> list[int]:
    """Return the indices of those of ``exam`` that share thirteen words in a row with one of ``rows``."""
    owners: dict[int, list[int]] = {}
    for index, row in enumerate(exam):
        for run in set(_runs(row)):
            owners.setdefault(run, []).append(index)
    found: set[int] = set()
    for row in rows:
        for run in _runs(row):
            found.update(owners.get(run, ()))
    return sorted(found)


def _digest(row: Row) -> bytes:
    further = [trace_of(message) or "" for message in row.messages or ()]
    further += [json.dumps(message["tool_calls"]) for message in row.messages or () if message.get("tool_calls")]
    text = " ".join(" ".join([text_of_row(row), *further]).split())
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _words(row: Row) -> list[str]:
    return _WORD.findall(text_of_row(row).lower())


def _runs(row: Row) -> Iterator[int]:
    words = _words(row)
    return (hash(tuple(words[n : n + NUM_WORDS])) for n in range(len(words) - NUM_WORDS + 1))
