"""The words of records: as text, to compare two records with, and as hashes, some records at a time, to compare all."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from curate.base.hashing import STEP, Hashes, Indices, mix
from curate.base.record import Json, Record, normalised, trace_of
from curate.schema.view import LineTexts
from curate.similarity.dedupe.shingles import Ragged, blocks_of, ends_of, in_order, ranges
from curate.similarity.dedupe.words import UNSPACED, flattened, hash_words, spaced, storable, word_hashes

_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
# What parts words is a blank, letters are small; all that is not ASCII stays.
_ASCII_BYTES = bytes(code if code > 127 else ord(_ASCII[code]) for code in range(256))
_ASCII_MARKS = re.compile(r"[\x00-\x1f!-/:-@\[-`{-\x7f]+")
_OTHER_MARKS = re.compile(r"[^\w\s\x00-\x7f]")
# Words below which a text is another one with other brackets, operators, quotation marks or commas inside; what may
# stand around it all the same.
_SHORT, _AROUND = 16, "*#_`\"' \n"
# Bytes of a word that are hashed; longer ones are no words but blobs, and are compared in full later.
_TELLING = 4096
_HASHED_AT_ONCE = 1 << 16
_AT_ONCE = 1024


# Case, punctuation and the form of characters (NFKC) make no difference; scripts that set no blanks between words count
# by character.
def spelled(text: str) -> str:
    """Return ``text`` as its words in lower case, with blanks between them and no punctuation."""
    return text.translate(_ASCII) if text.isascii() else _ASCII_MARKS.sub(" ", _separated(text))


def _separated(text: str) -> str:
    """Return a text with its words in lower case and blanks or ASCII punctuation between them."""
    if text.isascii():
        return text
    # What the pattern captures is among the parts; a replacement with its group takes three times as long.
    return " ".join(UNSPACED.split(_OTHER_MARKS.sub(_mark, normalised(text))))


def _mark(match: re.Match[str]) -> str:
    """Keep what is a part of a word, such as a vowel sign; everything else that is no letter or digit parts words."""
    return match[0] if unicodedata.category(match[0])[0] == "M" else " "


def words_of(text: str) -> list[str]:
    """Return the words of ``text``."""
    return spelled(text).split()


def told(texts: Sequence[str]) -> Hashes:
    """Return a hash of each of some short texts, the same for those that `curate.similarity.dedupe` finds the same word
    for word, whatever stands around them."""
    return in_order(word_hashes(flattened(list(map(spaced, storable([text.strip(_AROUND) for text in texts]))))))


def is_by_character(words: Sequence[str]) -> bool:
    """Whether most of ``words`` are single characters of a script without blanks."""
    return 2 * sum(len(word) == 1 and not word.isascii() and bool(UNSPACED.match(word)) for word in words) > len(words)


def joined(left: Hashes, right: Hashes) -> Hashes:
    """Return one hash for each pair."""
    return mix(left * np.uint64(STEP) + right)


class HashedTexts(NamedTuple):
    """The texts of some records, see `SearchedRecords`, as the hashes of their words."""

    words: Ragged
    wholes: Hashes
    """A hash of all words of each text, 0 for one without any."""
    owners: Indices
    """The place of each text's record among those that were asked for."""
    parts: Indices
    """The place of each text among those of its record."""
    prompts: Hashes
    """What tells the prompt of each text's record from others; a raw text is its own."""

    @staticmethod
    def of(records: Sequence[Sequence[str]], first: int) -> HashedTexts:
        """Hash the texts of some records, of which the first is at that place; each has three texts or more."""
        texts, counts = list(chain.from_iterable(records)), np.array(list(map(len, records)), np.int64)
        words = hashed(texts)
        wholes = mix(in_order(words) + words.lengths.astype(np.uint64))
        wholes[words.lengths == 0] = 0
        short = np.flatnonzero((words.lengths > 0) & (words.lengths < _SHORT))
        wholes[short] = told([texts[row] for row in short.tolist()])
        owners, begins = np.repeat(np.arange(len(records)), counts), ends_of(counts)[:-1]
        prompts = np.where(wholes[begins] == 0, wholes[begins + 2], wholes[begins])
        return HashedTexts(words, wholes, owners + first, ranges(np.zeros_like(counts), counts), prompts[owners])


def hashed(texts: Sequence[str]) -> Ragged:
    """Return the hashes of the words of each text; equal hashes are a reason to compare, no proof."""
    whole = b"\n".join(_separated(text).encode("utf-8", "surrogatepass").translate(_ASCII_BYTES) for text in texts)
    units = np.frombuffer(whole, np.uint8)
    is_gap = np.concatenate([[True], (units == 32) | (units == 10), [True]])
    edges = np.flatnonzero(is_gap[1:] != is_gap[:-1])
    starts, ends = edges[::2], edges[1::2]
    breaks = np.concatenate([[0], np.flatnonzero(units == 10), [len(units)]]) if texts else np.zeros(1, np.int64)
    hashes = np.empty(len(starts), np.uint64)
    # What is made of words to hash them takes ten times what is left of it.
    for low in range(0, len(starts), _HASHED_AT_ONCE):
        begin, end = starts[low : low + _HASHED_AT_ONCE], ends[low : low + _HASHED_AT_ONCE]
        some, sizes = units[begin[0] : end[-1]], np.minimum(end - begin, _TELLING)
        hashes[low : low + len(begin)] = hash_words(some, begin - begin[0], sizes)
    return Ragged(hashes, np.searchsorted(starts, breaks).astype(np.int64))


class SearchedRecords:
    """Records to search. The texts of each are prompt, completion, raw text, system message with the reasoning, which
    may give an exam away and is asked for in none, and of a chat of several turns each of its user's messages."""

    def __init__(
        self, records: Sequence[Record], texts: Callable[[Sequence[int]], Sequence[LineTexts]] | None = None
    ) -> None:
        """``texts`` stand in for those of ``records``, of which only those that may leak are then looked at."""
        self.records = records
        self._texts = texts or (lambda rows: [line_texts(records[row]) for row in rows])

    def texts(self, rows: Sequence[int]) -> list[list[str]]:
        """Return the texts of each of some records."""
        return [
            [prompt, completion, text, _with_reasoning(system, messages), *_questions(messages)]
            for prompt, completion, text, system, messages in self._texts(rows)
        ]

    def blocks(self, rows: Sequence[int], most: int | None = None) -> Iterator[HashedTexts]:
        """Yield the texts of ``rows`` in order, some records at a time, of each so many at most."""
        for low in range(0, len(rows), _AT_ONCE):
            records = [texts[:most] for texts in self.texts(rows[low : low + _AT_ONCE])]
            # What is made of texts takes some times their size.
            for block in blocks_of(np.array([sum(map(len, texts)) for texts in records])):
                yield HashedTexts.of(records[block], low + block.start)


def line_texts(record: Record) -> LineTexts:
    """Return what a record says, as its line does."""
    return record.prompt, record.completion, record.text, record.system, record.messages


def _with_reasoning(system: str, messages: Sequence[Mapping[str, Json]]) -> str:
    traces = [trace for message in messages if (trace := trace_of(message))]
    return "\n\n".join([system, *traces]) if traces else system


def _questions(messages: Sequence[Mapping[str, Json]]) -> Sequence[str]:
    # Nearly all are a question and its answer.
    if len(messages) < 2 or (len(messages) == 2 and messages[1].get("role") != "user"):
        return ()
    contents = [message.get("content") for message in messages if message.get("role") == "user"]
    return [text for text in contents if isinstance(text, str)] if len(contents) > 1 else ()
