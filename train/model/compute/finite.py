"""NaN and infinity in weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch


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
