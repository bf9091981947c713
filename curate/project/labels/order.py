"""In which order records are asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Hashes, mix

Order = Literal["file", "random", "uncertain", "disagreement", "oldest"]

ORDERS: Sequence[Order] = get_args(Order)
WORDS: dict[Order, str] = {
    "file": "file order",
    "random": "random",
    "uncertain": "least certain first",
    "disagreement": "disagreement first",
    "oldest": "longest since seen first",
}
"""What each order is called."""


@dataclass(frozen=True)
class Facts:
    """What orders go by: an entry for each record, in the order of the files."""

    hashes: Hashes
    certainty: NDArray[np.float64]
    """The probability of the suggested answer, NaN where nothing is suggested."""
    num_opinions: NDArray[np.int64]
    """How many different answers others have given."""
    last_decided: NDArray[np.float64]
    """When the annotator decided on it last, in any unit; minus infinity where never."""


def ordered(order: Order, facts: Facts, by: str) -> NDArray[np.int64]:
    """Return the places of the records in the order in which they are asked about.

    Least certain first is uncertainty sampling (Lewis and Gale 1994). Random is the same on every day and differs from
    one annotator to the next, so that no record comes last for all of them; it also decides where another order does
    not. Where others disagree comes by how many different answers there are, which says nothing of what they are.
    """
    drawn = _drawn(facts.hashes, by)
    indices = np.arange(len(facts.hashes))
    if order == "random":
        return np.argsort(drawn, kind="stable")
    if order == "uncertain":
        # NaN sorts last.
        return np.lexsort((drawn, facts.certainty))
    if order == "disagreement":
        return np.lexsort((indices, -np.where(facts.num_opinions > 1, facts.num_opinions, 0)))
    if order == "oldest":
        return np.lexsort((indices, facts.last_decided))
    return indices


def _drawn(hashes: Hashes, by: str) -> Hashes:
    digest = blake2b(by.encode("utf-8", "surrogatepass"), digest_size=8, person=b"order").digest()
    return mix(hashes ^ np.uint64(int.from_bytes(digest)))
