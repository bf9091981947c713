"""Tensors of a sharded model as files: each rank writes its own part, and any number of ranks reads them again.

torch's DCP with its safetensors storage: its usual one keeps a pickle beside the tensors, and reading a checkpoint
must never run what is in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from train.base.errors import Exit, TrainError

if TYPE_CHECKING:
    import torch

PREFIX = "shard-"
"""What the name of each file of `write_shards` begins with."""


def write_shards(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write what this rank holds of ``tensors`` into ``folder``, fsynced; every rank must call it.

    Raises OSError on every rank where the disk of one refuses.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_saver import save

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
    is_alone = not any(hasattr(tensor, "full_tensor") for tensor in tensors.values())
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
