"""The processes that `torchrun` started, as one group: their collectives, the examples that each computes, and how they
hold a model.

Examples are sharded by their tokens, not by how many they are. Every rank computes all shards from the lengths alone,
so nothing is sent for it. Adapters are whole on every rank, and a model whose every weight is trained is cut (FSDP2).
Where there is room for it, what was cut is gathered once a step, and its gradients travel once.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

from train.base import console
from train.base.errors import Exit, TrainError
from train.model.device import memory_limit

if TYPE_CHECKING:
    import torch

ParallelStrategy = Literal["ddp", "fsdp"]
"""The whole model on every rank, or in shards."""
# Ranks wait for one another while answers are generated or a checkpoint is written; a dead one is noticed by torchrun.
_TIMEOUT, STEP_TIMEOUT = timedelta(hours=2), timedelta(minutes=10)
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
    def step_timeout(self) -> Iterator[None]:
        """Within, a rank waits for the others' part of a step for minutes, and not for hours.

        Raises TrainError "E873 rank-hangs" (exit 1) then. Where NCCL waits, its watchdog may end the process before.
        """
        try:
            self._set_timeout(STEP_TIMEOUT)
            yield
        except RuntimeError as error:
            # Gloo raises nothing more special.
            if "timed out" not in str(error).lower():
                raise
            raise TrainError(
                "E873 rank-hangs", f"another rank did not answer for {STEP_TIMEOUT.total_seconds():g} seconds",
                "Look at the ranks' machines, then go on with --resume.", exit_code=Exit.FAILED,
            ) from error  # fmt: skip
        finally:
            self._set_timeout(_TIMEOUT)

    @contextmanager
    def long_timeout(self) -> Iterator[None]:
        """Within `step_timeout`, let ranks wait for hours until all have reached its end."""
        self._set_timeout(_TIMEOUT)
        yield
        self.barrier()
        self._set_timeout(STEP_TIMEOUT)

    def _set_timeout(self, timeout: timedelta) -> None:
        if self.world_size > 1:
            from torch.distributed.distributed_c10d import _set_pg_timeout, _world

            # Those of a mesh too.
            for group in list(_world.pg_map):
                _set_pg_timeout(timeout, group)

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
    console.mute(is_muted=not context.is_first)
    try:
        if torch.cuda.is_available():
            if local_rank >= torch.cuda.device_count():
                raise TrainError("E941 no-device", f"there are {torch.cuda.device_count()} GPUs for"
                                 f" {context.local_world_size} ranks of this node",
                                 "Set --nproc-per-node to the number of GPUs.", exit_code=Exit.MISSING)  # fmt: skip
            torch.cuda.set_device(local_rank)
        # Two backends, so that numbers and objects need no GPU, and reading a flag does not wait for one.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=PrefixStore("run", store), rank=rank, world_size=world, timeout=_TIMEOUT)
        yield context
        dist.destroy_process_group()
    except BaseException as error:
        # Not destroyed here: it may wait for ranks that are stuck or gone. The store outlives them with torchrun.
        if not _is_first_to_fail(store):
            raise SystemExit(Exit.FAILED) from None
        console.mute(is_muted=False)
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


def seed_step(seed: int, rank: int, step: int) -> None:
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


TRAINED_PARAMETER_BYTES = 16
"""Bytes of a trained parameter: float32 weight, gradient and AdamW's two moments."""
STATE_MEMORY_SHARE = 0.6
"""The share of a device's memory that they may take; activations need the rest."""


def fits_unsharded(num_parameters: int, itemsize: int, shards: int, memory: int) -> bool:
    """Return whether a device of ``memory`` bytes has room for all weights and gradients of a step.

    They come beside its shard; weights travel as numbers of ``itemsize`` bytes, gradients add up in float32.
    """
    return num_parameters * (TRAINED_PARAMETER_BYTES / shards + itemsize + 4) <= STATE_MEMORY_SHARE * memory


