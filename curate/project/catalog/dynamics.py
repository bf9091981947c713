"""How the newest run learnt each record: read beside the catalogue when something asks, and again when it changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from curate.base.file_guard import inside
from curate.project.data import RUNS, ProjectData
from curate.project.feedback import FEEDBACK_FILE, RecordDynamics, latest_run, read_dynamics

DYNAMICS_COLUMNS = ("confidence", "variability")
"""Columns that come from a run; null for a record that it did not train on."""


class LearningDynamics:
    """The learning dynamics of the newest run that has a report."""

    def __init__(self, data: ProjectData) -> None:
        self._data = data
        self._of: tuple[Path, int, int] | None = None
        self.by_id: Mapping[str, RecordDynamics] = {}
        """What was read last, by record; empty until something asked, and where no run tells of it."""
        self.frame = _frame_of({})
        """The same as a frame; another one whenever it was read anew."""

    def renew(self, names: Collection[str] = DYNAMICS_COLUMNS) -> None:
        """Read the newest run's feedback if one of the columns ``names`` needs it and it is not what was read last.

        Raises:
            CurateError: E918 when the feedback cannot be read, E914 when the runs lie outside of the workspace.
        """
        if set(DYNAMICS_COLUMNS).isdisjoint(names):
            return
        root = self._data.root
        run = latest_run(inside(root, root / RUNS))
        path = run / FEEDBACK_FILE if run else None
        stat = path.stat() if path and path.is_file() else None
        of = (path, stat.st_mtime_ns, stat.st_size) if path and stat else None
        if of != self._of:
            self.by_id = read_dynamics(path.parent) if path and of else {}
            self._of, self.frame = of, _frame_of(self.by_id)

    def columns(self, ids: pl.Series) -> list[pl.Series]:
        """Return the columns `DYNAMICS_COLUMNS` of the records ``ids``, in their order."""
        if self.frame.is_empty():
            return [pl.repeat(None, len(ids), dtype=pl.Float64, eager=True).alias(name) for name in DYNAMICS_COLUMNS]
        joined = ids.alias("id").to_frame().join(self.frame, on="id", how="left", maintain_order="left")
        return joined.select(DYNAMICS_COLUMNS).get_columns()


def _frame_of(dynamics: Mapping[str, RecordDynamics]) -> pl.DataFrame:
    schema = {"id": pl.String, **dict.fromkeys(DYNAMICS_COLUMNS, pl.Float64)}
    rows = [
        (name, record_dynamics.confidence, record_dynamics.variability) for name, record_dynamics in dynamics.items()
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")
