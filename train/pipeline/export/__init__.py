"""Exports of a run: folders that other programs load and serve, each checked to answer as the run did.

source = open_source(run)
export_run(source, "merged", Path("my-model"))
"""

from train.pipeline.export.export import TARGETS, export_run
from train.pipeline.export.source import open_source

__all__ = ["TARGETS", "export_run", "open_source"]
