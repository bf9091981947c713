"""Text -> token ids, with the control tokens and the beginning-of-text token under control.

A text uses few words many times, and a tokenizer reads each anew: `Words` reads each once, where that provably gives
what the whole text gives. A text may be cut before a space that stands between two visible ASCII characters, if

- the model is BPE without dropout, prefixes or suffixes, so that no token is made across two pre-tokens;
- the pre-tokenizer is one of `PATTERNS`: in each a space can only begin a match or lie in a run of white space, so
  between two visible characters it always begins a pre-token, and no lookaround sees beyond it;
- the normaliser is none or NFC, which joins nothing across ASCII;
- no added token holds white space or reaches for that beside it, so none lies across a cut.

It may also be cut on both sides of an added token that is found before the text is normalised: a tokenizer finds those
first, the leftmost and longest, and reads what is between them apart. Everything else is read whole.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from train.base.errors import TrainError


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
        self.bos: int | None = tokenizer.bos_token_id
        self.is_adding_bos = self.bos is not None and list(tokenizer("a").input_ids[:1]) == [self.bos]
        self._words: Words | None = None
        if has_separable_words(tokenizer.backend_tokenizer.to_str()):
            apart = [token.content for token in added.values() if not token.normalized]
            opening = [n for token, n in tokenizer.get_vocab().items() if token.startswith(_SPACE)]
            self._words = Words(partial(self._tokenize, has_offsets=False), apart, opening)

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
        if has_control and self._bytes is not None:
            # The tokenizer has its own way with bytes that are no UTF-8, and with ids that only the model has.
            with suppress(UnicodeDecodeError, KeyError):
                return b"".join(map(self._bytes.__getitem__, ids)).decode()
        text: str = self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=not has_control)
        return text

    def num_control(self, ids: Sequence[int] | Ints) -> int:
        """Number of control tokens among ``ids``."""
        return int(np.count_nonzero(self._is_control[ids]))

    @cached_property
    def _bytes(self) -> dict[int, bytes] | None:
        """The bytes of each id, which a decoder of the kind ByteLevel only joins; None for another decoder."""
        description = json.loads(self.tokenizer.backend_tokenizer.to_str())
        if (description["decoder"] or {}).get("type") != "ByteLevel":
            return None
        characters = byte_level_characters()
        return {
            number: bytes(characters[c] for c in token) if characters.keys() >= set(token) else token.encode()
            for token, number in self.tokenizer.get_vocab().items()
        }

    @cached_property
    def _is_control(self) -> npt.NDArray[np.bool_]:
        """Whether each id of the vocabulary is a control token's."""
        table = np.zeros(max(self.tokenizer.get_vocab().values(), default=-1) + 1, np.bool_)
        table[list(self.special_ids)] = True
        return table

    def _by_words(self, words: Words, passages: Sequence[Passage]) -> list[Encoded | None]:
        # Encode word by word, which is quicker and gives the same ids; None for passages that cannot be read so.
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
        # Each passage whole, or where a token lies across an edge in parts.
        cuts: list[set[int]] = [set() for _ in passages]
        encoded: dict[int, Encoded] = {}
        while pending := [number for number in range(len(passages)) if number not in encoded]:
            wholes = self._read([_parts(passages[n], cuts[n]) for n in pending], has_offsets=True)
            openings = self._read([_parts(passages[n], cuts[n], is_opening=True) for n in pending], has_offsets=False)
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


def byte_level_characters() -> dict[str, int]:
    """Return which byte each character stands for in a vocabulary of the kind ByteLevel.

    Printable ones stand for themselves, the others follow from 256 on (Radford et al. 2019, the code of GPT-2).
    """
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + n): byte for n, byte in enumerate(others)}


@dataclass(frozen=True)
class _TextPart:
    """A part of a text that begins at character ``start`` and is encoded apart from the others."""

    text: str
    start: int
    is_plain: bool


