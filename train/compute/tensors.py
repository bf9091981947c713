"""In which format a tensor is computed with here and now, and how it comes to a device."""

from __future__ import annotations

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
