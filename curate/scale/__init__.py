"""Past one machine: validation and near-duplicate search by daft, here or on a Ray cluster (extra ``scale``).

Every finding, pair and cluster is the same as without it, because the same functions look at the same bytes: daft maps
them over spans of files and blocks of texts, and reads no record itself. Texts lie in a file that all workers map; the
driver holds the numbers of all records, as a single process does, and findings up to their limit.
"""

from curate.scale.cluster import NATIVE, RAY, WorkerCluster, joined
from curate.scale.shards import SUFFIXES, Scaled, examine_on, find_on, scratch_for, shards_in, unpacked

__all__ = [
    "NATIVE",
    "RAY",
    "SUFFIXES",
    "WorkerCluster",
    "Scaled",
    "examine_on",
    "find_on",
    "joined",
    "scratch_for",
    "shards_in",
    "unpacked",
]
