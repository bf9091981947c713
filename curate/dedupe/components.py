"""Connected components in numpy: labels hook onto smaller ones and jump to their root (Shiloach and Vishkin 1982)."""

from __future__ import annotations

import numpy as np

from curate.hashing import Indices


def components(count: int, left: Indices, right: Indices) -> Indices:
    """Return for each of the numbers 0..count-1 the smallest number that the pairs (left, right) join it with."""
    above = np.arange(count, dtype=np.int64)
    while len(left):
        one, two = above[left], above[right]
        is_open = one != two
        left, right, one, two = left[is_open], right[is_open], one[is_open], two[is_open]
        np.minimum.at(above, np.maximum(one, two), np.minimum(one, two))
        while not np.array_equal(jumped := above[above], above):
            above = jumped
    return above
