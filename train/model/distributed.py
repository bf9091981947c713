"""The processes that `torchrun` started, as one group: their ranks, collectives, and the examples that each computes.

Examples are sharded by their tokens, not by how many they are. Every rank computes all shards from the lengths alone,
so nothing is sent for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from train.base import console
from train.base.errors import Exit, TrainError

if TYPE_CHECKING:
    import torch

# Ranks wait for one another while answers are generated or a checkpoint is written; a dead one is noticed by torchrun.
_PATIENCE, STEP_PATIENCE = timedelta(hours=2), timedelta(minutes=10)
_NUMBERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True)
class DistributedContext:
    """This process among ``world_size``: its number ``rank``, and how many share its node; by default it is alone."""

    rank: int = 0
    world_size: int = 1
    local_world_size: int = 1

    @property
    def is_first(self) -> bool:
        """True on the one rank that writes files and talks."""
        return self.rank == 0

    @property
    def num_nodes(self) -> int:
        """Number of machines."""
        return self.world_size // self.local_world_size

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add ``tensor`` up over all ranks, where it lies, and return it; every rank gets the same bits."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Overwrite ``tensor`` with rank 0's."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.broadcast(tensor, 0)

    def max(self, value: int) -> int:
        """Return the largest of the ranks' values."""
        if self.world_size == 1:
            return value
        import torch
        import torch.distributed as dist

        highest = torch.tensor(value)
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        return int(highest)

    def broadcast_object(self, value: Any) -> Any:
        """Return rank 0's ``value`` on every rank; it travels as a pickle among processes of one run."""
        return self.gather(value)[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in their order, on every rank."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank is here."""
        # Not dist.barrier(): with NCCL that would have to guess a device; an object takes the way over the CPU.
        self.gather(None)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Within, a rank waits for the others' part of a step for minutes, and not for hours.

        Raises TrainError "E873 rank-hangs" (exit 1) then. Where NCCL waits, its watchdog may end the process before.
        """
        try:
            self._wait_for(STEP_PATIENCE)
            yield
        except RuntimeError as error:
            # Gloo raises nothing more special.
            if "timed out" not in str(error).lower():
                raise
            raise TrainError(
                "E873 rank-hangs", f"another rank did not answer for {STEP_PATIENCE.total_seconds():g} seconds",
                "Look at the ranks' machines, then go on with --resume.", exit_code=Exit.FAILED,
            ) from error  # fmt: skip
        finally:
            self._wait_for(_PATIENCE)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within `stepping`, let ranks wait for hours until all have reached its end."""
        self._wait_for(_PATIENCE)
        yield
        self.barrier()
        self._wait_for(STEP_PATIENCE)

    def _wait_for(self, patience: timedelta) -> None:
        if self.world_size > 1:
            from torch.distributed.distributed_c10d import _set_pg_timeout, _world

            # Those of a mesh too.
            for group in list(_world.pg_map):
                _set_pg_timeout(patience, group)

    def require_equal(self, facts: dict[str, Any]) -> None:
        """Raise TrainError "E948 ranks-differ" where ranks see other data, weights or versions than rank 0 does."""
        everyones = self.gather(facts)
        for rank, others in enumerate(everyones):
            differing = sorted(key for key in facts if others.get(key) != everyones[0].get(key))
            if differing:
                raise TrainError(
                    "E948 ranks-differ", f"rank {rank} and rank 0 do not have the same {', '.join(differing)}",
                    "Give every node the same dataset, base and packages.",
                )  # fmt: skip


SINGLE_PROCESS = DistributedContext()


@contextmanager
def join_group() -> Iterator[DistributedContext]:
    """Yield the group that `torchrun` made (its environment says so), or `SINGLE_PROCESS`; only rank 0 talks within.

    CUDA ranks take the GPU of their LOCAL_RANK and reduce tensors with NCCL, all else goes over gloo. An error on any
    rank ends all: the first that fails says it, the others end quietly with its exit code or by torchrun's signal.
    NCCL and several machines were never run by us, only gloo on one. After a signal torchrun kills what has not ended
    in 30 seconds; TORCH_ELASTIC_SHUTDOWN_TIMEOUT gives a long step and its checkpoint more.

    Raises TrainError "E941 no-device" where a node has more ranks than GPUs, "E949 bad-launch" where the environment
    has some of torchrun's variables and lacks others.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield SINGLE_PROCESS
        return
    variables = {name: os.environ.get(name, "") for name in _NUMBERS}
    unclear = [name for name, value in variables.items() if not value.isdecimal()]
    if unclear or not os.environ.get("MASTER_ADDR"):
        missing = ", ".join(unclear) or "MASTER_ADDR"
        raise TrainError("E949 bad-launch", f"WORLD_SIZE is set, but not {missing}",
                         "Start it with torchrun, or unset WORLD_SIZE.")  # fmt: skip
    # torch takes a second to import; `train run --help` does without.
    import torch
    import torch.distributed as dist
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    local_rank = int(variables["LOCAL_RANK"])
    store, rank, world = next(rendezvous("env://"))
    context = DistributedContext(rank, world, int(variables["LOCAL_WORLD_SIZE"]))
    console.hush(is_hushed=not context.is_first)
    try:
        if torch.cuda.is_available():
            if local_rank >= torch.cuda.device_count():
                raise TrainError("E941 no-device", f"there are {torch.cuda.device_count()} GPUs for"
                                 f" {context.local_world_size} ranks of this node",
                                 "Set --nproc-per-node to the number of GPUs.", exit_code=Exit.MISSING)  # fmt: skip
            torch.cuda.set_device(local_rank)
        # Two backends, so that numbers and objects need no GPU, and reading a flag does not wait for one.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            backend, store=PrefixStore("run", store), rank=rank, world_size=world, timeout=_PATIENCE
        )
        yield context
        dist.destroy_process_group()
    except BaseException as error:
        # Not destroyed here: it may wait for ranks that are stuck or gone. The store outlives them with torchrun.
        if not _is_first_to_fail(store):
            raise SystemExit(Exit.FAILED) from None
        console.hush(is_hushed=False)
        # Those of click too, such as a folder that one node lacks.
        if isinstance(error, Exception) and hasattr(error, "message") and rank:
            error.message = f"rank {rank}: {error.message}"
        raise


def _is_first_to_fail(store: Any) -> bool:
    import torch.distributed as dist

    try:
        return bool(store.add("failed", 1) == 1)
    except dist.DistError:
        # The process that held the store has ended, and has reported its own error.
        return False


def seed_stream(seed: int, rank: int, step: int) -> None:
    """Begin the random stream of dropout on ``rank`` in ``step``: no state of it has to be saved for a resume."""
    import numpy as np
    import torch

    state = np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))


def shard_by_tokens(lengths: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Return the indices 0..n-1 of each rank; with fewer indices than ranks some ranks get none."""
    # The longest first, each to the rank that has least (LPT, Graham 1969). Ties go to the lower rank, since every rank
    # computes this for itself and all must agree.
    shares: list[list[int]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        rank = loads.index(min(loads))
        shares[rank].append(index)
        loads[rank] += lengths[index]
    return shares
