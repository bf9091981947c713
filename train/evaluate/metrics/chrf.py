"""Overlap of characters and words, for translation and morphologically rich languages."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence

from train.evaluate.metrics import Scores, metric


@metric(
    "chrf",
    cases=[
        ("the cat sat on the mat", "the cat sat on the mat", 1.0),
        ("abc", "xyz", 0.0),
        ("", "", {}),
        ("abc", " ", {}),
        ("", "abc", 0.0),
        # One character each side: only the orders char-1 and word-1 exist, both match.
        ("a", "a", 1.0),
        # char-1: 2 of 3 match both ways; char-2: 1 of 2; char-3: 0 of 1; word-1: 0 of 1. Mean of four orders.
        ("abc", "abd", (2 / 3 + 1 / 2) / 4),
        # The next two as sacreBLEU 2.6 has them (sentence_chrf, word_order=2).
        ("The cat is on the mat.", "There is a cat on the mat.", 0.5348946348806678),
        ("東京に行く", "東京へ行く", 0.21666666666666667),
    ],
)
def chrf(
    completion: str, reference: str, *, char_order: int = 6, word_order: int = 2, beta: float = 2.0
) -> float | Scores:
    """chrF++ of one sentence: precision and recall of character and word n-grams, averaged over orders, then F-beta.

    White space does not count for characters; punctuation at the edge of a word is a word of its own; orders that one
    of the texts is too short for are left out. An empty reference leaves the record unscored. Popovic 2017, "chrF++:
    words helping character n-grams", WMT; the defaults (6, 2, beta 2) and the handling of short texts are sacreBLEU's.
    """
    if not (0 <= char_order <= 100 and 0 <= word_order <= 100 and char_order + word_order >= 1 and 0 < beta <= 100):
        raise ValueError("orders must be 0 to 100, one of them positive, and beta over 0 to 100")
    if not reference.split():
        return {}
    ours, theirs = "".join(completion.split()), "".join(reference.split())
    pairs = [_precision_recall(ours, theirs, n + 1) for n in range(char_order)]
    pairs += [_precision_recall(_split(completion), _split(reference), n + 1) for n in range(word_order)]
    known = [pair for pair in pairs if pair is not None]
    precision = sum(pair[0] for pair in known) / len(known) if known else 0.0
    recall = sum(pair[1] for pair in known) / len(known) if known else 0.0
    if not precision + recall:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def _precision_recall(ours: Sequence[str], theirs: Sequence[str], n: int) -> tuple[float, float] | None:
    if len(ours) < n or len(theirs) < n:
        return None
    first, second = (Counter(tuple(units[i : i + n]) for i in range(len(units) - n + 1)) for units in (ours, theirs))
    matches = (first & second).total()
    return matches / first.total(), matches / second.total()


def _split(text: str) -> list[str]:
    # Return the words with one punctuation mark split off the end, or else the start, of each.
    parts: list[str] = []
    for word in text.split():
        if len(word) > 1 and word[-1] in string.punctuation:
            parts += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in string.punctuation:
            parts += [word[0], word[1:]]
        else:
            parts.append(word)
    return parts
