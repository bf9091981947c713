"""One run from dataset to report; what `train run`, `train plan` and `train preview` share."""

from train.pipeline.run.execute import run_dataset
from train.pipeline.run.folder import newest_run, next_run
from train.pipeline.run.prepare import Prepared, open_renderer, prepare

__all__ = ["Prepared", "newest_run", "next_run", "open_renderer", "prepare", "run_dataset"]
