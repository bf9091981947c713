"""Text -> token ids, with the control tokens and the beginning-of-text token under control."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from train.errors import TrainError
from train.render.words import Ints, Place, Words, can_part


@dataclass(frozen=True)
class Encoded:
    """Token ids and, for each, the [start, end) of its characters; a prepended BOS has (0, 0)."""

    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class Placed:
    """Token ids of a text, and before which token each of the asked edges (places in the text) lies."""

    ids: Ints
    edges: list[int]
    num_opening: int
    """Number of ids before the last answer."""
    has_added_bos: bool


class Encoder:
    """A fast tokenizer seen as text -> ids with character offsets."""

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

    def encode(self, text: str, cuts: Sequence[int] = (), plain: Sequence[tuple[int, int]] = ()) -> Encoded:
        """Return the ids of ``text`` without added ones, except one BOS where the model's tokenizer adds it.

        ``cuts``: characters where a token must end. ``plain``: spans in which control tokens are mere text.
        """
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, end, is_plain in _parts(len(text), cuts, plain):
            found = self.tokenizer(
                text[start:end], add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=is_plain,
                return_attention_mask=False, verbose=False,
            )  # fmt: skip
            ids += found["input_ids"]
            offsets += [(a + start, b + start) for a, b in found["offset_mapping"]]
        if bos := self._missing_bos(ids):
            ids, offsets = [*bos, *ids], [(0, 0), *offsets]
        return Encoded(ids, offsets)

    def place(self, texts: Sequence[str], edges: Sequence[Sequence[int]], opens: Sequence[int]) -> list[Placed | None]:
        """Return the ids of each text as `encode` does, with the tokens that its edges lie before.

        ``opens``: how many characters stand before the last answer. None where a token lies across an edge, where
        the ids of those characters alone do not begin the text's, or where tokens do not follow one another.
        """
        found = (self._words.place if self.is_parting else self._place_whole)(texts, edges, opens)
        placed: list[Placed | None] = []
        for one in found:
            if one is None:
                placed.append(None)
                continue
            ids, places, num_opening = one
            bos = self._missing_bos(ids)
            num = len(bos)
            if bos:
                ids, places = np.append(np.array(bos, np.int32), ids), [n + num for n in places]
            placed.append(Placed(ids, places, num_opening + num, bool(bos)))
        return placed

    @cached_property
    def is_parting(self) -> bool:
        """True where texts may be read word by word."""
        return can_part(self.tokenizer.backend_tokenizer.to_str())

    @cached_property
    def _words(self) -> Words:
        added = self.tokenizer.added_tokens_decoder.values()
        return Words(self._batch, [token.content for token in added if not token.normalized])

    def _place_whole(
        self, texts: Sequence[str], edges: Sequence[Sequence[int]], opens: Sequence[int]
    ) -> list[Place | None]:
        openings = self._batch([text[:length] for text, length in zip(texts, opens, strict=True)], has_offsets=False)
        found: list[Place | None] = []
        for encoding, asked, opening in zip(self._batch(texts, has_offsets=True), edges, openings, strict=True):
            ids: list[int] = encoding.ids
            spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
            starts, ends = spans[:, 0], spans[:, 1]
            is_plain = (np.diff(starts) >= 0).all() and (np.diff(ends) >= 0).all() and (starts < ends).all()
            places = np.searchsorted(starts, asked)
            is_joined = any(n and ends[n - 1] > edge for n, edge in zip(places.tolist(), asked, strict=True))
            is_prefix = ids[: len(opening.ids)] == opening.ids
            is_whole = is_plain and is_prefix and not is_joined
            found.append((np.array(ids, np.int32), places.tolist(), len(opening.ids)) if is_whole else None)
        return found

    def decode_many(self, sequences: Sequence[list[int]]) -> Iterator[str]:
        """Yield the text of each, control tokens included; it is what `decode` gives."""
        yield from self.tokenizer.backend_tokenizer.decode_batch(sequences, skip_special_tokens=False)

    def _batch(self, texts: Sequence[str], *, has_offsets: bool) -> list[Any]:
        # Turns truncation, padding and the reading of control tokens in the backend to what `encode` has.
        self.tokenizer("a", add_special_tokens=False, split_special_tokens=False, verbose=False)
        backend = self.tokenizer.backend_tokenizer
        # The quick one leaves out the offsets: they are all (0, 0).
        encode = backend.encode_batch if has_offsets else backend.encode_batch_fast
        return list(encode(list(texts), add_special_tokens=False))

    def _missing_bos(self, ids: Sequence[int] | Ints) -> list[int]:
        has_it = len(ids) > 0 and ids[0] == self.bos
        return [self.bos] if self.is_adding_bos and self.bos is not None and not has_it else []

    def decode(self, ids: Sequence[int], *, has_control: bool) -> str:
        """Return the text of ``ids``, with or without the control tokens."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=not has_control, clean_up_tokenization_spaces=False
        )
        return text

    def num_control(self, ids: Sequence[int] | Ints) -> int:
        """Number of control tokens among ``ids``."""
        return int(np.count_nonzero(self._is_control[np.minimum(ids, len(self._is_control) - 1)]))

    @cached_property
    def _is_control(self) -> npt.NDArray[np.bool_]:
        """Whether each id is a control token's; the last stands for all that are larger."""
        table = np.zeros(max(self.special_ids, default=-1) + 2, np.bool_)
        table[list(self.special_ids)] = True
        return table


def _parts(length: int, cuts: Sequence[int], plain: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, bool]]:
    """Split [0, length) at the cuts and at the ends of the plain spans."""
    edges = sorted({0, length, *cuts, *(edge for span in plain for edge in span)})
    for start, end in pairwise(edges):
        yield start, end, any(a <= start and end <= b for a, b in plain)
