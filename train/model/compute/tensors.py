"""Tensors: the format that they are computed in, how they come to a device, whether two are close, or all finite."""

from __future__ import annotations

from collections.abc import Iterable

import torch


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
