"""The parts of a model of transformers: what is under its adapters, its body and its head; and its modes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def inner_of(model: Any) -> Any:
    """Return the model that adapters were added to, which has them in it; without adapters ``model`` itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def decoder_of(model: Any) -> Any:
    """Return the model without its head, adapters included; None where it has no such part."""
    inner = inner_of(model)
    decoder = getattr(inner, inner.base_model_prefix, None)
    return decoder if decoder is not inner else None


def head_weight(head: Any) -> Any:
    """Return the matrix [V, H] that ``head`` multiplies by, with the trained rows of new tokens where they are on."""
    rows = getattr(head, "token_adapter", None)
    if rows is None:
        return head.weight
    # peft's own ``weight`` has the trained rows also while the adapter is switched off.
    return rows.base_layer.weight if rows.disable_adapters else rows.get_merged_weights(rows.active_adapters)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Within, ``model`` is in evaluation mode and no gradient is made; after that it is in the mode that it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
