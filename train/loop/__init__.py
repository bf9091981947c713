"""The training loop."""

from train.loop.checkpoint import Checkpoints, restore_weights, trained_tensors
from train.loop.events import OnEvent
from train.loop.fit import Validation, fit
from train.loop.gradients import Placement
from train.loop.state import EarlyStopping, FitResult

__all__ = [
    "Checkpoints",
    "EarlyStopping",
    "FitResult",
    "OnEvent",
    "Placement",
    "Validation",
    "fit",
    "restore_weights",
    "trained_tensors",
]
