"""How the newest run learnt each record: read beside the catalogue when something asks, and again when it changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from curate.project.data import RUNS, ProjectData, inside
from curate.project.feedback import FEEDBACK_FILE, Learnt, latest_run, read_learnt

LEARNT = ("confidence", "variability")
"""Columns that come from a run; null for a record that it did not train on."""


class Learning:
    """The learning dynamics of the newest run that has a report."""

    def __init__(self, data: ProjectData) -> None:
        self._data = data
        self._of: tuple[Path, int, int] | None = None
        self.by_id: Mapping[str, Learnt] = {}
        """What was read last, by record; empty until something asked, and where no run tells of it."""
        self._frame = _frame_of({})

    def renew(self, names: Collection[str] = LEARNT) -> None:
        """Read the newest run's feedback if one of the columns ``names`` needs it and it is not what was read last.

        Raises:
            CurateError: E918 when the feedback cannot be read, E914 when the runs lie outside of the workspace.
        """
        if set(LEARNT).isdisjoint(names):
            return
        root = self._data.root
        run = latest_run(inside(root, root / RUNS))
        path = run / FEEDBACK_FILE if run else None
        stat = path.stat() if path and path.is_file() else None
        of = (path, stat.st_mtime_ns, stat.st_size) if path and stat else None
        if of != self._of:
            self.by_id = read_learnt(path.parent) if path and of else {}
            self._of, self._frame = of, _frame_of(self.by_id)

    def columns(self, ids: pl.Series) -> list[pl.Series]:
        """Return the columns `LEARNT` of the records ``ids``, in their order."""
        found = [self.by_id.get(name) for name in ids]
        return [pl.Series(name, [one and getattr(one, name) for one in found], pl.Float64) for name in LEARNT]

    def beside(self, ids: pl.Series) -> pl.LazyFrame:
        """Return the same for many records at once."""
        joined = ids.to_frame().lazy().join(self._frame.lazy(), on="id", how="left", maintain_order="left")
        return joined.select(LEARNT)


def _frame_of(learnt: Mapping[str, Learnt]) -> pl.DataFrame:
    schema = {"id": pl.String, **dict.fromkeys(LEARNT, pl.Float64)}
    rows = [(name, one.confidence, one.variability) for name, one in learnt.items()]
    return pl.DataFrame(rows, schema=schema, orient="row")