def _parts(passage: Passage, cuts: Collection[int], *, is_opening: bool = False) -> list[_TextPart]:
    """Split a passage, or what stands before its last answer, at the cuts in it and at the ends of its plain spans."""
    length = passage.num_opening if is_opening else len(passage.text)
    spans = [span for span in passage.plain if span[1] <= length]
    edges = sorted({0, length, *(cut for cut in cuts if cut < length), *(edge for span in spans for edge in span)})
    return [
        _TextPart(passage.text[start:end], start, any(a <= start and end <= b for a, b in spans))
        for start, end in pairwise(edges)
    ]


def _edges(passage: Passage) -> list[int]:
    return [edge for answer in passage.answers for edge in answer]


_SPACE = "\u0120"
"""What stands for a space in a vocabulary of the kind ByteLevel."""
_VISIBLE, _WORDS_OF_A_TEXT = re.compile(r"[!-~]{1,64}"), 64
_CUT = re.compile(r"(?<=[!-~])(?= [!-~])")
PATTERNS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Split patterns of Qwen 2 to 3 and of Llama 3; GPT-2's is built into ByteLevel."""
_PRINTABLE = bytes([*range(ord(" "), ord("~") + 1), ord("\n")])
_ID_BYTES = 4
# So many words are remembered, and none that is longer: a text without spaces is one word, which does not come again.
_MOST_WORDS, _MOST_CHARACTERS = 500_000, 64


Ints = npt.NDArray[np.integer]


