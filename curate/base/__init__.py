"""What everything stands on: records, findings and errors, and the only writers to the terminal and to the disk."""

from __future__ import annotations

import gc

_NEW_OBJECTS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS = 100_000, 50, 100


def collect_rarely() -> None:
    """Let this process look for cycles rarely, and never again among the modules that are loaded by now."""
    # Records and findings hold no cycles, so the search finds nothing; by Python's own settings it took a fifth of the
    # time of `curate dedupe`, because every object that is kept is looked at again and again.
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _YOUNG_ROUNDS, _MIDDLE_ROUNDS)
