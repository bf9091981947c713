"""How a model computes fast: packed attention, fused layers, and memory that is kept; the numbers stay the same."""

from __future__ import annotations

from typing import Any

from train.compute.attention import Packed, are_close, can_pack, pack, packing
from train.compute.checkpointing import checkpoint_activations, is_checkpointing
from train.compute.compiled import compile_layers, compiling
from train.compute.finite import first_not_finite
from train.compute.fused import fuse
from train.compute.memory import keep_few_kernels, keep_freed_memory
from train.compute.meter import Meter, memory_limit
from train.compute.past import KeyValues, can_continue
from train.compute.rows import reading_only
from train.compute.tensors import to_device, working_dtype
from train.compute.wrapped import evaluating, inner_of

__all__ = [
    "KeyValues",
    "Meter",
    "Packed",
    "are_close",
    "can_continue",
    "can_pack",
    "checkpoint_activations",
    "compile_layers",
    "compiling",
    "evaluating",
    "first_not_finite",
    "fuse",
    "inner_of",
    "is_checkpointing",
    "keep_freed_memory",
    "memory_limit",
    "pack",
    "packing",
    "quicken",
    "reading_only",
    "to_device",
    "working_dtype",
]


def quicken(model: Any) -> Any:
    """Return ``model``, made fast for where it stands; call it before adapters are added, and once is enough."""
    if next(model.parameters()).device.type == "cpu":
        keep_freed_memory()
        keep_few_kernels()
        fuse(model)
    can_pack(model)
    return model
