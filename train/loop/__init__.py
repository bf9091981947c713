"""The training loop."""

from train.loop.checkpoint import Checkpoint, trainable_tensors
from train.loop.events import METRICS, RunEstimate, WriteEvent, clock, open_events
from train.loop.fit import EarlyStopping, FitResult, Validation, fit
from train.loop.trainer import Placement, Trainer
