"""The training loop."""

from train.loop.fit import fit, restore_weights, trained_tensors
from train.loop.guard import Guard
from train.loop.results import FitResult, ValidationScore
from train.loop.trackers import TRACKERS, Trackers

__all__ = [
    "TRACKERS",
    "FitResult",
    "Guard",
    "Trackers",
    "ValidationScore",
    "fit",
    "restore_weights",
    "trained_tensors",
]
