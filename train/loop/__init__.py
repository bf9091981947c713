"""The training loop."""

from train.loop.checkpoint import Checkpoint, trained_tensors
from train.loop.events import METRICS, Events, Expected, clock
from train.loop.fit import Validation, backward, fit
from train.loop.state import EarlyStopping, FitResult
from train.loop.trainer import Placement, Trainer
