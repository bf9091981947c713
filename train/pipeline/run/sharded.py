"""Records sharded over ranks for evaluation, and their scores gathered again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from train.data.dataset import Dataset
from train.evaluate.predictions import Scored
from train.model.parallel import DistributedContext


def shard_dataset(context: DistributedContext, dataset: Dataset) -> Dataset:
    """Return the dataset with every ``world``-th row of each split, beginning with this rank's number."""
    return replace(
        dataset, splits={name: rows[context.rank :: context.world_size] for name, rows in dataset.splits.items()}
    )


def gather_scores(context: DistributedContext, scored: list[Scored], order: Sequence[str]) -> list[Scored]:
    """Return what all ranks scored, on every rank, in the ``order`` of record ids; what is not in it comes last, once.

    Every rank scores all general text; the first rank's result counts.
    """
    if context.world_size == 1:
        return scored
    results: dict[tuple[str, str], Scored] = {}
    for part in context.gather(scored):
        for result in part:
            results.setdefault((result.split, result.id), result)
    positions = {record: position for position, record in enumerate(order)}
    return sorted(results.values(), key=lambda result: positions.get(result.id, len(positions)))
