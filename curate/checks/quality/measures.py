"""What can be measured of one record without a model: length, repetition, readability, language."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from curate.base.record import Record
from curate.checks._identify import identified
from curate.checks.repetition import repetition, words_of

_SENTENCE = re.compile(r"[.!?…。！？]+(?:\s|$)|\n+")
_FEWEST_WORDS = 20
_LONG_WORD = 6


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured of a record; None where a measure says nothing about such a text."""

    prompt_chars: int
    completion_chars: int
    repetition: float | None
    """Share of the completion's word 4-grams that repeat an earlier one, 0 to 1."""
    lix: float | None
    """LIX of the completion: about 20 is a children's book, 40 a newspaper, 60 a law."""
    language: str
    """ISO 639-1 code of the completion, "" where it is not clear, or without the extra [lang]."""


def measure(record: Record) -> Measures:
    """Measure one record; a raw text counts as completion."""
    text = record.completion or record.text
    return Measures(len(record.prompt), len(text), repetition(text), lix(text), identified(text))


def lix(text: str) -> float | None:
    """Return the readability index LIX: words a sentence, plus the percentage of words over six letters.

    Björnsson 1968, "Läsbarhet". It counts letters only, so it works for any language written in an alphabet; None for
    other scripts and below twenty words.
    """
    words = words_of(text)
    if len(words) < _FEWEST_WORDS or any(unicodedata.category(word[0]) == "Lo" for word in words[:_FEWEST_WORDS]):
        return None
    sentences = max(1, sum(bool(words_of(part)) for part in _SENTENCE.split(text)))
    return len(words) / sentences + 100 * sum(len(word) > _LONG_WORD for word in words) / len(words)
