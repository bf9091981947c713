"""Answers that say the same thing over and over."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curate.base.patterns import lazy_pattern
from curate.base.record import Problem, Record
from curate.checks import check, turns
from curate.schema.settings import Settings

_WORD = lazy_pattern(r"[぀-ヿ㐀-䶿一-鿿가-힯]|[^\W_]+(?:['’][^\W_]+)*")
# Letters in lower case, digits as they are, and all else a blank.
_PLAIN = bytes(code if chr(code).isascii() and chr(code).isalnum() else 32 for code in range(256)).lower()
# The same, with apostrophes as they are.
_WITH_APOSTROPHES = _PLAIN[:39] + b"'" + _PLAIN[40:]
_QUOTE = re.compile(rb"(?<![a-z0-9])'|'(?![a-z0-9])")
_NGRAM = 4
_FEWEST_WORDS = 20
_FEWEST_COMPARED = 40
_MOST_REPETITION = 0.6
# Characters that are read of a text, so that one huge record does not cost what a thousand others do.
READ = 20_000


@check(
    "Q208",
    "repeated-text",
    severity="warning",
    good=[
        {"instruction": "Sing.", "output": "Row, row, row your boat, gently down the stream."},
        {"instruction": "Count.", "output": " ".join(f"Number {n} comes after number {n - 1}." for n in range(1, 30))},
    ],
    bad=[
        {"instruction": "Explain.", "output": "The bill is due on the fifth of the month. " * 12},
        {"instruction": "説明して。", "output": "請求書の期限は毎月五日です。" * 12},
    ],
)
def repeated_text(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report an answer most of whose word 4-grams have stood in it before.

    A text generator that is caught in a loop writes such answers, and teaches the loop. Answers below forty words are
    not judged, since lists of yes and no look alike; nor are those of 20,000 characters and more, see Q204.
    `curate quality --sort repetition` orders all of them.
    """
    for turn in turns(record):
        if _is_varied(turn.completion[:READ]):
            continue
        words = words_of(turn.completion) if len(turn.completion) < READ else []
        if len(words) >= _FEWEST_COMPARED and (share := _repetition(words)) >= _MOST_REPETITION:
            yield Problem(f"{share:.0%} of its word 4-grams stand in it before", turn.pointer)


def _is_varied(text: str) -> bool:
    """Whether an ASCII text certainly has too many different words for its 4-grams to repeat that often."""
    # Each word but the last three begins a 4-gram, so that there are at least as many different ones less three.
    # Without apostrophes there are as many words as before, and not more different ones; one more than blanks at most.
    # Of most texts the first half has enough, in a tenth of the time.
    if not text.isascii() or "''" in text:
        return False
    plain = text.encode().translate(_PLAIN, b"'")
    most = plain.count(b" ") + 1
    first = plain.split(None, most // 2 + 2 * _NGRAM)
    return len(set(first)) - _NGRAM > (1 - _MOST_REPETITION) * (most - _NGRAM + 1)


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case; a character is a word where a script has no blanks."""
    head = text[:READ]
    if not head.isascii():
        return [word.lower() for word in _WORD.findall(head)]
    # A quarter of the time: an apostrophe between letters is a part of a word, any other one parts words as blanks do.
    plain = head.encode().translate(_WITH_APOSTROPHES)
    return (_QUOTE.sub(b" ", plain) if b"'" in plain else plain).decode().split()


def repetition(text: str, words: list[str] | None = None) -> float | None:
    """Return the share of word 4-grams that repeat an earlier one, 0 to 1; None below twenty words.

    ``words`` are those of the text, where they are there already.
    """
    # seq-rep-4 of Welleck et al. 2019, "Neural Text Generation with Unlikelihood Training" (arXiv:1908.04319).
    words = words_of(text) if words is None else words
    return _repetition(words) if len(words) >= _FEWEST_WORDS else None


def _repetition(words: list[str]) -> float:
    ngrams = set(zip(*(words[start:] for start in range(_NGRAM)), strict=False))
    return 1 - len(ngrams) / (len(words) - _NGRAM + 1)
