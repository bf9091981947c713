"""Longest common subsequence of words, for summaries."""

from __future__ import annotations

from collections.abc import Sequence

from train.evaluate.metrics import Scores, metric, words
from train.evaluate.metrics.exact import exact


@metric(
    "rouge_l",
    cases=[
        ("police killed the gunman", "police killed the gunman", 1.0),
        # The worked example of the paper (section 3.1): candidates 2 and 3 against one reference, at beta = 1.
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("a b c d e", "a c e", 0.75),
        ("a b c d e", "a c e", (1 + 4) * 0.6 * 1.0 / (1.0 + 4 * 0.6), {"beta": 2.0}),
        ("東京に行く", "東京へ行く", 0.8),
        ("", "words", 0.0),
        ("", "", {}),
        ("words", "...", 0.0),
        ("...", "...", 1.0),
    ],
)
def rouge_l(completion: str, reference: str, *, beta: float = 1.0) -> float | Scores:
    """F of the longest sequence of words that both texts have in the same order, gaps allowed.

    ``beta`` weighs recall over precision. No stemming. Words are parted otherwise than by the package rouge-score:
    "don't", "3.14" and "naïve" are one word here and several there, so that figures differ. A reference without a word
    is compared as a whole; an empty one leaves the record unscored. Lin 2004, "ROUGE: A Package for Automatic
    Evaluation of Summaries", ACL workshop, section 3.1.
    """
    if not 0 < beta <= 100:
        raise ValueError("beta must be over 0 to 100")
    ours, theirs = words(completion), words(reference)
    if not theirs:
        return exact(completion, reference)
    common = lcs_length(ours, theirs)
    if not common:
        return 0.0
    precision, recall = common / len(ours), common / len(theirs)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    # A machine word of the table at a time: bit i of ``row`` is 0 where the table grows at position i. Hyyro 2004,
    # "Bit-parallel LCS-length computation revisited".
    positions: dict[str, int] = {}
    for position, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << position
    full = (1 << len(first)) - 1
    row = full
    for word in second:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(first) - row.bit_count()
