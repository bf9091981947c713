"""Activation checkpointing: each layer keeps its input only, and computes the rest again when its gradient is due.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost" (arXiv:1604.06174).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from train.model.compute.attention import packed_now, packing
from train.model.compute.parts import inner_of


def checkpoint_activations(model: Any) -> None:
    """Turn it on for a model of transformers, with adapters or without; the gradients stay the same.

    Not reentrant, so that it needs no gradient of the inputs, of which frozen embeddings have none.
    """
    arguments = {"use_reentrant": False, "context_fn": _contexts}
    inner = inner_of(model)
    # Transformers 5 renamed it and warns of the old name.
    enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
    enable(arguments)


def is_checkpointing(model: Any) -> bool:
    """True for a model whose layers compute their activations again."""
    inner = inner_of(model)
    # Transformers 5 renamed it, too.
    names = ("is_activation_checkpointing", "is_gradient_checkpointing")
    return bool(getattr(inner, next(name for name in names if hasattr(type(inner), name))))


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    # A layer is computed again after the forward pass has left its `packing`, without which it would see all as one.
    return nullcontext(), packing(packed_now())
