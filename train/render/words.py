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

_CUT = re.compile(r"(?<=[!-~])(?= [!-~])")
PATTERNS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Split patterns of Qwen 2 to 3 and of Llama 3; GPT-2's is built into ByteLevel."""
# So many words are remembered, and none that is longer: a text without spaces is one word, which does not come again.
_MOST_WORDS, _MOST_CHARACTERS = 500_000, 64


class _Memory(dict[str, list[int]]):
    """The ids of each word by its key; those of a new key are empty until somebody fills them in."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, key: str) -> list[int]:
        self.new.append(key)
        ids: list[int] = []
        self[key] = ids
        return ids


class Words:
    """The ids of words, which ``tokenize`` gives (texts -> encodings without added tokens), joined to those of texts.

    ``apart`` are the added tokens that a text is cut beside.

    A word is known by its key, which is cheap to get by ``str.split``: the word without the space that it begins with,
    or with one more where it begins with none or has another.
    """

    def __init__(self, tokenize: Callable[[Sequence[str]], list[Any]], apart: Collection[str]) -> None:
        self._tokenize = tokenize
        longest_first = sorted(apart, key=len, reverse=True)
        self._apart = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        self._memory = _Memory()

    def read(self, texts: Sequence[str], edges: Sequence[Sequence[int]]) -> list[tuple[list[int], list[int]] | None]:
        """Return the ids of each text and how many of them stand before each of its edges (characters, ascending).

        None where the ids of the text before an edge do not begin those of the whole, as where a token lies across it.
        """
        if len(self._memory) > _MOST_WORDS:
            self._memory = _Memory()
        looked_up = []
        for text, own in zip(texts, edges, strict=True):
            cuts = [_cut_before(text, edge) for edge in own]
            pieces = [self._look_up(text[start:stop]) for start, stop in pairwise((0, *cuts, len(text)))]
            # As far as the cut the text before an edge has the same words as the whole.
            rests = [self._look_up(text[cut:edge]) for cut, edge in zip(cuts, own, strict=True)]
            looked_up.append((pieces, rests))
        self._learn()
        readings: list[tuple[list[int], list[int]] | None] = []
        for pieces, rests in looked_up:
            ids: list[int] = []
            starts = []
            for piece in pieces:
                ids += chain.from_iterable(piece)
                starts.append(len(ids))
            heads = [list(chain.from_iterable(rest)) for rest in rests]
            counts = [start + len(head) for start, head in zip(starts, heads, strict=False)]
            is_whole = all(ids[n - len(head) : n] == head for n, head in zip(counts, heads, strict=True))
            readings.append((ids, counts) if is_whole else None)
        return readings

    def _look_up(self, text: str) -> list[list[int]]:
        """The ids of each word of a text, to be read after `_learn`."""
        keys: list[str] = []
        for part in self._apart.split(text):
            if _is_cut_by_spaces(part):
                first, *rest = part.split(" ")
                keys += (" " + first, *rest)
            else:
                first, *rest = _CUT.split(part)
                keys += (_key(first), *map(_key, rest))
        return list(map(self._memory.__getitem__, keys))

    def _learn(self) -> None:
        """Fill in the ids of the words that are new."""
        new, self._memory.new = self._memory.new, []
        try:
            encodings = self._tokenize([_word(key) for key in new])
        except BaseException:
            # They have no ids.
            self._memory = _Memory()
            raise
        for key, encoding in zip(new, encodings, strict=True):
            self._memory[key] += encoding.ids
            if len(key) > _MOST_CHARACTERS:
                del self._memory[key]


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
    line = text.replace("\n ", "\t").replace(" \n", "\t").replace("\n", ".")
    return line.isascii() and line.isprintable() and "  " not in line and line[-1:] != " "


def _cut_before(text: str, edge: int) -> int:
    """The last character before ``edge`` where both the text and what of it is before the edge may be cut."""
    cut = edge
    # The character behind the space must be before the edge too.
    while (cut := text.rfind(" ", 0, max(cut - 1, 0))) > 0:
        if "!" <= text[cut - 1] <= "~" and "!" <= text[cut + 1] <= "~":
            return cut
    return 0


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
