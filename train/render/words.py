"""Tokenise a text word by word with a memory for words, where that provably gives what the whole text gives.

A text uses few words many times, and a tokenizer reads each anew: here it reads each once. It may be cut before a space
that stands between two visible ASCII characters, if

- the model is BPE without dropout, prefixes or suffixes, so that no token is made across two pre-tokens;
- the pre-tokenizer is one of those below: in each of their patterns a space can only begin a match or lie in a run of
  white space, so between two visible characters it always begins a pre-token, and no lookaround sees beyond it;
- the normaliser is none or NFC, which joins nothing across ASCII;
- no added token holds white space or reaches for that beside it, so none lies across a cut.

Everything else is read whole.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain
from typing import Any

_CUT = re.compile(r"(?<=[!-~])(?= [!-~])")
_MOST_WORDS = 1_000_000
PATTERNS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Split patterns of Qwen 2 to 3 and of Llama 3; GPT-2's is built into ByteLevel."""


class Words:
    """The ids of words, read with ``encode`` (texts -> encodings without added tokens); ``place`` joins them."""

    def __init__(self, encode: Callable[..., list[Any]]) -> None:
        self.encode = encode
        self.ids: dict[str, list[int]] = {}
        self.spans: dict[str, list[tuple[int, int]]] = {}

    def place(
        self, texts: Sequence[str], edges: Sequence[Sequence[int]], opens: Sequence[int]
    ) -> list[tuple[list[int], list[int], int] | None]:
        """Return of each text its ids, the tokens that its edges lie before, and the number of ids of its first
        ``opens`` characters alone; None where a token lies across an edge or those ids do not begin the whole's.
        """
        if len(self.ids) > _MOST_WORDS:
            self.ids, self.spans = {}, {}
        words = [_CUT.split(text) for text in texts]
        ends = [list(accumulate(map(len, own))) for own in words]
        # Which word each edge is in, and which the opening ends in.
        homes = [[bisect_right(stops, edge) for edge in asked] for stops, asked in zip(ends, edges, strict=True)]
        begun = [_begun(own, stops, length) for own, stops, length in zip(words, ends, opens, strict=True)]
        self._learn(chain(chain.from_iterable(words), (text for _, text in begun)))
        self._learn_spans(
            own[home] for own, where in zip(words, homes, strict=True) for home in where if home < len(own)
        )
        found: list[tuple[list[int], list[int], int] | None] = []
        for own, stops, asked, where, (first, text) in zip(words, ends, edges, homes, begun, strict=True):
            each = list(map(self.ids.__getitem__, own))
            before = [0, *accumulate(map(len, each))]
            ids = list(chain.from_iterable(each))
            places = [self._placed(own, stops, before, edge, home) for edge, home in zip(asked, where, strict=True)]
            opening = self.ids[text]
            is_prefix = ids[before[first] : before[first] + len(opening)] == opening
            is_whole = is_prefix and all(place is not None for place in places)
            found.append((ids, [place or 0 for place in places], before[first] + len(opening)) if is_whole else None)
        return found

    def _placed(
        self, words: Sequence[str], ends: Sequence[int], before: Sequence[int], edge: int, home: int
    ) -> int | None:
        """The token that an edge lies before; None where it lies within one."""
        inner = edge - (ends[home - 1] if home else 0)
        if home == len(words):
            return before[home]
        for number, (start, end) in enumerate(self.spans[words[home]]):
            if start == end:
                # Some tokenizers give a space no width, and then it belongs to neither side.
                return None
            if start >= inner:
                return before[home] + number
            if end > inner:
                return None
        return None

    def _learn(self, words: Iterable[str]) -> None:
        new = list(set(words) - self.ids.keys())
        for word, encoding in zip(new, self.encode(new, has_offsets=False), strict=True):
            self.ids[word] = encoding.ids

    def _learn_spans(self, words: Iterable[str]) -> None:
        new = list(set(words) - self.spans.keys())
        for word, encoding in zip(new, self.encode(new, has_offsets=True), strict=True):
            self.spans[word] = encoding.offsets


def _begun(words: Sequence[str], ends: Sequence[int], length: int) -> tuple[int, str]:
    """Of a text's first ``length`` characters: how many whole words begin it, and what is left of them."""
    home = bisect_right(ends, length)
    before = ends[home - 1] if home else 0
    rest = words[home][: length - before] if home < len(words) else ""
    if home and rest in ("", " "):
        # A space is only cut off where something visible follows, which is not so at the end.
        return home - 1, words[home - 1] + rest
    return home, rest


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
