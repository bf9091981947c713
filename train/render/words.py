"""Tokenise a text word by word with a memory for words, where that provably gives what the whole text gives.

A text uses few words many times, and a tokenizer reads each anew: here it reads each once. It may be cut before a space
that stands between two visible ASCII characters, if

- the model is BPE without dropout, prefixes or suffixes, so that no token is made across two pre-tokens;
- the pre-tokenizer is one of those below: in each of their patterns a space can only begin a match or lie in a run of
  white space, so between two visible characters it always begins a pre-token, and no lookaround sees beyond it;
- the normaliser is none or NFC, which joins nothing across ASCII;
- no added token holds white space or reaches for that beside it, so none lies across a cut.

It may also be cut on both sides of an added token that is found before the text is normalised: a tokenizer finds those
first, the leftmost and longest, and reads what is between them apart.

Everything else is read whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

_CUT = re.compile(r"(?<=[!-~])(?= [!-~])")
_MOST_WORDS, _MOST_CHARACTERS, _SHORT = 1_000_000, 16_000_000, 64
"""What is remembered: so many words of so many characters in all, and the places of tokens in words that are short (a
text without spaces is one word, which does not come again).
"""
PATTERNS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Split patterns of Qwen 2 to 3 and of Llama 3; GPT-2's is built into ByteLevel."""

Ints = npt.NDArray[np.integer]
Place = tuple[Ints, list[int], int]


