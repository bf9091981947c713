"""Texts that are alike, and an oracle that says how alike: the word 3-grams that two texts share."""

from __future__ import annotations

import functools
import random
import re

from tests.promises.outside import Row


@functools.cache
def shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[start : start + 3]) for start in range(len(words) - 2))


def alike(one: str, other: str) -> float:
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second)


class Writer:
    """Writes texts of random words, of which no two are alike by chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self, words: int) -> str:
        return " ".join(f"word{self.random.randrange(5000)}" for _ in range(words))

    def changed(self, text: str, words: int) -> str:
        parts = text.split()
        for place in self.random.sample(range(len(parts)), words):
            parts[place] = f"other{self.random.randrange(5000)}"
        return " ".join(parts)

    def family(self, number: int) -> list[Row]:
        """Return two records of which one repeats the other or gives it away, in one of six ways."""
        asked, answer = self.text(20), self.text(60)
        kin = [
            (asked, answer),
            (asked.upper() + "!", answer.upper()),
            (self.changed(asked, 1), answer),
            (asked, self.changed(answer, 2)),
            (asked, self.text(60)),
            (f"{self.text(5)} {asked} {self.text(8)}", self.text(30)),
        ][number % 6]
        names = (f"{number}-first", f"{number}-kin")
        return [
            {"id": name, "instruction": said[0], "output": said[1], "category": "any"}
            for name, said in zip(names, ((asked, answer), kin), strict=True)
        ]
