"""What training did to answers that were compared: the better one of a pair should gain, and one that was liked.

Of one record under two models it is the change of log-probability that favours the better answer, in nats: the implicit
reward of Rafailov et al. 2023, arXiv:2305.18290, section 4, without its factor.
"""

from __future__ import annotations

from train.data.dataset import Dataset
from train.evaluate.predictions import Scored
from train.recipe import PREFERENCES, Objective


def margin_of(record: Scored) -> float | None:
    """Return by how many nats a model finds the better answer likelier than the worse; None where there are no two."""
    if record.nll is None or record.rejected is None:
        return None
    return record.rejected["nll"] - record.nll


def gain_of(before: Scored, after: Scored) -> float | None:
    """Return by how many nats training moved a record towards what people prefer; None where they said nothing."""
    own, other = margin_of(before), margin_of(after)
    if own is not None and other is not None:
        return other - own
    if after.is_liked is None or before.nll is None or after.nll is None:
        return None
    return (before.nll - after.nll) * (1 if after.is_liked else -1)


def comparison_remark(objective: Objective, dataset: Dataset) -> list[str]:
    """Return what cannot be told of an objective that compares answers where no exam record does; else nothing."""
    rows = (row for split in ("validation", "test") for row in dataset.splits[split])
    if objective not in PREFERENCES or any(row.worse is not None or row.is_liked is not None for row in rows):
        return []
    return ["No validation or test record compares answers, so nothing shows whether training moved them as wanted."]


def agreement_of(gain: float) -> float:
    """Return 1 where a gain is what people prefer, 0 where it is not, and one half where nothing changed."""
    return 0.5 if gain == 0 else float(gain > 0)
