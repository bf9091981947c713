"""Text -> token ids, and what rows become: ids, and which of them are trained.

`Encoder` keeps control tokens and the beginning-of-text token under control. A tokenizer of bytes tells by its ids
alone where each token stands: `encode_batch_fast`, which gives no offsets, is enough where the bytes of the ids are
those of the text. Anything else is asked for its offsets.

`Example` is one row, and `Examples` are many as flat arrays: all tokens end to end, and what else is said of each.
Arrays of some examples after those of others are those of both, so a file of them grows batch by batch.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import chain, pairwise
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from train.base.errors import TrainError
from train.data.dataset import RowFault, TemplateFault

Ints = npt.NDArray[np.integer]


class Passage(NamedTuple):
    """A text to encode; all positions count its characters."""

    text: str
    answers: Sequence[tuple[int, int]] = ()
    """[start, end) of each answer; none of these lies inside a token."""
    num_prompt_chars: int = 0
    """How many characters stand before the last answer; their ids alone are the prompt's."""
    plain_spans: Sequence[tuple[int, int]] = ()
    """Spans in which control tokens are mere text."""


class Encoded(NamedTuple):
    """The token ids of a passage, [n]; positions count its tokens."""

    ids: list[int]
    offsets: Ints
    """[n, 2]: the [start, end) characters of each token, (0, 0) for an added one."""
    answer_spans: list[tuple[int, int]]
    """[start, stop) of each answer."""
    num_prompt: int
    """Number of ids that the opening alone has."""
    is_prefix: bool
    """True where the ids of the opening alone begin those of the passage."""
    has_added_bos: bool
    """True where the beginning-of-text token is the tokenizer's and not in the text."""


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
        self._count_control = lru_cache(maxsize=1024)(lambda text: len(self.special_pattern.findall(text)))
        # A tokenizer finds these first, the leftmost and longest, and reads what is between them apart.
        self._apart = {number for number, token in added.items() if not token.normalized}
        self._read_alone = lru_cache(maxsize=256)(lambda text: self._tokenize([text])[0].ids)
        self.bos: Any = tokenizer.bos_token_id
        self.is_adding_bos = self.bos is not None and list(tokenizer("a").input_ids[:1]) == [self.bos]

    def encode(self, passages: Sequence[Passage]) -> list[Encoded]:
        """Return the ids of each passage, so that its answers begin and end with tokens of their own.

        Where the tokenizer would join across such an end, as it does not when the answer is generated, the passage is
        encoded in parts.
        """
        encoded: dict[int, Encoded] = {}
        cuts: dict[int, set[int]] = {n: set() for n in range(len(passages))}
        while cuts:
            read = self._read([_parts(passages[n], own) for n, own in cuts.items()])
            for (number, own), (ids, offsets) in zip([*cuts.items()], read, strict=True):
                opening = self._opening(passages[number], own, ids, offsets)
                aligned, joined = self._align(passages[number], ids, offsets, opening)
                if joined - own:
                    cuts[number] = own | joined
                else:
                    encoded[number] = aligned
                    del cuts[number]
        return [encoded[number] for number in range(len(passages))]

    def decode(self, ids: Sequence[int], *, has_control: bool) -> str:
        """Return the text of ``ids``, with or without the control tokens."""
        if has_control and self._bytes is not None:
            # The tokenizer has its own way with bytes that are no UTF-8, and with ids that only the model has.
            with suppress(UnicodeDecodeError, KeyError):
                return b"".join(map(self._bytes.__getitem__, ids)).decode()
        text: str = self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=not has_control)
        return text

    def prove(self, encoded: Encoded, text: str, *, is_from_template: bool = False) -> None:
        """Prove that the ids of the prompt begin those of the row, so that what is trained is what is served, and that
        one beginning-of-text token stands at the beginning where the tokenizer adds one, and never two.

        ``text`` is what was encoded, or where it ``is_from_template`` what the template wrote of it: then all control
        tokens are proved to be its own. Raises RowFault.
        """
        ids, bos = encoded.ids, self.bos
        if not encoded.is_prefix:
            raise RowFault("the prompt's tokens are no prefix of the trained ones (train and serve differ)")
        if bos is not None and ids[:2] == [bos, bos]:
            raise TemplateFault("the chat template begins with two beginning-of-text tokens")
        # A model may use its BOS as a turn marker too; then the text itself has it more than once.
        if self.is_adding_bos and (ids[0] != bos or ids.count(bos) > max(1, text.count(self.tokenizer.bos_token))):
            raise RowFault("the record does not begin with exactly one beginning-of-text token")
        if is_from_template:
            num_control = sum(map(self.special_ids.__contains__, ids))
            if num_control != self._count_control(text) + encoded.has_added_bos:
                raise RowFault("the number of control tokens is not the chat template's (data acts as structure)")

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

    def _opening(self, passage: Passage, cuts: set[int], ids: list[int], offsets: Ints) -> list[int]:
        """The ids of what stands before the last answer, encoded alone."""
        if self._bytes is None or cuts or passage.plain_spans:
            [(alone, _)] = self._read([_parts(passage, cuts, is_opening=True)])
            return alone
        # As far as the last token that is read apart they are those of the whole; what follows is often the same.
        begin = int(np.searchsorted(offsets[:, 1], passage.num_prompt_chars, side="right"))
        while begin and ids[begin - 1] not in self._apart:
            begin -= 1
        start = int(offsets[begin - 1, 1]) if begin else 0
        return [*ids[:begin], *self._read_alone(passage.text[start : passage.num_prompt_chars])]

    def _align(self, passage: Passage, ids: list[int], offsets: Ints, opening: list[int]) -> tuple[Encoded, set[int]]:
        """The passage as tokens, and the characters at which it must be cut, for a token lies across them."""
        edges = [edge for answer in passage.answers for edge in answer]
        # Offsets never go back: the first token that ends after each edge, and the first that begins there.
        ending = np.searchsorted(offsets[:, 1], edges, side="right").tolist()
        beginning = np.searchsorted(offsets[:, 0], edges, side="left").tolist()
        joined = {edge for edge, low, high in zip(edges, ending, beginning, strict=True) if low < high}
        is_prefix = ids[: len(opening)] == opening
        if not joined and not is_prefix:
            joined = {passage.num_prompt_chars}
        is_added = self.is_adding_bos and ids[:1] != [self.bos]
        answer_spans = [
            (low + is_added, max(low, high) + is_added) for low, high in zip(ending[::2], beginning[1::2], strict=True)
        ]
        if is_added:
            ids, offsets = [self.bos, *ids], np.concatenate([np.zeros((1, 2), np.int64), offsets])
        return Encoded(ids, offsets, answer_spans, len(opening) + is_added, is_prefix, is_added), joined

    def _read(self, texts: Sequence[list[_Segment]]) -> list[tuple[list[int], Ints]]:
        """The ids and the offsets of each text, whose parts are read apart."""
        read: dict[_Segment, tuple[list[int], Ints]] = {}
        for is_plain in (False, True):
            segments = [part for text in texts for part in text if part.is_plain == is_plain]
            for part, one in zip(
                segments, self._tokenize([part.text for part in segments], is_plain=is_plain), strict=True
            ):
                read[part] = one.ids, self._offsets(part.text, one) + part.start
        return [
            (
                [number for part in text for number in read[part][0]],
                np.concatenate([np.empty((0, 2), np.int64), *(read[part][1] for part in text)]),
            )
            for text in texts
        ]

    def _tokenize(self, texts: Sequence[str], *, is_plain: bool = False) -> list[Any]:
        if not texts:
            return []
        # This call sets truncation, padding and the reading of control tokens in the backend.
        self.tokenizer("a", add_special_tokens=False, split_special_tokens=is_plain, verbose=False)
        backend = self.tokenizer.backend_tokenizer
        # The quick one leaves out the offsets: they are all (0, 0).
        encode = backend.encode_batch if self._bytes is None else backend.encode_batch_fast
        return list(encode(list(texts), add_special_tokens=False))

    def _offsets(self, text: str, encoding: Any) -> Ints:
        raw = text.encode()
        if self._bytes is not None:
            tokens = [self._bytes[token] for token in encoding.ids]
            if b"".join(tokens) == raw:
                ends = np.cumsum(np.fromiter(map(len, tokens), np.int64, len(tokens)))
                starts = ends - np.fromiter(map(len, tokens), np.int64, len(tokens))
                if len(raw) > len(text):
                    # How many characters have begun before each byte; a token may hold a part of one.
                    begun = np.append(0, np.cumsum((np.frombuffer(raw, np.uint8) & 0xC0) != 0x80))
                    starts, ends = begun[starts + 1] - 1, begun[ends]
                return np.stack([starts, ends], 1)
            # As it was set by `_tokenize`.
            encoding = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        return np.array(encoding.offsets, np.int64).reshape(-1, 2)


