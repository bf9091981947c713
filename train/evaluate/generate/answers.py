"""The answers of a batch in progress: which rows are unfinished, and which answer each row belongs to."""

from __future__ import annotations

from collections.abc import Collection, Sequence


class Answers:
    """One answer for each of ``limits``, its most tokens; one of ``stop_ids`` ends an answer and is no part of it."""

    def __init__(self, limits: Sequence[int], stop_ids: Collection[int]) -> None:
        self._limits, self._stop_ids = limits, stop_ids
        self._new: list[list[int]] = [[] for _ in limits]
        self._stopped = [False] * len(limits)
        self._live = list(range(len(limits)))

    def take(self, tokens: Sequence[int]) -> list[int]:
        """Add a token to the answer of each row and return the rows that go on."""
        open_rows = []
        for row, token in enumerate(tokens):
            index = self._live[row]
            if token in self._stop_ids:
                self._stopped[index] = True
                continue
            self._new[index].append(token)
            if len(self._new[index]) < self._limits[index]:
                open_rows.append(row)
        return open_rows

    def keep(self, order: Sequence[int]) -> None:
        """Let the rows be those at the positions ``order`` from now on."""
        self._live = [self._live[row] for row in order]

    def done(self) -> list[tuple[list[int], bool]]:
        """Return each answer's tokens and whether it was ended by a stop token."""
        return list(zip(self._new, self._stopped, strict=True))
