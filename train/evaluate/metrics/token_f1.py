"""Overlap of words, for short free text."""

from __future__ import annotations

from collections import Counter

from train.evaluate.metrics import Scores, metric, words

_ARTICLES = frozenset({"a", "an", "the"})


@metric(
    "token_f1",
    cases=[
        ("the cat sat", "A cat sat!", 1.0),
        ("cat", "black cat", 2 / 3),
        ("cat cat", "cat", 2 / 3),
        ("dog", "cat", 0.0),
        ("東京都", "東京", 0.8),
        ("", "cat", 0.0),
        ("", "", {}),
        ("the", "", {}),
        ("", "?!", {}),
        ("the answer is 4", "4", 0.5, {"articles": True}),
    ],
)
def token_f1(completion: str, reference: str, *, articles: bool = True) -> float | Scores:
    """F1 of the words that completion and reference share, counted with repeats.

    Case, punctuation and (with ``articles``) the English words a, an, the do not count; text written without spaces is
    compared by character. A reference without a word leaves the record unscored. The measure of SQuAD: Rajpurkar et al.
    2016, arXiv:1606.05250, section 6.1.
    """
    dropped = _ARTICLES if articles else frozenset()
    ours, theirs = (Counter(word for word in words(text) if word not in dropped) for text in (completion, reference))
    if not theirs:
        return {}
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())
