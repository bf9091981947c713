"""Where only some tokens of the last layer are read, its gated layer computes those and no others.

N tokens of all rows, H width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from train.compute.fused import is_gated


@contextmanager
def reading_only(decoder: Any, rows: torch.Tensor) -> Iterator[None]:
    """Within, hidden states that ``decoder`` returns are right at the flat places ``rows`` and unspecified elsewhere.

    Only without gradients, and only where the last layer ends in a gated layer; else nothing changes.
    """
    last = getattr(decoder, "layers", None)
    gated = getattr(last[-1], "mlp", None) if last else None
    if torch.is_grad_enabled() or gated is None or not is_gated(gated):
        yield
        return
    read: torch.Tensor = torch.unique(rows)
    shapes: list[torch.Size] = []

    def narrow(_module: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        shapes.append(given[0].shape)
        return (given[0].flatten(0, -2)[read],)

    def widen(_module: Any, _given: Any, made: torch.Tensor) -> torch.Tensor:
        shape = shapes.pop()
        whole = made.new_zeros(shape[:-1].numel(), made.shape[-1])
        whole[read] = made
        return whole.view(*shape[:-1], -1)

    hooks = [gated.register_forward_pre_hook(narrow), gated.register_forward_hook(widen)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
