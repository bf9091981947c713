"""The training loop."""

from train.loop.fit import fit, restore_weights, trained_tensors
from train.loop.guard import Guard
from train.loop.results import FitResult

__all__ = [
    "FitResult",
    "Guard",
    "fit",
    "restore_weights",
    "trained_tensors",
]
