"""Several processes as one run: who they are, what each of them computes, and how their gradients become one.

The only folder that uses `torch.distributed`. A run of one process takes the same path through the code: its sums are
its own, and it waits for no other rank.
"""

from train.model.parallel.distributed import SINGLE_PROCESS, DistributedContext, join_group, seed_stream
from train.model.parallel.parallel import ParallelStrategy, is_sharded, num_shards, parallelize, pick_strategy
from train.model.parallel.sharding import attention_share, shard_by_cost, token_costs
from train.model.parallel.shards import PREFIX, read_shards, write_shards

__all__ = [
    "PREFIX",
    "SINGLE_PROCESS",
    "DistributedContext",
    "ParallelStrategy",
    "attention_share",
    "is_sharded",
    "join_group",
    "num_shards",
    "parallelize",
    "pick_strategy",
    "read_shards",
    "seed_stream",
    "shard_by_cost",
    "token_costs",
    "write_shards",
]