class _Segment(NamedTuple):
    """A part of a text that begins at character ``start`` and is encoded apart from the others."""

    text: str
    start: int
    is_plain: bool


def _parts(passage: Passage, cuts: Collection[int], *, is_opening: bool = False) -> list[_Segment]:
    """Split a passage, or what stands before its last answer, at the cuts in it and at the ends of its plain spans."""
    length = passage.num_prompt_chars if is_opening else len(passage.text)
    spans = [span for span in passage.plain_spans if span[1] <= length]
    edges = sorted({0, length, *(cut for cut in cuts if cut < length), *(edge for span in spans for edge in span)})
    return [
        _Segment(passage.text[start:end], start, any(a <= start and end <= b for a, b in spans))
        for start, end in pairwise(edges)
    ]


BATCH = 1024
"""Examples that are held as objects before they become arrays."""


@dataclass(frozen=True)
class Example:
    """One record as token ids; ``mask[t]`` says that token t is a training target (never token 0).

    Where answers are compared, two texts stand end to end: of a pair the better and the worse, of an answer with a
    verdict that answer and one to another prompt, of replayed text that text alone.
    """

    id: str
    category: str
    cluster: str
    ids: list[int]
    mask: list[bool]
    num_bytes: int
    """UTF-8 bytes of the supervised text, end tokens not counted; the unit of bits per byte."""
    weights: list[float] | None = None
    """What each token counts in the loss while training, None where that is 1 for all; evaluation weighs nothing."""
    is_replay: bool = False
    """True for general text that is trained along against forgetting."""
    num_prompt: int = field(default=-1, compare=False)
    """How many ids stand before the last answer, -1 for raw text."""
    second_text: tuple[int, int] | None = None
    """Where answers are compared, the token at which the second text begins, and the bytes of that text."""
    sign: int = 1
    """-1 for an answer that was not liked."""
    row_weight: float = 1.0
    """What a record counts that compares answers; its tokens have no weights."""

    @property
    def num_supervised(self) -> int:
        """Number of trained tokens."""
        return sum(self.mask)

    @property
    def num_first_supervised(self) -> int:
        """Number of trained tokens that are to become likelier: those of the first text."""
        return self.num_supervised if self.second_text is None else sum(self.mask[: self.second_text[0]])

    @property
    def weight(self) -> float:
        """The weights of the trained tokens in sum; where answers are compared, what the record counts."""
        if self.second_text is not None:
            return self.row_weight
        if self.weights is None:
            return float(self.num_supervised)
        return math.fsum(weight for weight, is_trained in zip(self.weights, self.mask, strict=True) if is_trained)

    @cached_property
    def texts(self) -> tuple[Example, ...]:
        """The texts that are compared, none where none are."""
        if self.second_text is None:
            return ()
        middle, num_bytes = self.second_text
        spans = ((slice(0, middle), self.num_bytes), (slice(middle, None), num_bytes))
        return tuple(
            replace(
                self, ids=self.ids[span], mask=self.mask[span], num_bytes=size, second_text=None, sign=1, row_weight=1.0
            )
            for span, size in spans
            if self.ids[span]
        )

    def paired_with(self, second: Example, sign: int, weight: float) -> Example:
        """Return this text and another as they are compared."""
        return replace(
            self, ids=self.ids + second.ids, mask=self.mask + second.mask, weights=None,
            second_text=(len(self.ids), second.num_bytes), sign=sign, row_weight=weight,
        )  # fmt: skip

    def shorten(self, length: int) -> Example:
        """Return the example cut to ``length`` tokens; it may have no trained one."""
        mask = self.mask[:length]
        # The lost part's bytes: in proportion to its trained tokens, which decode to no whole characters.
        num_bytes = round(self.num_bytes * (sum(mask) / self.num_supervised))
        weights = self.weights and self.weights[:length]
        return replace(self, ids=self.ids[:length], mask=mask, num_bytes=num_bytes, weights=weights)


