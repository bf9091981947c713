"""Layers compiled for training: at hidden sizes of a thousand a step waits for memory, and fused it moves half of it.

Each layer is compiled for itself, so that one compilation serves all layers alike. A shape is compiled once, hence
training rounds its rows up to a few lengths (`train.model.batch.collate`), and everything else runs as it did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from train.model.compute.parts import inner_of

_MOST_SHAPES = 64
"""Shapes that a layer is compiled for; torch's own limit is 8, after which it runs the layer plainly for good."""


def compile_layers(model: Any, *, backend: str = "inductor") -> int:
    """Compile the layers of ``model`` in place, adapters included, and return how many they are.

    It takes effect inside `compiling` only. No name in the model's state changes.
    """
    inner = inner_of(model)
    # What transformers never puts on two devices is one layer.
    names = set(getattr(inner, "_no_split_modules", None) or ())
    layers = [module for module in inner.modules() if type(module).__name__ in names]
    for layer in layers:
        layer.compile(backend=backend, dynamic=False)
    # Of this process, until `compiling` says otherwise.
    torch.compiler.set_stance("force_eager")
    return len(layers)


@contextmanager
def compiling(is_on: bool) -> Iterator[None]:
    """Within, the layers of `compile_layers` run compiled; elsewhere, and with False, they run as written.

    Evaluation has a new shape with each batch, and would compile for most of its time.
    """
    import torch._dynamo.config as limits

    if not is_on:
        yield
        return
    before = limits.recompile_limit
    limits.recompile_limit = _MOST_SHAPES
    try:
        with torch.compiler.set_stance("default"):
            yield
    finally:
        limits.recompile_limit = before
