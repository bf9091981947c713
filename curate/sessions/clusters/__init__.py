"""Reviewing repeats: clusters, what is to be done with each, and one act that writes all of it."""

from curate.sessions.clusters.beside import Beside, Part, beside
from curate.sessions.clusters.choices import Act, Choice, Summary, What, act_of, choose, choose_alike, summary
from curate.sessions.clusters.found import Cluster, Clusters, Member, clusters_of, find_clusters
from curate.sessions.clusters.merge import Merge, merged
from curate.sessions.clusters.review import Review
from curate.sessions.clusters.staged import Staged, read_staged

__all__ = [
    "Act",
    "Beside",
    "Choice",
    "Cluster",
    "Clusters",
    "Member",
    "Merge",
    "Part",
    "Review",
    "Staged",
    "Summary",
    "What",
    "act_of",
    "beside",
    "choose",
    "choose_alike",
    "clusters_of",
    "find_clusters",
    "merged",
    "read_staged",
    "summary",
]
