"""Text -> token ids, with the control tokens and the beginning-of-text token under control."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from train.base.errors import TrainError
from train.data.rendering.words import Ints, Words, has_separable_words


class Passage(NamedTuple):
    """A text to encode; all positions count its characters."""

    text: str
    answers: Sequence[tuple[int, int]] = ()
    """[start, end) of each answer; none of these lies inside a token."""
    num_opening: int = 0
    """How many characters stand before the last answer; their ids alone are the prompt's."""
    plain: Sequence[tuple[int, int]] = ()
    """Spans in which control tokens are mere text."""
    has_offsets: bool = False
    """Whether `Encoded.offsets` is wanted."""


class Encoded(NamedTuple):
    """The token ids of a passage, [n]; positions count its tokens."""

    ids: Ints
    runs: list[tuple[int, int]]
    """[start, stop) of each answer."""
    num_prompt: int
    """Number of ids that the opening alone has."""
    is_prefix: bool
    """True where the ids of the opening alone begin those of the passage."""
    has_added_bos: bool
    """True where the beginning-of-text token is the tokenizer's and not in the text."""
    offsets: Ints | None = None
    """[n, 2]: the [start, end) characters of each token, (0, 0) for an added one; None where they are not wanted."""


class Encoder:
    """A fast tokenizer seen as text -> ids, with one beginning-of-text token where the model's tokenizer adds it."""

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise TrainError(
                "E921 bad-model",
                f"the tokenizer {type(tokenizer).__name__} is not fast, so its tokens have no offsets",
                "the model's folder needs a tokenizer.json",
            )
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.special_ids = {number for number, token in added.items() if token.special} | set(tokenizer.all_special_ids)
        self.special_texts = sorted(
            {str(added[n]) if n in added else tokenizer.convert_ids_to_tokens(n) for n in self.special_ids},
            key=len,
            reverse=True,
        )
        self.special_pattern = re.compile("|".join(map(re.escape, self.special_texts)) or r"(?!)")
        self.bos: int | None = tokenizer.bos_token_id
        self.is_adding_bos = self.bos is not None and list(tokenizer("a").input_ids[:1]) == [self.bos]
        self._words: Words | None = None
        if has_separable_words(tokenizer.backend_tokenizer.to_str()):
            apart = [token.content for token in added.values() if not token.normalized]
            self._words = Words(partial(self._tokenize, has_offsets=False), apart)

    def encode(self, passages: Sequence[Passage]) -> list[Encoded]:
        """Return the ids of each passage, so that its answers begin and end with tokens of their own.

        Where the tokenizer would join across such an end, as it does not when the answer is generated, the passage is
        encoded in parts.
        """
        encoded: list[Encoded | None] = [None] * len(passages)
        if self._words is not None:
            short = [n for n, passage in enumerate(passages) if not passage.plain and not passage.has_offsets]
            for number, encoding in zip(short, self._by_words(self._words, [passages[n] for n in short]), strict=True):
                encoded[number] = encoding
        rest = iter(self._in_parts([passage for passage, own in zip(passages, encoded, strict=True) if own is None]))
        return [next(rest) if encoding is None else encoding for encoding in encoded]

    def decode(self, ids: Sequence[int] | Ints, *, has_control: bool) -> str:
        """Return the text of ``ids``, with or without the control tokens."""
        text: str = self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=not has_control)
        return text

    def num_control(self, ids: Sequence[int] | Ints) -> int:
        """Number of control tokens among ``ids``."""
        return int(np.count_nonzero(self._is_control[ids]))

    @cached_property
    def _is_control(self) -> npt.NDArray[np.bool_]:
        """Whether each id of the vocabulary is a control token's."""
        table = np.zeros(max(self.tokenizer.get_vocab().values(), default=-1) + 1, np.bool_)
        table[list(self.special_ids)] = True
        return table

    def _by_words(self, words: Words, passages: Sequence[Passage]) -> list[Encoded | None]:
        """Encode word by word, which is quicker and gives the same ids; None for passages that cannot be read so."""
        edges = [sorted({passage.num_opening, *_edges(passage)}) for passage in passages]
        encoded: list[Encoded | None] = []
        readings = words.read([passage.text for passage in passages], edges)
        for passage, own, reading in zip(passages, edges, readings, strict=True):
            if reading is None:
                encoded.append(None)
                continue
            ids, counts = reading
            before = dict(zip(own, counts, strict=True))
            runs = [(before[start], before[end]) for start, end in passage.answers]
            encoded.append(self._with_bos(ids, runs, before[passage.num_opening], is_prefix=True))
        return encoded

    def _in_parts(self, passages: Sequence[Passage]) -> list[Encoded]:
        """Each passage whole, or where a token lies across an edge in parts."""
        cuts: list[set[int]] = [set() for _ in passages]
        encoded: dict[int, Encoded] = {}
        while pending := [number for number in range(len(passages)) if number not in encoded]:
            wholes = self._read([_parts(passages[n], cuts[n]) for n in pending], has_offsets=True)
            openings = self._read([_parts(_opening(passages[n]), cuts[n]) for n in pending], has_offsets=False)
            for number, (ids, offsets), (opening, _) in zip(pending, wholes, openings, strict=True):
                passage, edges = passages[number], _edges(passages[number])
                # Offsets never go back: the first token that ends after each edge, and the first that begins there.
                ending = np.searchsorted(offsets[:, 1], edges, side="right").tolist()
                beginning = np.searchsorted(offsets[:, 0], edges, side="left").tolist()
                joined = {edge for edge, low, high in zip(edges, ending, beginning, strict=True) if low < high}
                is_prefix = bool(np.array_equal(ids[: len(opening)], opening))
                if not joined and not is_prefix:
                    joined = {passage.num_opening}
                if joined - cuts[number]:
                    cuts[number] |= joined
                    continue
                runs = [(low, max(low, high)) for low, high in zip(ending[::2], beginning[1::2], strict=True)]
                encoded[number] = self._with_bos(ids, runs, len(opening), is_prefix=is_prefix, offsets=offsets)
        return [encoded[number] for number in range(len(passages))]

    def _with_bos(
        self, ids: Ints, runs: list[tuple[int, int]], num_prompt: int, *, is_prefix: bool, offsets: Ints | None = None
    ) -> Encoded:
        if not self.is_adding_bos or (len(ids) and ids[0] == self.bos):
            return Encoded(ids, runs, num_prompt, is_prefix, False, offsets)
        if offsets is not None:
            offsets = np.concatenate([np.zeros((1, 2), np.int64), offsets])
        runs = [(start + 1, stop + 1) for start, stop in runs]
        return Encoded(np.append(np.array([self.bos], np.int32), ids), runs, num_prompt + 1, is_prefix, True, offsets)

    def _read(self, texts: Sequence[Sequence[_TextPart]], *, has_offsets: bool) -> list[tuple[Ints, Ints]]:
        """The ids and the offsets of each text, whose parts are read apart."""
        parts = [part for text in texts for part in text]
        read: dict[int, Any] = {}
        for is_plain in (False, True):
            own = [number for number, part in enumerate(parts) if part.is_plain == is_plain]
            if own:
                encodings = self._tokenize([parts[n].text for n in own], has_offsets=has_offsets, is_plain=is_plain)
                read |= zip(own, encodings, strict=True)
        joined = []
        each = iter(range(len(parts)))
        for text in texts:
            own = [next(each) for _ in text]
            ids = [np.array(read[n].ids, np.int32) for n in own]
            offsets = [np.array(read[n].offsets, np.int64).reshape(-1, 2) + parts[n].start for n in own]
            joined.append(
                (np.concatenate([np.empty(0, np.int32), *ids]), np.concatenate([np.empty((0, 2), np.int64), *offsets]))
            )
        return joined

    def _tokenize(self, texts: Sequence[str], *, has_offsets: bool, is_plain: bool = False) -> list[Any]:
        # This call sets truncation, padding and the reading of control tokens in the backend.
        self.tokenizer("a", add_special_tokens=False, split_special_tokens=is_plain, verbose=False)
        backend = self.tokenizer.backend_tokenizer
        # The quick one leaves out the offsets: they are all (0, 0).
        encode = backend.encode_batch if has_offsets else backend.encode_batch_fast
        return list(encode(list(texts), add_special_tokens=False))


@dataclass(frozen=True)
class _TextPart:
    """A part of a text that begins at character ``start`` and is encoded apart from the others."""

    text: str
    start: int
    is_plain: bool


def _parts(passage: Passage, cuts: Collection[int]) -> list[_TextPart]:
    """Split a passage at the cuts that lie in it and at the ends of its plain spans."""
    length, spans = len(passage.text), passage.plain
    edges = sorted({0, length, *(cut for cut in cuts if cut < length), *(edge for span in spans for edge in span)})
    return [
        _TextPart(passage.text[start:end], start, any(a <= start and end <= b for a, b in spans))
        for start, end in pairwise(edges)
    ]


def _opening(passage: Passage) -> Passage:
    """What stands before the last answer."""
    length = passage.num_opening
    return Passage(passage.text[:length], plain=[span for span in passage.plain if span[1] <= length])


def _edges(passage: Passage) -> list[int]:
    return [edge for answer in passage.answers for edge in answer]
