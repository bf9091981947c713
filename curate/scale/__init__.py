"""Past one machine: validation and near-duplicate search by daft, here or on a Ray cluster (extra ``scale``).

Every finding, pair and cluster is the same as without it, because the same code looks at the same bytes: daft moves
work and results about and reads no record itself. What grows with the data lies in files or passes from worker to
worker; the driver holds what repeats, and findings up to their limit.
"""

from curate.scale.cluster import NATIVE, RAY, Cluster, joined
from curate.scale.dedupe import Scaled, find_on
from curate.scale.examine import examine_on
from curate.scale.shards import SUFFIXES, scratch_for, shards_in, unpacked

__all__ = [
    "NATIVE",
    "RAY",
    "SUFFIXES",
    "Cluster",
    "Scaled",
    "examine_on",
    "find_on",
    "joined",
    "scratch_for",
    "shards_in",
    "unpacked",
]
