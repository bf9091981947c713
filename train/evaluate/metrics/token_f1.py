"""Overlap of words, for short free text."""

from __future__ import annotations

from collections import Counter

from train.evaluate.metrics import Scores, metric, words
from train.evaluate.metrics.exact import exact

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
        ("", "?!", 0.0),
        ("?!", "?!", 1.0),
        # An article that is all there is, is the answer.
        ("(A)", "(A)", 1.0),
        ("A.", "(a)", 1.0),
        ("(B)", "(A)", 0.0),
        ("The answer is (A)", "(A)", 0.4),
        ("\u041c\u043e\u0441\u043a\u0432\u0430!", "\u043c\u043e\u0441\u043a\u0432\u0430", 1.0),
        ("the answer is 4", "4", 0.5, {"articles": True}),
    ],
)
def token_f1(completion: str, reference: str, *, articles: bool = True) -> float | Scores:
    """F1 of the words that completion and reference share, counted with repeats.

    Case, punctuation and (with ``articles``) the English words a, an, the do not count; text written without spaces is
    compared by character. Articles count where the reference has no other word, and a reference without a word is
    compared as a whole; an empty one leaves the record unscored. The measure of SQuAD: Rajpurkar et al. 2016,
    arXiv:1606.05250, section 6.1.
    """
    wanted = words(reference)
    dropped = _ARTICLES if articles and not _ARTICLES.issuperset(wanted) else frozenset()
    ours, theirs = (Counter(word for word in some if word not in dropped) for some in (words(completion), wanted))
    if not theirs:
        return exact(completion, reference)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())
