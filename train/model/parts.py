"""Parts and modes of a model of transformers; the format and the device of tensors, and whether they are close."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


def working_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Return the format of products with ``tensor``: that of autocast where it is on, else its own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return ``tensor``, which is the CPU's, on ``device``.

    From pinned memory the copy runs beside the computation, which a step ahead of it is still busy with.
    """
    is_cuda = torch.device(device).type == "cuda"
    return (tensor.pin_memory() if is_cuda else tensor).to(device, non_blocking=True)


def are_close(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Return whether two ways of computing the same gave the same, up to the number format's rounding."""
    is_exact = first.dtype == torch.float32 and not torch.is_autocast_enabled(first.device.type)
    tolerance = 1e-4 if is_exact else 3e-2
    # A broken model gives NaN on both sides; the loss finds that, and names it.
    largest = float(first.float().nan_to_num(0.0).abs().max())
    return torch.allclose(first.float(), second.float(), rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def first_not_finite(named: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """Return the name of the first tensor with a NaN or an infinity in it, None where there is none.

    Of a sharded tensor each rank checks its own part.
    """
    for name, weight in named:
        tensor = weight.to_local() if hasattr(weight, "to_local") else weight
        # The sum is a cheap first test; as finite numbers may overflow in it, the elements decide.
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            return name
    return None
