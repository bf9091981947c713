"""Who is asked about which record: by hashes of its id, so that neither more records nor more answers move any.

Each record has a ranking of the annotators: the highest random weight (Thaler and Ravishankar 1998) of name and id
comes first, so that whoever joins or leaves changes only what becomes or was theirs. The first is asked; a share of the
records, by another hash, asks the second too. A record whose answer is known (gold) asks everybody, in the same words
and at the same place as any other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from curate.base.hashing import Hashes, mix

_SHARE_BITS = 53


@dataclass(frozen=True)
class AnnotatorAssignment:
    """The rules by which records ask annotators.

    ``annotators`` are those who share the work; nobody named lets whoever comes answer what still lacks an answer.
    ``overlap`` is the share of records that need two answers. ``gold`` has the ids that everybody is asked about.
    """

    annotators: Sequence[str] = ()
    overlap: float = 0.0
    gold: Collection[str] = frozenset()
    seed: int = 0

    def is_assigned(self, name: str, by: str, answered: Collection[str] = ()) -> bool:
        """Whether the record called ``name`` asks ``by``, those in ``answered`` having answered it."""
        if by in answered:
            return False
        if not self.has_part(by):
            return False
        if name in self.gold:
            return True
        hashes = self.hashes([name])
        wanted = int(self.num_wanted(hashes)[0])
        if not self.annotators:
            return len(answered) < wanted
        # Answers of people who are not in the team any more count; the last of those asked are spared.
        wanted -= sum(annotator not in self.annotators for annotator in answered)
        return bool(self.rank(hashes, by)[0] < wanted)

    def has_part(self, by: str) -> bool:
        """Whether ``by`` is one of those who are asked at all."""
        return not self.annotators or by in self.annotators

    def hashes(self, names: Sequence[str]) -> Hashes:
        """Return a hash of each id, [N], by the seed; the same on every machine."""
        salt = f"{self.seed}\0".encode()
        digests = b"".join(
            blake2b(salt + name.encode("utf-8", "surrogatepass"), digest_size=8).digest() for name in names
        )
        return np.frombuffer(digests, ">u8").astype(np.uint64)

    def num_wanted(self, hashes: Hashes) -> NDArray[np.int64]:
        """Return how many answers each record needs, [N]: one, or two. Gold is not seen from a hash."""
        if len(self.annotators) == 1:
            return np.ones(len(hashes), np.int64)
        share = (mix(hashes) >> np.uint64(64 - _SHARE_BITS)).astype(np.float64) / 2**_SHARE_BITS
        return np.where(share < self.overlap, 2, 1)

    def rank(self, hashes: Hashes, by: str) -> NDArray[np.int64]:
        """Return the place of ``by``, who is one of ``annotators``, in the ranking of each record, [N], from 0."""
        own = self._weights(hashes, by)
        others = [annotator for annotator in dict.fromkeys(self.annotators) if annotator != by]
        ranks = np.zeros(len(hashes), np.int64)
        for other in others:
            weights = self._weights(hashes, other)
            ranks += (weights > own) | ((weights == own) & (other < by))
        return ranks

    def _weights(self, hashes: Hashes, annotator: str) -> Hashes:
        digest = blake2b(annotator.encode("utf-8", "surrogatepass"), digest_size=8, person=b"annotator").digest()
        return mix(hashes ^ np.uint64(int.from_bytes(digest)))
