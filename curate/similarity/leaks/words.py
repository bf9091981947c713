"""The words of records: as text, to compare two records with, and as hashes, block by block, to compare all with."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np

from curate.base.hashing import Hashes, Indices
from curate.base.record import Json, Record, normalised, trace_of
from curate.schema.view import LineTexts
from curate.similarity.dedupe.kernels import NUMPY
from curate.similarity.dedupe.pairs import in_order
from curate.similarity.dedupe.shingles import Spans, spaced, storable
from curate.similarity.leaks.kernels import Flags, LeakKernels, kernels_for

_ASCII = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_ASCII_MARKS = re.compile(r"[\x00-\x1f!-/:-@\[-`{-\x7f]+")
_OTHER_MARKS = re.compile(r"[^\w\s\x00-\x7f]")
# Thai, Lao, Tibetan, Myanmar, Khmer, kana, bopomofo and Han: written without blanks between words.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)
# Words below which a text is another one with other brackets, operators, quotation marks or commas inside; what may
# stand around it all the same.
_SHORT, _AROUND = 16, "*#_`\"' \n"
# Records of a block, and the characters from which it has fewer.
_BLOCK = 1024
_CHUNK_CHARS = 1 << 21
# Records of which the length tells that of all.
_SAMPLE = 1000


# Case, punctuation and the form of characters (NFKC) make no difference; scripts that set no blanks between words count
# by character.
def spelled(text: str) -> str:
    """Return ``text`` as its words in lower case, with blanks between them and no punctuation."""
    return text.translate(_ASCII) if text.isascii() else _ASCII_MARKS.sub(" ", separated(text))


def separated(text: str) -> str:
    """Return a text that is not ASCII with its words in lower case and blanks or ASCII punctuation between them.

    To replace the latter as well takes as long as all else, and the inner loops do so anyway.
    """
    # What the pattern captures is among the parts; a replacement with its group takes three times as long.
    return " ".join(_UNSPACED.split(_OTHER_MARKS.sub(_mark, normalised(text))))


def _mark(match: re.Match[str]) -> str:
    """Keep what is a part of a word, such as a vowel sign; everything else that is no letter or digit parts words."""
    return match[0] if unicodedata.category(match[0])[0] == "M" else " "


def words_of(text: str) -> list[str]:
    """Return the words of ``text``."""
    return spelled(text).split()


def told(texts: Sequence[str]) -> Hashes:
    """Return a hash of each of some short texts, the same for those that `curate.similarity.dedupe` finds the same word
    for word, whatever stands around them."""
    return in_order(NUMPY.clean(list(map(spaced, storable([text.strip(_AROUND) for text in texts])))).words)


def is_by_character(words: Sequence[str]) -> bool:
    """Whether most of ``words`` are single characters of a script without blanks."""
    return 2 * sum(len(word) == 1 and not word.isascii() and bool(_UNSPACED.match(word)) for word in words) > len(words)


class TextColumns(NamedTuple):
    """All that is compared of some records, by column; a chat of several turns has its user's messages as well.

    ``systems`` have the reasoning too: what a record that is trained on may give away, and no exam asks for.
    """

    prompts: Sequence[str]
    completions: Sequence[str]
    raw: Sequence[str]
    systems: Sequence[str]
    questions: Sequence[Sequence[str]]
    """Several, for each may be one of an exam; none of a record with only one."""

    @staticmethod
    def of(records: Sequence[Record]) -> TextColumns:
        """Return the texts of ``records``."""
        return TextColumns(
            [record.prompt for record in records],
            [record.completion for record in records],
            [record.text for record in records],
            [_with_reasoning(record.system, record.messages) for record in records],
            [_questions(record.messages) for record in records],
        )

    @staticmethod
    def of_lines(texts: Sequence[LineTexts]) -> TextColumns:
        """Return the texts of lines, of which no records are made."""
        prompts, completions, raw, systems, messages = zip(*texts, strict=True) if texts else ((),) * 5
        others = list(map(_with_reasoning, systems, messages))
        return TextColumns(prompts, completions, raw, others, list(map(_questions, messages)))

    def joined(self, others: TextColumns) -> TextColumns:
        """Return these texts and those of ``others``."""
        return TextColumns._make([*mine, *theirs] for mine, theirs in zip(self, others, strict=True))


def _with_reasoning(system: str, messages: Sequence[Mapping[str, Json]]) -> str:
    traces = [trace for message in messages if (trace := trace_of(message))]
    return "\n\n".join([system, *traces]) if traces else system


def _questions(messages: Sequence[Mapping[str, Json]]) -> Sequence[str]:
    # Nearly all are a question and its answer.
    if len(messages) < 2 or (len(messages) == 2 and messages[1].get("role") != "user"):
        return ()
    contents = [message.get("content") for message in messages if message.get("role") == "user"]
    return [text for text in contents if isinstance(text, str)] if len(contents) > 1 else ()


# Returns the texts of the records of these numbers.
TextSource = Callable[[Sequence[int]], TextColumns]


class HashedTexts(NamedTuple):
    """The texts of some records as hashes, one column of `TextColumns` after the other."""

    spans: Spans
    wholes: Hashes
    """A hash of all words of each text, 0 for one without any."""
    rows: Indices
    """The number of each text's record."""
    parts: Indices
    """The column of each text."""
    prompts: Hashes
    """What tells the prompt of each text's record from others; a raw text is its own."""

    def where(self, is_wanted: Flags) -> HashedTexts:
        """Return the texts that are wanted."""
        texts = np.flatnonzero(is_wanted)
        return HashedTexts(
            self.spans.take(texts), self.wholes[texts], self.rows[texts], self.parts[texts], self.prompts[texts]
        )


