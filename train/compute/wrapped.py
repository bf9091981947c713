"""A model as it comes: under its adapters, and put into evaluation for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def inner_of(model: Any) -> Any:
    """Return the model that adapters were added to, which has them in it; without adapters ``model`` itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


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
