"""What an examiner goes by, and what it finds in one span of a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from curate.checks import Sketches
from curate.checks.runner.baseline import Baseline, Owed
from curate.checks.runner.changes import LineSet
from curate.checks.runner.names import Watched, WatchedIds
from curate.checks.runner.verdict import FindingTally
from curate.schema import Shape
from curate.schema.settings import Settings


@dataclass(frozen=True, slots=True)
class ExaminerSpec:
    """All that an examiner goes by. It can be pickled, and another process makes the same examiner of it.

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
    watched: WatchedIds | None = None
    """Records with these ids are not examined, but come with the results; see `Examiner.add_record`."""


@dataclass
class SpanResult:
    """What was found in one span."""

    tally: FindingTally
    sketches: Sketches
    owed: dict[tuple[str, int], Owed] = field(default_factory=dict)
    """By code and fingerprint, findings that may be old: the baseline is settled in reading order, after all spans."""
    excused: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    """By file and line, the checks that a record asks to be excused from."""
    num_spare: int = 0
    """Findings that wait for the baseline, beyond the first of each content."""
    num_records: int = 0
    num_lines: int = 0
    num_unchanged: int = 0
    num_crlf: int = 0
    first_crlf: int = 0
    watched: list[Watched] = field(default_factory=list)
    """The records with watched ids, in reading order, which are not among the others."""
    displacing: list[tuple[int, str]] = field(default_factory=list)
    """Line and id of the records that may take the name that one with a watched id would have got."""
