"""The training loop."""

from train.loop.fit import FitResult, ValidationScore, fit, restore_weights, trained_tensors

__all__ = [
    "FitResult",
    "ValidationScore",
    "fit",
    "restore_weights",
    "trained_tensors",
]
