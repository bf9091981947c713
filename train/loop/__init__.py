"""The training loop."""

from train.loop.checkpoint import Checkpoints, restore_weights, trained_tensors
from train.loop.events import METRICS, PLAIN_SECONDS, Events, Expected, clock
from train.loop.fit import Validation, fit
from train.loop.gradients import Placement
from train.loop.state import EarlyStopping, FitResult
