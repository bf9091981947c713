"""How hashes of words and of runs of words are mixed: the finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

STEP = 0x9E3779B97F4A7C15
MIX_A = 0xBF58476D1CE4E5B9
MIX_B = 0x94D049BB133111EB


def mix(hashes: Hashes) -> Hashes:
    """Scramble each hash so that every input bit moves every output bit."""
    mixed = hashes >> np.uint64(30)
    mixed ^= hashes
    mixed *= np.uint64(MIX_A)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(MIX_B)
    mixed ^= mixed >> np.uint64(31)
    return mixed
