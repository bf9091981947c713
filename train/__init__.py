"""Fine-tune on a curated dataset and report per category whether it helped: the training half of pairsmith.

    import train

    finished = train.run("my-data/dataset/v1", settings={"max_steps": 100})
    finished.report.failing()                        # categories that got worse
    train.Report.load("runs/2026-11-28-a").headline  # the split whose verdicts count

`import train` loads none of the libraries behind these names, so that `train --help` answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.base.errors import TrainError
    from train.pipeline.execute import FinishedRun, run
    from train.recipe import Recipe, load_recipe
    from train.report import Report

__all__ = ["FinishedRun", "Recipe", "Report", "TrainError", "load_recipe", "run"]

_MODULES = {
    "FinishedRun": "train.pipeline.execute",
    "Recipe": "train.recipe",
    "Report": "train.report",
    "TrainError": "train.base.errors",
    "load_recipe": "train.recipe",
    "run": "train.pipeline.execute",
}


def __getattr__(name: str) -> Any:
    """Import the module that defines a public name when the name is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
