"""What can be said from so few records: intervals, paired tests, and the verdict. numpy only, every draw seeded.

Records that repeat one another (a near-duplicate cluster, one source document) are not independent evidence, so
whatever is drawn, flipped or counted here is a *cluster*, never a record: Miller 2024, arXiv:2411.00640, section 2.2.
"""

from train.report.stats.intervals import (
    REPLICATES,
    Interval,
    bootstrap,
    bootstrap_ratios,
    difference_interval,
    effective_size,
    mean_interval,
    wilson,
)
from train.report.stats.significance import discordant, holm, mcnemar, paired_test, sign_flip
from train.report.stats.verdict import FEWEST, MARGIN, Reason, Verdict, Word, judge, minimum_detectable_effect

__all__ = [
    "FEWEST",
    "MARGIN",
    "REPLICATES",
    "Interval",
    "Reason",
    "Verdict",
    "Word",
    "bootstrap",
    "bootstrap_ratios",
    "difference_interval",
    "discordant",
    "effective_size",
    "holm",
    "judge",
    "mcnemar",
    "mean_interval",
    "minimum_detectable_effect",
    "paired_test",
    "sign_flip",
    "wilson",
]
