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
from array import array
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt

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

    ``apart`` are the added tokens that a text is cut beside.

    A word is known by its key, which is cheap to get by ``str.split``: the word without the space that it begins with,
    or with one more where it begins with none or has another.
    """

    def __init__(self, tokenize: Callable[[Sequence[str]], list[Any]], apart: Collection[str]) -> None:
        self._tokenize = tokenize
        longest_first = sorted(apart, key=len, reverse=True)
        self._apart = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        # Of each word by its key: its ids, as the bytes of an array of int32.
        self._ids: dict[str, bytes] = {}

    def read(self, texts: Sequence[str], edges: Sequence[Sequence[int]]) -> list[tuple[Ints, list[int]] | None]:
        """Return the ids of each text and how many of them stand before each of its edges (characters, ascending).

        None where the ids of the text before an edge do not begin those of the whole, as where a token lies across it.
        """
        keys = [self._keys(text, own) for text, own in zip(texts, edges, strict=True)]
        readings: list[tuple[Ints, list[int]] | None] = [None] * len(keys)
        unread = []
        for number, own_keys in enumerate(keys):
            try:
                readings[number] = self._join(*own_keys)
            except KeyError:
                unread.append(number)
        every = chain.from_iterable(chain(*keys[number]) for number in unread)
        new = list({key for piece in every for key in piece if key not in self._ids})
        for key, encoding in zip(new, self._tokenize([_word(key) for key in new]), strict=True):
            self._ids[key] = array("i", encoding.ids).tobytes()
        for number in unread:
            readings[number] = self._join(*keys[number])
        for key in new:
            if len(key) > _MOST_CHARACTERS:
                del self._ids[key]
        if len(self._ids) > _MOST_WORDS:
            self._ids.clear()
        return readings

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
        """The ids of a text and how many stand before each edge; raises KeyError for a word that is new."""
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
    """The keys of the words of what stands between two added tokens."""
    if not part:
        return []
    if _is_cut_by_spaces(part):
        keys = part.split(" ")
        keys[0] = " " + keys[0]
        return keys
    return [_key(word) for word in _CUT.split(part)]


def _key(word: str) -> str:
    """What a word is known by."""
    return word[1:] if word[:1] == " " and " " not in word[1:] else " " + word


def _word(key: str) -> str:
    """The word that is known by ``key``."""
    return key[1:] if key[:1] == " " else " " + key


def _is_cut_by_spaces(text: str) -> bool:
    """True where each space, but for one at the beginning, stands between two visible ASCII characters; may be False
    for others too.
    """
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
