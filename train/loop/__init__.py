"""The training loop."""

from train.loop.fit import FitResult, ValidationScore, fit, restore_weights, trained_tensors
from train.loop.guard import Guard

__all__ = [
    "FitResult",
    "Guard",
    "ValidationScore",
    "fit",
    "restore_weights",
    "trained_tensors",
]
