"""A guess at how the answers of a category are scored, by what they look like."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import median

import orjson

# The share of completions that must agree before a strict scorer is proposed.
_ENOUGH = 0.95
_SHORT_WORDS = 6
_LONG_WORDS = 25
# Only what the scorer reads whole, and no name such as 007.
_NUMBER = re.compile(r"[-+]?[$€£]?(?:0|[1-9](?:\d*|\d{0,2}(?:,\d{3})+))(?:\.\d+)?\s?%?")
_CHOICE = re.compile(r"\(?[A-J]\)?[.:]?")


def guess_scorer(completions: Sequence[str], num_calls: int = 0) -> str:
    """Return the name of a metric for a category with these completions, ``num_calls`` of which call tools.

    Calls of tools are compared as calls, objects in JSON are scored field by field, single letters as choices, answers
    that all are plain numbers by value, answers from a short list of short texts exactly; other short texts by shared
    words, long ones by their longest common subsequence.
    """
    if num_calls and num_calls / len(completions) >= _ENOUGH:
        return "tool_calls"
    texts = [text.strip() for text in completions if text.strip()]
    if not texts:
        return ""
    if _share(texts, _is_object) >= _ENOUGH:
        return "json_schema"
    if _share(texts, lambda text: _CHOICE.fullmatch(text) is not None) >= _ENOUGH:
        return "choice"
    if all(map(_NUMBER.fullmatch, texts)):
        return "numeric"
    words = median(len(text.split()) for text in texts)
    if words <= _SHORT_WORDS and len(set(texts)) <= max(10, len(texts) // 10) and len(set(texts)) < len(texts):
        return "exact"
    return "token_f1" if words < _LONG_WORDS else "rouge_l"


def _share(texts: Sequence[str], fits: Callable[[str], bool]) -> float:
    return sum(map(fits, texts)) / len(texts)


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
