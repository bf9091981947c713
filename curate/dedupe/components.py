"""Connected components by union-find (Tarjan 1975), with path halving."""

from __future__ import annotations


class Components:
    """Numbers 0..count-1, joined step by step; a component is known by its smallest number."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def root(self, number: int) -> int:
        """Return the smallest number that is joined with ``number``."""
        above = self._above
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    def join(self, one: int, two: int) -> None:
        """Make the components of ``one`` and ``two`` the same."""
        first, second = self.root(one), self.root(two)
        if first != second:
            self._above[max(first, second)] = min(first, second)
