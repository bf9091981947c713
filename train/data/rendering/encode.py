"""Text -> token ids, with the control tokens and the beginning-of-text token under control.

A tokenizer of bytes tells by its ids alone where each token stands, in bytes: `encode_batch_fast`, which gives no
offsets, is enough where the bytes of the ids are those of the text. Anything else is asked for its offsets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from train.base.errors import TrainError

Ints = npt.NDArray[np.integer]


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
    """True where `Encoded.offsets` is wanted."""

    @property
    def edges(self) -> list[int]:
        """Where answers begin and end."""
        return [edge for answer in self.answers for edge in answer]


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
                "Put the model's tokenizer.json into its folder.",
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
        # What a template writes around the contents is nearly always the same.
        self.count_control = lru_cache(maxsize=1024)(lambda text: len(self.special_pattern.findall(text)))
        # A tokenizer finds these first, the leftmost and longest, and reads what is between them apart.
        self._apart = {number for number, token in added.items() if not token.normalized}
        self._read_alone = lru_cache(maxsize=256)(lambda text: self._tokenize([text], has_offsets=False)[0].ids)
        self.bos: int | None = tokenizer.bos_token_id
        self.is_adding_bos = self.bos is not None and list(tokenizer("a").input_ids[:1]) == [self.bos]

    def encode(self, passages: Sequence[Passage]) -> list[Encoded]:
        """Return the ids of each passage, so that its answers begin and end with tokens of their own.

        Where the tokenizer would join across such an end, as it does not when the answer is generated, the passage is
        encoded in parts.
        """
        encoded: dict[int, Encoded] = {}
        quick = [n for n, passage in enumerate(passages) if not passage.plain and not passage.has_offsets]
        if self._bytes is not None:
            read = self._tokenize([passages[n].text for n in quick], has_offsets=False)
            for number, one in zip(quick, read, strict=True):
                if (aligned := self._by_bytes(passages[number], one.ids)) is not None:
                    encoded[number] = aligned
        cuts: dict[int, set[int]] = {n: set() for n in range(len(passages)) if n not in encoded}
        while cuts:
            wholes = self._read([_parts(passages[n], own) for n, own in cuts.items()], has_offsets=True)
            openings = self._read([_parts(passages[n], own, is_opening=True) for n, own in cuts.items()])
            for (number, own), (ids, offsets), (opening, _) in zip([*cuts.items()], wholes, openings, strict=True):
                passage = passages[number]
                aligned, joined = self._align(passage, ids, offsets, passage.edges, opening)
                if joined - own:
                    cuts[number] = own | joined
                else:
                    encoded[number] = aligned
                    del cuts[number]
        return [encoded[number] for number in range(len(passages))]

    def decode(self, ids: Sequence[int] | Ints, *, has_control: bool) -> str:
        """Return the text of ``ids``, with or without the control tokens."""
        if has_control and self._bytes is not None:
            # The tokenizer has its own way with bytes that are no UTF-8, and with ids that only the model has.
            with suppress(UnicodeDecodeError, KeyError):
                return b"".join(map(self._bytes.__getitem__, ids)).decode()
        text: str = self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=not has_control)
        return text

    def num_control(self, ids: Sequence[int] | Ints) -> int:
        """Number of control tokens among ``ids``."""
        return sum(map(self.special_ids.__contains__, np.asarray(ids).tolist()))

    @cached_property
    def _bytes(self) -> dict[int, bytes] | None:
        """The bytes of each id, which a decoder of the kind ByteLevel only joins; None for another decoder."""
        description = json.loads(self.tokenizer.backend_tokenizer.to_str())
        if (description["decoder"] or {}).get("type") != "ByteLevel":
            return None
        # Printable bytes stand for themselves, the others follow from 256 on (Radford et al. 2019, the code of GPT-2).
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        characters = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
        return {
            number: bytes(characters[c] for c in token) if characters.keys() >= set(token) else token.encode()
            for token, number in self.tokenizer.get_vocab().items()
        }

    def _by_bytes(self, passage: Passage, ids: list[int]) -> Encoded | None:
        # None where a token lies across an edge, or the text is not the bytes of its tokens.
        assert self._bytes is not None, "asked for a tokenizer of bytes"
        tokens = [self._bytes[token] for token in ids]
        if b"".join(tokens) != passage.text.encode():
            return None
        sizes = np.fromiter(map(len, tokens), np.int64, len(tokens))
        ends = np.cumsum(sizes)
        *edges, end = (len(passage.text[:edge].encode()) for edge in (*passage.edges, passage.num_opening))
        # As far as the last of them the opening alone has the same ids, and what follows is nearly always the same.
        begin = int(np.searchsorted(ends, end, side="right"))
        while begin and ids[begin - 1] not in self._apart:
            begin -= 1
        before = len(b"".join(tokens[:begin]).decode())
        opening = ids[:begin] + self._read_alone(passage.text[before : passage.num_opening])
        offsets = np.stack([ends - sizes, ends], 1)
        aligned, joined = self._align(passage, np.array(ids, np.int32), offsets, edges, opening)
        return None if joined else aligned._replace(offsets=None)

    def _align(
        self, passage: Passage, ids: Ints, offsets: Ints, edges: Sequence[int], opening: Sequence[int] | Ints
    ) -> tuple[Encoded, set[int]]:
        """The passage as tokens, and the characters at which it must be cut, for a token lies across them.

        ``offsets`` and ``edges`` count the same, be it bytes or characters.
        """
        # Offsets never go back: the first token that ends after each edge, and the first that begins there.
        ending = np.searchsorted(offsets[:, 1], edges, side="right").tolist()
        beginning = np.searchsorted(offsets[:, 0], edges, side="left").tolist()
        joined = {edge for edge, low, high in zip(passage.edges, ending, beginning, strict=True) if low < high}
        is_prefix = bool(np.array_equal(ids[: len(opening)], opening))
        if not joined and not is_prefix:
            joined = {passage.num_opening}
        runs = [(low, max(low, high)) for low, high in zip(ending[::2], beginning[1::2], strict=True)]
        is_added = self.is_adding_bos and not (len(ids) and ids[0] == self.bos)
        if is_added:
            ids = np.append(np.array([self.bos], np.int32), ids)
            offsets = np.concatenate([np.zeros((1, 2), np.int64), offsets])
            runs = [(start + 1, stop + 1) for start, stop in runs]
        return Encoded(ids, runs, len(opening) + is_added, is_prefix, is_added, offsets), joined

    def _read(self, texts: Sequence[list[_Segment]], *, has_offsets: bool = False) -> Iterator[tuple[Ints, Ints]]:
        """The ids and the offsets of each text, whose parts are read apart."""
        read: dict[_Segment, tuple[Ints, Ints]] = {}
        for is_plain in (False, True):
            own = list({part for text in texts for part in text if part.is_plain == is_plain})
            encodings = self._tokenize([part.text for part in own], has_offsets=has_offsets, is_plain=is_plain)
            for part, one in zip(own, encodings, strict=True):
                read[part] = np.array(one.ids, np.int32), np.array(one.offsets, np.int64).reshape(-1, 2) + part.start
        for text in texts:
            ids = [np.empty(0, np.int32), *(read[part][0] for part in text)]
            offsets = [np.empty((0, 2), np.int64), *(read[part][1] for part in text)]
            yield np.concatenate(ids), np.concatenate(offsets)

    def _tokenize(self, texts: Sequence[str], *, has_offsets: bool, is_plain: bool = False) -> list[Any]:
        if not texts:
            return []
        # This call sets truncation, padding and the reading of control tokens in the backend.
        self.tokenizer("a", add_special_tokens=False, split_special_tokens=is_plain, verbose=False)
        backend = self.tokenizer.backend_tokenizer
        # The quick one leaves out the offsets: they are all (0, 0).
        encode = backend.encode_batch if has_offsets else backend.encode_batch_fast
        return list(encode(list(texts), add_special_tokens=False))


class _Segment(NamedTuple):
    """A part of a text that begins at character ``start`` and is encoded apart from the others."""

    text: str
    start: int
    is_plain: bool


def _parts(passage: Passage, cuts: Collection[int], *, is_opening: bool = False) -> list[_Segment]:
    """Split a passage, or what stands before its last answer, at the cuts in it and at the ends of its plain spans."""
    length = passage.num_opening if is_opening else len(passage.text)
    spans = [span for span in passage.plain if span[1] <= length]
    edges = sorted({0, length, *(cut for cut in cuts if cut < length), *(edge for span in spans for edge in span)})
    return [
        _Segment(passage.text[start:end], start, any(a <= start and end <= b for a, b in spans))
        for start, end in pairwise(edges)
    ]
