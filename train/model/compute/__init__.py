"""How a model computes fast: packed attention, a cache of keys, fused norms, compiled layers, reuse of memory."""

from __future__ import annotations

from typing import Any

from train.model.compute.attention import Packed, pack, packing
from train.model.compute.capabilities import Capabilities, capabilities_of
from train.model.compute.checkpointing import checkpoint_activations, is_checkpointing
from train.model.compute.compiled import compile_layers, compiling
from train.model.compute.kv_cache import KVCache
from train.model.compute.memory import Meter, keep_freed_memory, memory_limit
from train.model.compute.norms import fuse_norms
from train.model.compute.parts import decoder_of, evaluating, head_weight, inner_of
from train.model.compute.tensors import are_close, first_not_finite, to_device, working_dtype

__all__ = [
    "Capabilities",
    "KVCache",
    "Meter",
    "Packed",
    "are_close",
    "capabilities_of",
    "checkpoint_activations",
    "compile_layers",
    "compiling",
    "decoder_of",
    "evaluating",
    "first_not_finite",
    "fuse_norms",
    "head_weight",
    "inner_of",
    "is_checkpointing",
    "keep_freed_memory",
    "memory_limit",
    "optimize_for_device",
    "pack",
    "packing",
    "to_device",
    "working_dtype",
]


def optimize_for_device(model: Any) -> Any:
    """Return ``model``, made fast for its device; call it before adapters are added."""
    if next(model.parameters()).device.type == "cpu":
        keep_freed_memory()
        fuse_norms(model)
    capabilities_of(model)
    return model