class HashedRecords:
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
        self._texts = texts or (lambda rows: TextColumns.of([records[row] for row in rows]))
        self._most_retained, self._is_compiled = most_retained, is_compiled
        self._retained: list[HashedTexts] = []
        self._num_retained = self._num_words = 0

    @cached_property
    def kernels(self) -> LeakKernels:
        """The inner loops that repay so much text."""
        rows = range(0, len(self.records), max(1, len(self.records) // _SAMPLE))
        num_chars = _num_chars(self._texts(rows)) * len(self.records) // max(1, len(rows))
        return kernels_for(num_chars, self._is_compiled)

    def texts_of(self, row: int) -> list[str]:
        """Return the texts of one record, column by column."""
        *columns, questions = self._texts([row])
        return [*(column[0] for column in columns), *questions[0]]

    def blocks(self, is_wanted: Flags) -> Iterator[HashedTexts]:
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

    def _hashed(self, rows: Sequence[int]) -> Iterator[HashedTexts]:
        of = self._texts(rows)
        if len(rows) > 1 and _num_chars(of) > _CHUNK_CHARS:
            # Few long records; what is made of texts takes some times their size.
            yield from self._hashed(rows[: len(rows) // 2])
            yield from self._hashed(rows[len(rows) // 2 :])
            return
        # Of many records some columns are empty altogether.
        columns = [column if any(column) else () for column in of[:-1]]
        texts = list(chain(*columns, *of.questions))
        cut = texts
        if not all(map(str.isascii, texts)):
            cut = [text if text.isascii() else separated(text) for text in texts]
        tokens, offsets, filled = self.kernels.words(cut)
        short = np.flatnonzero((filled != 0) & (np.diff(offsets) < _SHORT))
        filled[short] = told([texts[row] for row in short.tolist()])
        indices, num_questions = np.arange(len(rows)), np.fromiter(map(len, of.questions), np.int64, len(rows))
        parts = np.repeat(np.arange(len(of)), [*(len(rows) for _ in columns), int(num_questions.sum())])
        is_filled = np.array([*map(len, columns), 1])[parts] > 0
        lengths, wholes = np.zeros(len(parts), np.int64), np.zeros(len(parts), np.uint64)
        lengths[is_filled], wholes[is_filled] = np.diff(offsets), filled
        ends = np.cumsum(lengths)
        prompts, _, raw, _ = wholes[: len(columns) * len(rows)].reshape(len(columns), -1)
        indices = np.concatenate([np.tile(indices, len(columns)), np.repeat(indices, num_questions)])
        yield HashedTexts(
            Spans(tokens, ends - lengths, ends),
            wholes,
            np.array(rows, np.int64)[indices],
            parts,
            np.where(prompts == 0, raw, prompts)[indices],
        )


def _num_chars(texts: TextColumns) -> int:
    return sum(map(len, chain(*texts[:-1], *texts.questions)))
