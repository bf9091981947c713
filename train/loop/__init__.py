"""The training loop."""

from train.loop.fit import FitResult, ValidationScore, fit, restore_weights, trained_tensors
from train.loop.trackers import TRACKERS, Trackers

__all__ = [
    "TRACKERS",
    "FitResult",
    "Trackers",
    "ValidationScore",
    "fit",
    "restore_weights",
    "trained_tensors",
]