class Prompt(NamedTuple):
    """What is generated from: all before the last answer, and that answer as the reference."""

    id: str
    ids: list[int]
    reference: str
    text: str
    """The text of the ids, without a beginning-of-text token that only the tokenizer adds."""


def arrays_of(examples: Sequence[Example]) -> dict[str, Any]:
    """Return examples as the arrays of `Examples`."""
    heads = [
        json.dumps([
            one.id, one.category, one.cluster, one.num_bytes, one.is_replay, one.num_prompt, one.second_text, one.sign,
            one.row_weight,
        ]).encode()
        for one in examples
    ]  # fmt: skip
    sizes = [
        (len(one.ids), one.num_supervised, one.num_first_supervised, len(one.weights or ()), len(head))
        for one, head in zip(examples, heads, strict=True)
    ]
    return {
        "ids": np.fromiter(chain.from_iterable(one.ids for one in examples), np.int32),
        "mask": np.frombuffer(b"".join(bytes(one.mask) for one in examples), np.uint8),
        "weights": np.fromiter(chain.from_iterable(one.weights or () for one in examples), np.float64),
        "sizes": np.array(sizes, np.int64).reshape(-1, 5),
        "totals": np.array([one.weight for one in examples], np.float64),
        "heads": np.frombuffer(b"".join(heads), np.uint8),
    }