class Replicated:
    """The whole model on every rank; also how a single process trains."""

    # Not by torch's DDP: its wrapper hooks the model's own forward, which the chunked loss goes round, and averages
    # where sums are wanted. That costs the overlap of sending with the backward pass, which adapters of a few megabytes
    # do not need.
    def __init__(self, model: Any, context: DistributedContext) -> None:
        self.model, self.context = model, context
        for parameter in model.parameters():
            if parameter.requires_grad:
                # Drawn from one seed, yet devices may draw differently.
                context.broadcast(parameter.detach())

    loss_scale = 1.0
    """Loss scale by which gradients become the sum over ranks."""
    needs_equal_micro_batches = False
    """True where all ranks must compute the same number of micro-batches."""

    def begin_micro_batch(self, *, is_last: bool) -> None:
        """Say before each micro-batch whether it is the last of its step."""

    def run(self, function: Callable[[Any], Any]) -> Any:
        """Return ``function(model)``, which may call any part of the model."""
        return function(self.model)

    def reduce_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Make every rank's gradients the sum over ranks; one that no rank has stays None, so nothing decays by it."""
        if self.context.world_size == 1:
            return
        import torch

        has = self.context.sum(torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)).tolist()
        grads = []
        for p, number in zip(parameters, has, strict=True):
            if number:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                grads.append(p.grad)
        # Of adapters, which are all float32: one message.
        flat = self.context.sum(torch.cat([grad.flatten() for grad in grads]))
        for grad, part in zip(grads, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Within, every rank has all weights, and may compute what the others do not."""
        yield


class Sharded:
    """Weights, gradients and optimizer state in shards, by torch's FSDP2: each block is gathered as it is computed.

    Where it fits (`fits_unsharded`), a block stays whole until its gradients of the whole step are added up; else it is
    gathered for each pass, and gradients are added up after each micro-batch, as whole ones have no room.

    In bfloat16 the blocks travel in it; embeddings, head and the sums between blocks stay float32, as under autocast.
    While it is measured the model is whole on every rank.
    """

    needs_equal_micro_batches = True

    def __init__(self, model: Any, context: DistributedContext, dtype: torch.dtype) -> None:
        import torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

        self.model, self.context = model, context
        device = next(model.parameters()).device
        numbers = sum(parameter.numel() for parameter in model.parameters())
        self.keeps_gathered = fits_unsharded(numbers, dtype.itemsize, context.world_size, memory_limit(device))
        mesh = init_device_mesh(device.type, (context.world_size,))
        half = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        policy = half if dtype == torch.bfloat16 else MixedPrecisionPolicy()
        names = set(getattr(model, "_no_split_modules", None) or ())
        self.blocks = [module for module in model.modules() if type(module).__name__ in names]
        for block in self.blocks:
            fully_shard(block.float(), mesh=mesh, mp_policy=policy, reshard_after_forward=not self.keeps_gathered)
        # The root keeps its weights after the forward pass: the backward pass begins with them.
        fully_shard(model.float(), mesh=mesh, reshard_after_forward=False)
        # The order is given: by default FSDP2 takes it from all forward passes before, also from those with
        # which one rank measures and others do not; ranks that gather different blocks would wait for ever.
        for before, block in pairwise([model, *self.blocks]):
            block.set_modules_to_backward_prefetch([before])
        model.set_modules_to_backward_prefetch(self.blocks[-1:])
        # The loss calls parts of the model, not its forward; to FSDP2 this method is a forward too.
        model.run_in_forward = MethodType(lambda model, function: function(model), model)
        register_fsdp_forward_method(model, "run_in_forward")

    @property
    def loss_scale(self) -> float:
        """FSDP2 divides gradients by the number of ranks, and ours are sums already.

        Its own set_gradient_divide_factor() uses PREMUL_SUM, which only NCCL has, and which up to torch 2.13 makes
        zeros of bfloat16 (pytorch issue 190747); a factor on the loss works everywhere.
        """
        return float(self.context.world_size)

    def begin_micro_batch(self, *, is_last: bool) -> None:
        """Say before each micro-batch whether it is the last of its step."""
        if self.keeps_gathered:
            self.model.set_requires_gradient_sync(is_last)
            self.model.set_reshard_after_backward(is_last)
            # Until then FSDP2 keeps what it knows of the order of blocks.
            self.model.set_is_last_backward(is_last)

    def run(self, function: Callable[[Any], Any]) -> Any:
        """Return ``function(model)``, within which the weights that the root holds are whole."""
        return self.model.run_in_forward(function)

    def reduce_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Do nothing: the backward pass has added gradients up."""

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Within, every rank has all weights, and may compute what the others do not."""
        unshard(self.model)
        try:
            yield
        finally:
            for part in [*self.blocks, self.model]:
                part.set_reshard_after_forward(not self.keeps_gathered and part is not self.model, recurse=False)
                part.reshard()


def unshard(model: Any) -> None:
    """Gather the weights of a `Sharded` model on every rank, in the format that they travel in; all must call it."""
    for part in model.modules():
        if hasattr(part, "unshard"):
            part.unshard()
            part.set_reshard_after_forward(False, recurse=False)


def gather_weights(model: Any) -> dict[str, Any]:
    """Return the weights of a `Sharded` model in float32 on rank 0's host, {} on others; all ranks must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    # It makes two tensors of what is tied, by which transformers no longer knows it.
    return {name: weight for name, weight in weights.items() if name not in model.all_tied_weights_keys}


def gradient_norm(parameters: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """Return the norm of all gradients, once they are added up: the same on every rank."""
    import torch

    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    # The item() of a sharded norm would be that of this rank's shards alone.
    return norm.full_tensor() if is_sharded(norm) else norm  # type: ignore[attr-defined]


def is_sharded(tensor: torch.Tensor) -> bool:
    """Return True for a tensor of which this rank holds a part."""
    return hasattr(tensor, "full_tensor")


PREFIX = "shard-"
"""Prefix of the files of `write_shards`."""


def write_shards(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write what this rank holds of ``tensors`` into ``folder``, fsynced; every rank must call it.

    Raises OSError on every rank where the disk of one refuses.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_saver import save

    # Not by DCP's usual storage, which keeps a pickle beside the tensors: reading a checkpoint must never run what is
    # in it.
    writer = _storage("HuggingFaceStorageWriter")(str(folder), save_distributed=True)
    try:
        save(dict(tensors), storage_writer=writer)
    except CheckpointException as error:
        # It wraps what each rank raised.
        cause = next((failure[0] for failure in error.failures.values() if isinstance(failure[0], OSError)), None)
        if cause is None:
            raise
        raise OSError(cause.errno, cause.strerror) from error


def read_shards(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Fill ``tensors``, whole or sharded, from the safetensors files in ``folder``, however many ranks wrote them.

    Raises KeyError for a name that no file has, and ValueError for one of another shape.
    """
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = _storage("HuggingFaceStorageReader")(str(folder))
    stored = reader.read_metadata().state_dict_metadata
    for name, tensor in tensors.items():
        if tuple(stored[name].size) != tuple(tensor.shape):
            raise ValueError(f"{name} has the shape {tuple(stored[name].size)}, not {tuple(tensor.shape)}")
    is_alone = not any(map(is_sharded, tensors.values()))
    with warnings.catch_warnings():
        # A rank reads whole tensors for itself, and knows it; for shards all ranks read together.
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        load(dict(tensors), storage_reader=reader, no_dist=is_alone)


def _storage(name: str) -> type:
    import torch.distributed.checkpoint as dcp

    storage: type | None = getattr(dcp, name, None)
    if storage is None:
        raise TrainError("E940 missing-extra", "sharded checkpoints need a newer torch, whose DCP writes safetensors",
                         "pip install -U torch", exit_code=Exit.MISSING)  # fmt: skip
    return storage
