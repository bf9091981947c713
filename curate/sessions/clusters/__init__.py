"""Reviewing repeats: clusters, what is to be done with each, and one act that writes all of it."""

from curate.sessions.clusters.choices import Choice, StagedAct, Summary, What, act_of, choose, choose_alike, summary
from curate.sessions.clusters.clusters import ClusterMember, Clusters, ReviewCluster, clusters_of, find_clusters
from curate.sessions.clusters.comparison import RecordComparison, TextPair, compare_records
from curate.sessions.clusters.merge import Merge, merged
from curate.sessions.clusters.review import ClusterReview
from curate.sessions.clusters.staged import Staged, read_staged

__all__ = [
    "StagedAct",
    "RecordComparison",
    "Choice",
    "ReviewCluster",
    "Clusters",
    "ClusterMember",
    "Merge",
    "TextPair",
    "ClusterReview",
    "Staged",
    "Summary",
    "What",
    "act_of",
    "compare_records",
    "choose",
    "choose_alike",
    "clusters_of",
    "find_clusters",
    "merged",
    "read_staged",
    "summary",
]
