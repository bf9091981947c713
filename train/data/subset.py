"""A part of the training records that repeats nothing of the rest: whole clusters, of each category alike, nested."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence


def nested_subset(names: Sequence[Sequence[str]], share: float, seed: int) -> list[int]:
    """Return the indices, in order, of about ``share`` (0 to 1) of the records of each category.

    ``names`` has (id, category, cluster) of each record. Clusters are taken whole, in the order of a hash of ``seed``
    and cluster, until a category has as near its share as whole clusters allow, and one at the least. So what a smaller
    share takes, a larger one takes too; a cluster with records in two categories comes with both.
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)
    for _, category, cluster in names:
        sizes[category][cluster] += 1
    order = {
        cluster: hashlib.sha256(f"{seed} {cluster}".encode("utf-8", "surrogatepass")).digest()
        for cluster in {name[2] for name in names}
    }
    chosen: set[str] = set()
    for counts in sizes.values():
        wanted, taken = share * counts.total(), 0
        for cluster in sorted(counts, key=order.__getitem__):
            # Half a cluster over is as near as half a cluster under; the first one always comes.
            if taken and taken + counts[cluster] / 2 > wanted:
                break
            chosen.add(cluster)
            taken += counts[cluster]
    return [index for index, name in enumerate(names) if name[2] in chosen]
