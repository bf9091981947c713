"""Several processes as one run: who they are, what each of them computes, and how their gradients become one.

The only room that speaks to `torch.distributed`. A run of one process takes the same way through the code: its sums
are what they were, and it waits for nobody.
"""

from train.ranks.deal import attention_share, deal, token_costs
from train.ranks.group import ALONE, Ranks, joined, seed_stream
from train.ranks.shards import PREFIX, read_shards, write_shards
from train.ranks.spread import Way, is_sharded, num_shards, pick_way, spread

__all__ = [
    "ALONE",
    "PREFIX",
    "Ranks",
    "Way",
    "attention_share",
    "deal",
    "is_sharded",
    "joined",
    "num_shards",
    "pick_way",
    "read_shards",
    "seed_stream",
    "spread",
    "token_costs",
    "write_shards",
]
