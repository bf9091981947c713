"""By what lines are checked, and what is found in one span of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from curate.base.record import Record
from curate.checks import Sketches
from curate.checks.runner.baseline import Baseline
from curate.checks.runner.changes import LineSet
from curate.checks.runner.select import CheckSelection, select_checks
from curate.checks.runner.verdict import FindingTally
from curate.schema import Shape
from curate.schema.settings import Settings


@dataclass(frozen=True, slots=True)
class DecidedRecords:
    """What decisions make of records that stand in files. It can be pickled."""

    lines: Mapping[str, Mapping[int, Record | None]] = field(default_factory=dict)
    """By path and line, the record as decided; None where it is left out."""
    dropped: frozenset[str] = frozenset()
    """The ids of records that are left out of files which are not in ``lines``."""

    def record(self, path: str, record: Record) -> Record | None:
        """Return ``record``, read from a file, as decided; None where it is left out."""
        if path in self.lines:
            return self.lines[path].get(record.source.line, record)
        return None if record.id in self.dropped else record


@dataclass
class CheckPlan:
    """All that a run of checks goes by. It can be pickled.

    ``limit`` is how many findings of a severity are retained, ``root`` the folder that links may not lead out of, by
    default that of each file; the globs of ``settings`` are relative to it. What ``baseline`` holds is forgiven; it
    remembers what it has forgiven, so that it serves one run. With ``changes``, which has the lines to look at by path,
    all others are shown to dataset checks only.
    """

    shape: Shape
    settings: Settings
    limit: int = 1000
    root: Path | None = None
    show_values: bool = False
    baseline: Baseline | None = None
    changes: Mapping[str, LineSet] | None = None
    decided: DecidedRecords = field(default_factory=DecidedRecords)

    def __getstate__(self) -> dict[str, Any]:
        # Checks are functions of files that another process reads for itself.
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @cached_property
    def selection(self) -> CheckSelection:
        """The checks that run.

        Raises:
            CurateError: E902 for unknown checks in the settings.
        """
        return select_checks(self.settings)

    @cached_property
    def needs_sketches(self) -> bool:
        """Whether some check must know of every record."""
        return any(check.kind != "record" for check in self.selection.checks)

    def result(self) -> SpanResult:
        """Return the result of lines in which nothing was found yet."""
        return SpanResult(FindingTally(self.limit))


@dataclass
class SpanResult:
    """What was found in one span."""

    tally: FindingTally
    sketches: Sketches = field(default_factory=Sketches)
    excused: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    """By file and line, the checks that a record asks to be excused from."""
    num_records: int = 0
    num_lines: int = 0
    num_unchanged: int = 0
    num_crlf: int = 0
    first_crlf: int = 0
