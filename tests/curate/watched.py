"""Rows of which one can tell how many are in memory at once."""

from __future__ import annotations

import weakref
from typing import Any


class WatchedRow(dict[str, Any]):
    """A row that can be referred to weakly."""


class Watch:
    """Makes rows, and counts those that somebody still holds."""

    def __init__(self) -> None:
        self._num_alive = 0
        self.most = 0
        """How many there were at once, at most."""

    def row(self, *args: Any, **keys: Any) -> WatchedRow:
        """Return ``dict(*args, **keys)``, watched."""
        row = WatchedRow(*args, **keys)
        weakref.finalize(row, self._release)
        self._num_alive += 1
        self.most = max(self.most, self._num_alive)
        return row

    def _release(self) -> None:
        self._num_alive -= 1
