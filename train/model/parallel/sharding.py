"""Which examples of a step each rank computes: sharded by what they cost, not by how many they are.

Every rank computes all shards from the lengths alone, so nothing is sent for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def token_costs(lengths: Sequence[int] | np.ndarray, attention: float = 0.0) -> np.ndarray:
    """Return the cost l + attention * l^2 of each length l, in tokens of a short text.

    ``attention`` is what a token pays for one token before it, as a share of what it pays for itself.
    """
    wide = np.asarray(lengths, dtype=np.float64)
    costs: np.ndarray = wide * (1 + attention * wide)
    return costs


def attention_share(model: Any) -> float:
    """Return `token_costs`' ``attention`` of a model; 0 where its config does not say its layers.

    Counted in multiplications of the forward pass: a token costs each weight of the body once, and in each layer twice
    its width (scores, then values) for half of the tokens around it.
    """
    width = model.get_input_embeddings().weight.shape[1]
    layers = getattr(model.config, "num_hidden_layers", 0)
    embedded = {id(part.weight): part.weight.numel() for part in _embeddings(model)}
    body = sum(p.numel() for p in model.parameters()) - sum(embedded.values())
    return float(layers * width / body) if body > 0 else 0.0


def shard_by_cost(costs: Sequence[float] | np.ndarray, num_ranks: int) -> list[list[int]]:
    """Return the indices 0..n-1 of each rank: the dearest first, each to the rank that has least (Graham 1969, LPT).

    Ties go to the lower rank. With fewer indices than ranks some ranks get none.
    """
    shares: list[list[int]] = [[] for _ in range(num_ranks)]
    loads = [0.0] * num_ranks
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        rank = loads.index(min(loads))
        shares[rank].append(index)
        loads[rank] += float(costs[index])
    return shares


def _embeddings(model: Any) -> list[Any]:
    return [part for part in (model.get_input_embeddings(), model.get_output_embeddings()) if part is not None]
