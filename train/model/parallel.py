"""How ranks hold a model: whole on each of them, or in shards (FSDP2); how gradients add up, and shards are saved.

Adapters are whole on every rank, and a model whose every weight is trained is cut. Where there is room for it, what was
cut is gathered once a step, and its gradients travel once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal

from train.base.errors import Exit, TrainError
from train.model.device import memory_limit
from train.model.distributed import DistributedContext

if TYPE_CHECKING:
    import torch

ParallelStrategy = Literal["ddp", "fsdp", "hsdp"]
BYTES_TRAINED = 16
"""Bytes of a trained parameter: float32 weight, gradient and AdamW's two moments."""
ROOM = 0.6
"""The share of a device's memory that they may take; activations need the rest."""


def pick_strategy(
    wanted: ParallelStrategy | Literal["auto"], *, is_lora: bool, context: DistributedContext
) -> ParallelStrategy:
    """Return how to spread a model over the ranks.

    Adapters are replicated ("ddp"). A model that is trained in full is sharded over all ranks ("fsdp"), and with
    several nodes within each node and replicated across them ("hsdp"), so that weights never cross the slower network.

    Raises TrainError "E920 bad-recipe" where nodes with unequal numbers of ranks shall each have the whole model.
    """
    if is_lora or context.world_size == 1:
        return "ddp"
    are_even = context.world_size % context.local_world_size == 0
    if wanted == "hsdp" and not are_even:
        raise TrainError(
            "E920 bad-recipe",
            f"parallel: {context.world_size} ranks are not {context.local_world_size} on every node",
            "Set parallel = fsdp.",
        )
    if wanted != "auto":
        return wanted
    return "hsdp" if 1 < context.local_world_size < context.world_size and are_even else "fsdp"


def keeps_whole(num_parameters: int, itemsize: int, shards: int, memory: int) -> bool:
    """Return whether a device of ``memory`` bytes has room for all weights and gradients of a step.

    They come beside its shard; weights travel as numbers of ``itemsize`` bytes, gradients add up in float32.
    """
    return num_parameters * (BYTES_TRAINED / shards + itemsize + 4) <= ROOM * memory


def num_shards(strategy: ParallelStrategy, context: DistributedContext) -> int:
    """Return into how many parts ``strategy`` cuts a model."""
    return 1 if strategy == "ddp" else context.world_size if strategy == "fsdp" else context.local_world_size


def parallelize(
    model: Any, strategy: ParallelStrategy, context: DistributedContext, *, dtype: torch.dtype
) -> Replicated | Sharded:
    """Spread ``model`` over the ranks of ``context``; call it before an optimizer is made of its parameters."""
    return Replicated(model, context) if strategy == "ddp" else Sharded(model, strategy, context, dtype)


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

    weight = 1.0
    """Loss scale by which gradients become the sum over ranks."""
    needs_equal_turns = False
    """True where all ranks must compute the same number of micro-batches."""

    def begin(self, *, is_last: bool) -> None:
        """Say before each micro-batch whether it is the last of its step."""

    def run(self, function: Callable[[Any], Any]) -> Any:
        """Return ``function(model)``, which may call any part of the model."""
        return function(self.model)

    def add_up(self, parameters: Sequence[torch.nn.Parameter]) -> None:
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
    def whole(self) -> Iterator[None]:
        """Within, every rank has all weights, and may compute what the others do not."""
        yield


class Sharded:
    """Weights, gradients and optimizer state in shards, by torch's FSDP2: each block is gathered as it is computed.

    Where it fits (`keeps_whole`), a block stays whole until its gradients of the whole step are added up; else it is
    gathered for each pass, and gradients are added up after each micro-batch, as whole ones have no room.

    With several nodes ("hsdp") shards lie within a node. In bfloat16 the blocks travel in it; embeddings, head and the
    sums between blocks stay float32, as under autocast. While it is measured the model is whole on every rank.
    """

    needs_equal_turns = True

    def __init__(self, model: Any, strategy: ParallelStrategy, context: DistributedContext, dtype: torch.dtype) -> None:
        import torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

        self.model, self.context = model, context
        device = next(model.parameters()).device
        numbers = sum(parameter.numel() for parameter in model.parameters())
        self.is_kept = keeps_whole(numbers, dtype.itemsize, num_shards(strategy, context), memory_limit(device))
        shape = (context.num_nodes, context.local_world_size) if strategy == "hsdp" else (context.world_size,)
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard")[-len(shape) :])
        half = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        policy = half if dtype == torch.bfloat16 else MixedPrecisionPolicy()
        names = set(getattr(model, "_no_split_modules", None) or ())
        self.blocks = [module for module in model.modules() if type(module).__name__ in names]
        for block in self.blocks:
            fully_shard(block.float(), mesh=mesh, mp_policy=policy, reshard_after_forward=not self.is_kept)
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
    def weight(self) -> float:
        """FSDP2 divides gradients by the number of ranks, and ours are sums already.

        Its own set_gradient_divide_factor() uses PREMUL_SUM, which only NCCL has, and which up to torch 2.13 makes
        zeros of bfloat16 (pytorch issue 190747); a factor on the loss works everywhere.
        """
        return float(self.context.world_size)

    def begin(self, *, is_last: bool) -> None:
        """Say before each micro-batch whether it is the last of its step."""
        if self.is_kept:
            self.model.set_requires_gradient_sync(is_last)
            self.model.set_reshard_after_backward(is_last)
            # Until then FSDP2 keeps what it knows of the order of blocks.
            self.model.set_is_last_backward(is_last)

    def run(self, function: Callable[[Any], Any]) -> Any:
        """Return ``function(model)``, within which the weights that the root holds are whole."""
        return self.model.run_in_forward(function)

    def add_up(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Do nothing: the backward pass has added gradients up."""

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within, every rank has all weights, and may compute what the others do not."""
        unshard(self.model)
        try:
            yield
        finally:
            for part in [*self.blocks, self.model]:
                part.set_reshard_after_forward(not self.is_kept and part is not self.model, recurse=False)
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