class Words:
    """Remembers the ids of words, which ``tokenize`` gives (texts -> encodings without added tokens).

    ``apart`` are the added tokens that a text is cut beside, ``opening`` the ids of tokens that begin with a space.

    A word is known by its key, which is cheap to get by ``str.split``: the word without the space that it begins with,
    or with one more where it begins with none or has another.
    """

    def __init__(
        self, tokenize: Callable[[Sequence[str]], list[Any]], apart: Collection[str], opening: Collection[int]
    ) -> None:
        self._tokenize = tokenize
        self._is_opening = np.zeros(max(opening, default=-1) + 2, np.bool_)
        self._is_opening[list(opening)] = True
        longest_first = sorted(apart, key=len, reverse=True)
        self._apart = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        # Of each word by its key: its ids, as the bytes of an array of int32.
        self._ids: dict[str, bytes] = {}

    def read(self, texts: Sequence[str], edges: Sequence[Sequence[int]]) -> list[tuple[Ints, list[int]] | None]:
        """Return the ids of each text and how many of them stand before each of its edges (characters, ascending).

        None where the ids of the text before an edge do not begin those of the whole, as where a token lies across it.
        """
        keys = [self._keys(text, own) for text, own in zip(texts, edges, strict=True)]
        # All at once, as most texts have a word that is new: to find that out while they are joined costs more.
        new = set(chain.from_iterable(chain.from_iterable(chain(*own) for own in keys))).difference(self._ids)
        self._learn(new)
        readings = [self._join(*own) for own in keys]
        for key in new:
            if len(key) > _MOST_CHARACTERS:
                del self._ids[key]
        if len(self._ids) > _MOST_WORDS:
            self._ids.clear()
        return readings

    def _learn(self, keys: Collection[str]) -> None:
        """Read words that are new: most of them many at once, as a text of which each is a part."""
        # To ask for one costs ten times what its tokens do. In a text of words that begin with a space, have no other
        # and could be cut apart, each begins with the token that begins with a space.
        joined = [key for key in keys if _VISIBLE.fullmatch(key)]
        groups = [joined[start : start + _WORDS_OF_A_TEXT] for start in range(0, len(joined), _WORDS_OF_A_TEXT)]
        alone = [key for key in keys if not _VISIBLE.fullmatch(key)]
        for group, encoding in zip(groups, self._tokenize(["".join(map(_word, own)) for own in groups]), strict=True):
            ids = np.array(encoding.ids, np.int32)
            edges = np.flatnonzero(self._is_opening[np.minimum(ids, len(self._is_opening) - 1)]).tolist()
            if len(edges) != len(group):
                alone += group
                continue
            for key, start, stop in zip(group, edges, [*edges[1:], len(ids)], strict=True):
                self._ids[key] = ids[start:stop].tobytes()
        for key, encoding in zip(alone, self._tokenize([_word(key) for key in alone]), strict=True):
            self._ids[key] = array("i", encoding.ids).tobytes()

    def _keys(self, text: str, edges: Sequence[int]) -> tuple[list[list[str]], list[list[str]]]:
        """The keys of the words of a text in pieces, and of what stands between the end of each piece but the last and
        an edge; as far as there the text before the edge has the same words as the whole.
        """
        pieces: list[list[str]] = [[]]
        rests = []
        upcoming = iter(edges)
        edge, end = next(upcoming, None), 0
        for number, part in enumerate(self._apart.split(text)):
            first, begin, end = 0, end, end + len(part)
            while edge is not None and (edge < end or edge == end == len(text)):
                cut = _cut_before(part, edge - begin, first)
                pieces[-1] += _keys_of(part[first:cut])
                rests.append(_keys_of(part[cut : edge - begin]))
                pieces.append([])
                first, edge = cut, next(upcoming, None)
            # One of two parts is an added token, and these have no space.
            pieces[-1] += [" " + part] if number % 2 and not first else _keys_of(part[first:])
        return pieces, rests

    def _join(self, pieces: list[list[str]], rests: list[list[str]]) -> tuple[Ints, list[int]] | None:
        """The ids of a text, of words that are known, and how many stand before each edge."""
        ids = self._ids.__getitem__
        parts = [b"".join(map(ids, piece)) for piece in pieces]
        heads = [b"".join(map(ids, rest)) for rest in rests]
        whole, starts = b"".join(parts), accumulate(map(len, parts))
        counts = []
        for start, head in zip(starts, heads, strict=False):
            if not whole.startswith(head, start):
                return None
            counts.append((start + len(head)) // _ID_BYTES)
        return np.frombuffer(whole, np.int32), counts


def _keys_of(part: str) -> list[str]:
    if not part:
        return []
    if _is_cut_by_spaces(part):
        keys = part.split(" ")
        keys[0] = " " + keys[0]
        return keys
    return [_key(word) for word in _CUT.split(part)]


def _key(word: str) -> str:
    return word[1:] if word[:1] == " " and " " not in word[1:] else " " + word


def _word(key: str) -> str:
    return key[1:] if key[:1] == " " else " " + key


def _is_cut_by_spaces(text: str) -> bool:
    """True only where each space but a first one stands between two visible ASCII characters."""
    if not text.isascii() or text[-1] == " " or "  " in text or " \n" in text or "\n " in text:
        return False
    return not text.encode().translate(None, _PRINTABLE)


def _cut_before(text: str, edge: int, first: int) -> int:
    """The last character from ``first`` to ``edge`` where both the text and what of it is before the edge may be cut,
    as it may at ``first``.
    """
    # The character behind the space must be before the edge too.
    cut = edge - 1
    while (cut := text.rfind(" ", first + 1, max(cut, 0))) > 0:
        if "!" <= text[cut - 1] <= "~" and "!" <= text[cut + 1] <= "~":
            return cut
    return first


def has_separable_words(description: str) -> bool:
    """True where a tokenizer, by its JSON, gives for a text what it gives for the text's words."""
    tokenizer = json.loads(description)
    model, steps = tokenizer["model"], tokenizer["pre_tokenizer"] or {}
    is_plain = model.get("type") == "BPE" and not any(
        model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
    )
    normalizer = (tokenizer["normalizer"] or {}).get("type")
    added = tokenizer["added_tokens"] or ()
    return (
        is_plain
        and normalizer in (None, "NFC")
        and _is_known(steps.get("pretokenizers", [steps]))
        and not any(
            re.search(r"\s", token["content"]) or any(token[key] for key in ("lstrip", "rstrip", "single_word"))
            for token in added
        )
    )


def _is_known(steps: Sequence[dict[str, Any]]) -> bool:
    """True for [digits] ByteLevel with its own pattern, and for one of the patterns before a ByteLevel without."""
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return False
    first, has_pattern = steps[:-1], steps[-1].get("use_regex", True)
    if has_pattern:
        return all(step.get("type") == "Digits" for step in first)
    return len(first) == 1 and (
        (first[0].get("type"), first[0].get("behavior"), first[0].get("invert")) == ("Split", "Isolated", False)
        and first[0]["pattern"].get("Regex") in PATTERNS
    )