class _Numbers(dict[str, int]):
    """The number of each key, given when it is first asked for; ``new`` are those that were given lately."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, key: str) -> int:
        self[key] = number = len(self)
        self.new.append(key)
        return number


class Words:
    """The ids of words, read with ``encode`` (texts -> encodings without added tokens); ``place`` joins them.

    ``apart`` are the added tokens that a text is cut beside.

    A word is known by its key, which is cheap to get by ``str.split``: the word without the space that it begins with,
    or with one more where it begins with none or has another.
    """

    def __init__(self, encode: Callable[..., list[Any]], apart: Collection[str]) -> None:
        self.encode = encode
        longest_first = sorted(apart, key=len, reverse=True)
        self._apart = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        self._forget()

    def _forget(self) -> None:
        self.numbers = _Numbers()
        self.spans: dict[str, list[tuple[int, int]]] = {}
        self._ids, self._num_characters = np.empty(0, np.int32), 0
        # Of each word where its ids begin, how many they are, and how many characters it has.
        self._starts, self._sizes, self._lengths = (np.empty(0, np.int64) for _ in range(3))
        # A cut between two words is right where what the first adds behind it and the second before it is 2 or more:
        # each visible side adds 1, and 2 a word that a text is cut before anyhow.
        self._begins, self._ends = np.empty(0, np.int8), np.empty(0, np.int8)

    def place(self, texts: Sequence[str], edges: Sequence[Sequence[int]], opens: Sequence[int]) -> list[Place | None]:
        """Return of each text its ids, the tokens that its edges lie before, and the number of ids of its first
        ``opens`` characters alone; None where a token lies across an edge or those ids do not begin the whole's.
        """
        if len(self.numbers) > _MOST_WORDS or self._num_characters > _MOST_CHARACTERS:
            self._forget()
        # All texts end to end: which characters and ids each word begins with.
        keys, numbers, firsts = self._numbered(texts)
        chars, tokens = _starts(self._lengths[numbers]), _starts(self._sizes[numbers])
        ids = self._read(numbers, tokens)
        asked = [(number, edge) for number, own in enumerate(edges) for edge in own]
        whole = self._before(keys, chars, tokens, asked, firsts)
        begun = self._begun(keys, chars, opens, firsts)
        opened = [self.numbers[key] for _, key in begun]
        self._learn()
        found: list[Place | None] = []
        each = iter(whole)
        bounds = pairwise(tokens[firsts].tolist())
        for own, (first, _), number, (start, stop) in zip(edges, begun, opened, bounds, strict=True):
            places, before = [next(each) for _ in own], int(tokens[first])
            opening = self._ids[self._starts[number] :][: self._sizes[number]]
            is_prefix = np.array_equal(ids[before : min(before + len(opening), stop)], opening)
            is_whole = is_prefix and None not in places
            placed = [place - start for place in places if place is not None]
            found.append((ids[start:stop], placed, before + len(opening) - start) if is_whole else None)
        return found

    def _numbered(self, texts: Sequence[str]) -> tuple[list[str], Ints, Ints]:
        """The keys of all texts' words, their numbers, and the first word of each text.

        Each text is cut before every space first, which is quick and mostly right; where it was not, once more.
        """
        cut = [self._keys(text) for text in texts]
        while True:
            keys, firsts = list(chain.from_iterable(cut)), _starts([len(own) for own in cut])
            numbers = np.fromiter(map(self.numbers.__getitem__, keys), np.int64, len(keys))
            self._learn()
            joined = self._ends[numbers[:-1]] + self._begins[numbers[1:]] < 2
            if not (odd := np.unique(np.searchsorted(firsts, np.flatnonzero(joined), side="right") - 1)).size:
                return keys, numbers, firsts
            for text in odd.tolist():
                cut[text] = self._keys(texts[text], _CUT.split)

    def _keys(self, text: str, cut: Callable[[str], list[str]] | None = None) -> list[str]:
        """The keys of a text's words, which ``cut`` finds between added tokens, or else every space."""
        keys: list[str] = []
        for part in self._apart.split(text):
            first, *rest = cut(part) if cut else part.split(" ")
            keys += (" " + first, *map(_key, rest)) if cut else (" " + first, *rest)
        return keys

    def _read(self, numbers: Ints, tokens: Ints) -> Ints:
        """The ids of words end to end, whose own begin at ``tokens`` of them."""
        moved = np.repeat(self._starts[numbers] - tokens[:-1], np.diff(tokens))
        read: Ints = self._ids[moved + np.arange(tokens[-1])]
        return read

    def _before(
        self, keys: Sequence[str], chars: Ints, tokens: Ints, asked: Sequence[tuple[int, int]], firsts: Ints
    ) -> list[int | None]:
        """The token that each edge (text, character) lies before; None where it lies within one."""
        edges = np.array([edge for _, edge in asked], np.int64) + chars[firsts][[text for text, _ in asked]]
        homes = np.searchsorted(chars[1:], edges, side="right")
        inner = (edges - chars[homes]).tolist()
        before: list[int | None] = tokens[homes].tolist()
        within = [number for number, reach in enumerate(inner) if reach]
        spans = self._spans({keys[homes[number]] for number in within})
        for number in within:
            order = _within(spans[keys[homes[number]]], inner[number])
            first = before[number]
            before[number] = None if order is None or first is None else first + order
        return before

    def _begun(self, keys: Sequence[str], chars: Ints, opens: Sequence[int], firsts: Ints) -> list[tuple[int, str]]:
        """Of each text's first characters: the first word that is not whole in them, and the key of what is of it."""
        ends = chars[firsts[:-1]] + np.array(opens, np.int64)
        homes = np.searchsorted(chars[1:], ends, side="right")
        found = []
        for home, reach, first in zip(homes.tolist(), (ends - chars[homes]).tolist(), firsts.tolist(), strict=False):
            rest = _word(keys[home])[:reach] if reach else ""
            # A space is only cut off where something visible follows, which is not so at the end.
            has_more = home > first and rest in ("", " ")
            found.append((home - 1, _key(_word(keys[home - 1]) + rest)) if has_more else (home, _key(rest)))
        return found

    def _learn(self) -> None:
        """Read the words that were numbered since the last time."""
        if not (new := self.numbers.new):
            return
        words = [_word(key) for key in new]
        try:
            each = [encoding.ids for encoding in self.encode(words, has_offsets=False)]
        except BaseException:
            # They have numbers and no ids.
            self._forget()
            raise
        starts = _starts([len(ids) for ids in each])
        self._starts = np.append(self._starts, starts[:-1] + len(self._ids))
        self._sizes = np.append(self._sizes, np.diff(starts))
        self._lengths = np.append(self._lengths, [len(word) for word in words])
        begins = [2 if key[:1] == " " else int("!" <= key[:1] <= "~") for key in new]
        self._begins = np.append(self._begins, np.array(begins, np.int8))
        self._ends = np.append(self._ends, np.array(["!" <= word[-1:] <= "~" for word in words], np.int8))
        self._num_characters += sum(map(len, words))
        self._ids = np.append(self._ids, np.fromiter(chain.from_iterable(each), np.int32, starts[-1]))
        self.numbers.new = []

    def _spans(self, keys: Collection[str]) -> dict[str, list[tuple[int, int]]]:
        """The place of each token in these words."""
        found = {key: self.spans[key] for key in keys if key in self.spans}
        new = [key for key in keys if key not in found]
        for key, encoding in zip(new, self.encode([_word(key) for key in new], has_offsets=True), strict=True):
            found[key] = encoding.offsets
            if len(key) <= _SHORT:
                self.spans[key] = found[key]
        return found


def _key(word: str) -> str:
    """What a word is known by."""
    return word[1:] if word[:1] == " " and " " not in word[1:] else " " + word


def _word(key: str) -> str:
    """The word that is known by ``key``."""
    return key[1:] if key[:1] == " " else " " + key


def _starts(sizes: Sequence[int] | Ints) -> Ints:
    return np.cumsum(np.append(0, sizes), dtype=np.int64)


def _within(spans: Sequence[tuple[int, int]], edge: int) -> int | None:
    """The token of a word that an edge lies before; None where it lies within one."""
    for number, (start, end) in enumerate(spans):
        if start == end:
            # Some tokenizers give a space no width, and then it belongs to neither side.
            return None
        if start >= edge:
            return number
        if end > edge:
            return None
    return None


def can_part(description: str) -> bool:
    """True where a tokenizer, by its JSON, gives for a text what it gives for the text's words."""
    told = json.loads(description)
    model, steps = told["model"], told["pre_tokenizer"] or {}
    is_plain = model.get("type") == "BPE" and not any(
        model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
    )
    normalizer = (told["normalizer"] or {}).get("type")
    added = told["added_tokens"] or ()
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
