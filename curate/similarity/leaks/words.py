"""The words of records: as text, to compare two records with, and as hashes, block by block, to compare all with."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np

from curate.base.hashing import Hashes, Indices
from curate.base.record import Record, normalised
from curate.similarity.dedupe.shingles import Spans
from curate.similarity.leaks.kernels import Flags, Kernels, kernels_for

_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_MARKS = re.compile(r"[^\w\s]|_")
# Thai, Lao, Tibetan, Myanmar, Khmer, kana, bopomofo and Han: written without blanks between words.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
# Records of a block, and the characters from which it has fewer.
_BLOCK = 1024
_CHUNK_CHARS = 1 << 21
# Records of which the length tells that of all.
_SAMPLE = 1000


# Case, punctuation and the form of characters (NFKC) make no difference; scripts that set no blanks between words count
# by character.
def spelled(text: str) -> str:
    """Return ``text`` as its words in lower case, with blanks between them and no punctuation."""
    if text.isascii():
        return text.translate(_ASCII)
    return _UNSPACED.sub(r" \1 ", _MARKS.sub(_mark, normalised(text)))


def _mark(match: re.Match[str]) -> str:
    """Keep what is a part of a word, such as a vowel sign; everything else that is no letter or digit parts words."""
    return match[0] if unicodedata.category(match[0])[0] == "M" else " "


def words_of(text: str) -> list[str]:
    """Return the words of ``text``."""
    return spelled(text).split()


def is_by_character(words: Sequence[str]) -> bool:
    """Whether most of ``words`` are single characters of a script without blanks."""
    return 2 * sum(len(word) == 1 and not word.isascii() and bool(_UNSPACED.match(word)) for word in words) > len(words)


def texts_of(record: Record) -> list[str]:
    """Return all that is compared of a record: prompt, completion, text, system message, and each of several questions.

    A chat of several turns has a question in each user's message, and each may be one of an exam.
    """
    texts = [record.prompt, record.completion, record.text, record.system]
    roles = [message.get("role") for message in record.messages]
    if roles.count("user") > 1:
        contents = (message.get("content") for message in record.messages if message.get("role") == "user")
        texts += [text for text in contents if isinstance(text, str)]
    return texts


# Returns the texts of the records of these numbers, each in the order of `texts_of`.
TextSource = Callable[[Sequence[int]], Sequence[Sequence[str]]]


class Block(NamedTuple):
    """The texts of some records as hashes, one record after the other, in the order of `texts_of`."""

    spans: Spans
    wholes: Hashes
    """A hash of all words of each text, 0 for one without any."""
    rows: Indices
    """The number of each text's record."""
    parts: Indices
    """Which of its record's texts each one is."""
    prompts: Hashes
    """What tells the prompt of each text's record from others; a raw text is its own."""

    def where(self, is_wanted: Flags) -> Block:
        """Return the texts that are wanted."""
        texts = np.flatnonzero(is_wanted)
        return Block(
            self.spans.take(texts), self.wholes[texts], self.rows[texts], self.parts[texts], self.prompts[texts]
        )


class Corpus:
    """Records to search, and the hashes of their words, which cost more than all that is then asked of them."""

    def __init__(
        self,
        records: Sequence[Record],
        texts: TextSource | None = None,
        *,
        most_retained: int = 0,
        is_compiled: bool | None = None,
    ) -> None:
        """``texts`` stand in for those of ``records``, of which only those that may leak are then looked at.

        So many words of the first records, or a few more, are retained for the next search; the others are hashed anew
        by each, so that memory does not grow with the records.
        """
        self.records = records
        self.texts = texts or (lambda rows: [texts_of(records[row]) for row in rows])
        self._most_retained, self._is_compiled = most_retained, is_compiled
        self._retained: list[Block] = []
        self._num_retained = self._num_words = 0

    @cached_property
    def kernels(self) -> Kernels:
        """The inner loops that repay so much text."""
        sample = range(0, len(self.records), max(1, len(self.records) // _SAMPLE))
        num_chars = sum(map(len, chain.from_iterable(self.texts(sample)))) * len(self.records) // max(1, len(sample))
        return kernels_for(num_chars, self._is_compiled)

    def blocks(self, is_wanted: Flags) -> Iterator[Block]:
        """Yield the texts of the records that are wanted, some at a time, in the order of their numbers."""
        while self._num_words < self._most_retained and self._num_retained < len(self.records):
            rows = range(self._num_retained, min(self._num_retained + _BLOCK, len(self.records)))
            for block in self._hashed(rows):
                self._retained.append(block)
                self._num_words += len(block.spans.tokens)
            self._num_retained = rows.stop
        for block in self._retained:
            is_chosen = is_wanted[block.rows]
            if is_chosen.any():
                yield block.where(is_chosen)
        others = np.flatnonzero(is_wanted[self._num_retained :]) + self._num_retained
        for low in range(0, len(others), _BLOCK):
            yield from self._hashed(others[low : low + _BLOCK].tolist())

    def _hashed(self, rows: Sequence[int]) -> Iterator[Block]:
        grouped = self.texts(rows)
        texts = list(chain.from_iterable(grouped))
        if len(rows) > 1 and sum(map(len, texts)) > _CHUNK_CHARS:
            # Few long records; what is made of texts takes some times their size.
            yield from self._hashed(rows[: len(rows) // 2])
            yield from self._hashed(rows[len(rows) // 2 :])
            return
        if not all(map(str.isascii, texts)):
            texts = [text if text.isascii() else spelled(text) for text in texts]
        tokens, offsets, wholes = self.kernels.words(texts)
        sizes = np.fromiter(map(len, grouped), np.int64, len(rows))
        firsts = np.cumsum(sizes) - sizes
        prompts = np.where(wholes[firsts] == 0, wholes[firsts + 2], wholes[firsts])
        yield Block(
            Spans(tokens, offsets[:-1], offsets[1:]),
            wholes,
            np.repeat(np.array(rows, np.int64), sizes),
            np.arange(len(texts)) - np.repeat(firsts, sizes),
            np.repeat(prompts, sizes),
        )
