# SPDX-License-Identifier: Apache-2.0
"""Word-3-gram similarity, with which the support-desk generator refuses near repeats of its own records."""

from __future__ import annotations

import re
from collections import Counter, defaultdict


def shingles(text: str) -> frozenset[str]:
    """Lower-cased word 3-grams; a text of fewer than three words has none."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(" ".join(words[i : i + 3]) for i in range(len(words) - 2))


class Seen:
    """Shingle sets of accepted texts, with an index from shingle to text."""

    def __init__(self) -> None:
        self.sets: list[frozenset[str]] = []
        self.index: dict[str, list[int]] = defaultdict(list)

    def closest(self, candidate: frozenset[str]) -> float:
        """Largest Jaccard similarity to an accepted text."""
        shared = Counter(number for shingle in candidate for number in self.index[shingle])
        return max((n / (len(candidate) + len(self.sets[i]) - n) for i, n in shared.items()), default=0.0)

    def add(self, candidate: frozenset[str]) -> None:
        """Remember a text."""
        for shingle in candidate:
            self.index[shingle].append(len(self.sets))
        self.sets.append(candidate)
