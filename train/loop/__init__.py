"""The training loop."""

from train.loop.checkpoint import Checkpoint, trained_tensors
from train.loop.events import METRICS, Expected, WriteEvent, clock, open_events
from train.loop.fit import EarlyStopping, FitResult, Validation, fit
from train.loop.trainer import Placement, Trainer
