"""Numbers that are none: NaN and infinity in weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def first_not_finite(named: Iterable[tuple[str, torch.Tensor]]) -> str | None:
    """Return the name of the first tensor with a NaN or an infinity in it, None where there is none.

    Of a tensor in shards this rank's part is looked at: whoever holds the other parts tells of them.
    """
    for name, weight in named:
        tensor = weight.to_local() if hasattr(weight, "to_local") else weight
        # A sum of finite numbers may overflow, so it only says where to look closely.
        if tensor.is_floating_point() and not torch.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            return name
    return None