class Examples(Sequence[Example]):
    """A sequence of examples that are made when they are asked for, from flat arrays.

    ``arrays`` has of all tokens "ids" and "mask", of those of the examples that have some "weights"; of each example
    "sizes" [n, 5], "totals" [n] and in JSON "heads" as `arrays_of` says.
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        # Python lists take some thirty bytes a token; the arrays take five, and may lie in a file that is only mapped.
        self.arrays = arrays
        self.lengths, self.supervised, self.first_supervised, weights, heads = arrays["sizes"].T
        """Tokens, trained tokens, and those of them that are to become likelier [n]."""
        self.weights = arrays["totals"]
        """The weights of the trained tokens in sum, or what a record that compares answers counts [n]."""
        # Where each one's part begins, and where the last one's ends.
        self._begins, self._weight_begins, self._head_begins = (
            np.append(0, np.cumsum(sizes)) for sizes in (self.lengths, weights, heads)
        )

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Examples:
        """Return examples in memory."""
        return cls(arrays_of(examples))

    @classmethod
    def joined(cls, batches: Sequence[Mapping[str, Any]]) -> Examples:
        """Return the examples of all ``batches`` of arrays, in memory."""
        return cls({name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]})

    def take(self, indices: Sequence[int]) -> Examples:
        """Return the examples at ``indices``, in memory."""
        parts = (indices[start : start + BATCH] for start in range(0, len(indices) or 1, BATCH))
        return Examples.joined([arrays_of([self[index] for index in part]) for part in parts])

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        chosen = range(len(self))[index]
        if not isinstance(chosen, int):
            return [self[number] for number in chosen]
        token_span, weight_span = (
            slice(*begins[chosen : chosen + 2]) for begins in (self._begins, self._weight_begins)
        )
        name, category, cluster, num_bytes, is_replay, num_prompt, second_text, sign, row_weight = self._head(chosen)
        return Example(
            name, category, cluster, self.arrays["ids"][token_span].tolist(),
            self.arrays["mask"][token_span].astype(bool).tolist(), num_bytes,
            self.arrays["weights"][weight_span].tolist() or None, is_replay, num_prompt,
            second_text and tuple(second_text), sign, row_weight,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905 - of one length

    __hash__ = None  # type: ignore[assignment]

    def key(self, index: int) -> tuple[str, str, str]:
        """Return id, category and cluster of example ``index`` (from 0)."""
        one, two, three, *_ = self._head(index)
        return one, two, three

    def _head(self, index: int) -> list[Any]:
        head: list[Any] = json.loads(self.arrays["heads"][slice(*self._head_begins[index : index + 2])].tobytes())
        return head


@dataclass(frozen=True)
class Rendered:
    """The examples of many rows, and what happened to the others; nothing goes without being counted."""

    examples: Examples = field(default_factory=lambda: Examples.of([]))
    left_out: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Id of a record without an example -> the code of its fault, and the reason in words."""
    cut: dict[str, int] = field(default_factory=dict)
    """Id of a record that was cut to max_length -> how many of its tokens were lost."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Id of an example's record -> what of the record is in no token, in words."""

    @property
    def counts(self) -> dict[str, Any]:
        """How many records were cut, and how many skipped by the reason."""
        return {"cut": len(self.cut), "skipped": Counter(reason for _, reason in self.left_out.values())}

    def describe_incomplete(self, split: str) -> dict[str, list[str]]:
        """Return a sentence for each reason by which records of ``split`` are no whole examples, and their ids."""
        ids: dict[tuple[str, str], list[str]] = defaultdict(list)
        for record, (_, reason) in self.left_out.items():
            ids["skipped", reason].append(record)
        lost = f"{sum(self.cut.values()):,} tokens in all"
        for record in self.cut:
            ids["cut to max_length", lost].append(record)
        for record, notes in self.notes.items():
            for note in notes:
                ids["rendered in part", note].append(record)
        return {
            f"{len(names):,} {split} record{'' if len(names) == 1 else 's'} {state}, {reason}": names
            for (state, reason), names in ids.items()
        }
