"""Numbers and names, given as lists or arrays of any type, as plain values of Python.

Integers of numpy overflow, narrow floats round, and neither is JSON, so each function converts its arguments first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def floats(values: Sequence[float]) -> list[float]:
    """Return ``values``, [records], as floats of 64 bits."""
    plain: list[float] = np.asarray(values, dtype=np.float64).tolist()
    return plain


def names(clusters: Sequence[str]) -> list[str]:
    """Return the names of clusters, [records], as strings."""
    return [str(name) for name in clusters]
