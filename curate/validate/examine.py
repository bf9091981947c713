"""One span of one file: each line through door, schema and record checks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from curate.checks import Check, Sketch, sketch_of
from curate.door import Entry, RawLine, Reader, Span, door_finding, locate
from curate.record import Finding, Json, Problem, Record
from curate.settings import Settings
from curate.shape import LimitProblem, Shape
from curate.validate.select import Selection, is_named
from curate.validate.verdict import Tally

_MAX_MEMO_LINES = 4096
_MAX_MEMO_BYTES = 1024


@dataclass
class SpanResult:
    """What was found in one span."""

    tally: Tally
    sketches: list[Sketch] = field(default_factory=list)
    excused: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    """By file and line, the checks that a record asks to be excused from."""
    num_records: int = 0
    num_lines: int = 0
    num_crlf: int = 0
    first_crlf: int = 0


class Examiner:
    """Examines spans with one shape, one selection of checks and one set of settings."""

    def __init__(
        self,
        shape: Shape,
        settings: Settings,
        selection: Selection,
        *,
        limit: int,
        show_values: bool,
        dropped: Collection[str],
        root: Path | None,
    ) -> None:
        self.shape = shape
        self.settings = settings
        self.selection = selection
        self.limit = limit
        self.show_values = show_values
        self.dropped = frozenset(dropped)
        self.root = root
        self._needs_sketches = bool(selection.dataset_checks)
        # Once enough errors are kept, a line seen before is only counted; a broken export often repeats one line.
        self._memo: dict[bytes, dict[str, int]] = {}
        self._hits: dict[bytes, int] = {}

    def examine(self, path: Path, span: Span | None) -> SpanResult:
        """Examine the lines of a span, or of the whole file.

        Raises:
            CurateError: E904 when the file is missing or may not be read.
        """
        result = SpanResult(Tally(self.limit))
        reader = Reader(path, span=span, root=self.root)
        hits = self._hits
        for line in reader.lines():
            if type(line) is not tuple:
                assert isinstance(line, Finding)
                self.add_door(result.tally, line)
            elif line[2] in hits:
                hits[line[2]] += 1
            else:
                self._examine_line(reader, line, result)
        self._count_hits(result.tally)
        result.num_lines = reader.num_lines
        result.num_crlf, result.first_crlf = reader.num_crlf, reader.first_crlf
        return result

    def _examine_line(self, reader: Reader, line: RawLine, result: SpanResult) -> None:
        entry = reader.entry(line)
        if isinstance(entry, Finding):
            self.add_door(result.tally, entry)
        elif not self.shape.is_valid(entry.value):
            self._add_violations(result.tally, entry)
        elif self.shape.view is None:
            result.num_records += 1
        else:
            self._examine_record(entry, result)

    def _examine_record(self, entry: Entry, result: SpanResult) -> None:
        record = self.shape.record(entry.value, entry.line.source)
        if record.id in self.dropped:
            return
        result.num_records += 1
        excused = self.shape.ignored(entry.value)
        for check in self.selection.record_checks:
            assert check.on_record is not None
            for problem in check.on_record(record, self.settings):
                if excused and is_named(check.code, check.name, excused):
                    result.tally.num_suppressed += 1
                else:
                    self._add(result.tally, check, problem, record, entry.line.raw)
        if self._needs_sketches:
            result.sketches.append(sketch_of(record))
            if excused:
                result.excused[record.source.file, record.source.line] = excused

    def _add(self, tally: Tally, check: Check, problem: Problem, record: Record, raw: bytes) -> None:
        severity = self.selection.severities[check.code]
        column = 0 if tally.is_full(severity) else locate(raw, problem.pointer)
        tally.add(
            Finding(
                check.code,
                check.name,
                severity,
                problem.message,
                record.source.file,
                record.source.line,
                column,
                record.id,
                problem.pointer,
            )
        )

    def add_door(self, tally: Tally, finding: Finding) -> None:
        """Count a finding of the front door, unless it is a warning that is not wanted."""
        if finding.code not in self.selection.silenced:
            severity = self.selection.severities[finding.code]
            tally.add(finding if severity == finding.severity else replace(finding, severity=severity))

    def _add_violations(self, tally: Tally, entry: Entry) -> None:
        is_full = tally.is_full("error")
        counts: dict[str, int] = {}
        for finding in violations(self.shape, entry, show_values=self.show_values, with_column=not is_full):
            counts[finding.code] = counts.get(finding.code, 0) + 1
            tally.add(finding)
        raw = entry.line.raw
        if is_full and len(raw) <= _MAX_MEMO_BYTES and len(self._memo) < _MAX_MEMO_LINES:
            self._memo[raw] = counts
            self._hits[raw] = 0

    def _count_hits(self, tally: Tally) -> None:
        for raw, number in self._hits.items():
            for code, count in self._memo[raw].items():
                tally.count(code, "error", count * number)
        self._hits.clear()
        self._memo.clear()


def violations(shape: Shape, entry: Entry, *, show_values: bool = False, with_column: bool = True) -> Iterator[Finding]:
    """Yield one finding for each rule of the schema that a line breaks.

    A line that is not valid and breaks no rule that has a name still gets one.
    """
    line, source = entry.line, entry.line.source
    record = id_of(shape, entry.value)
    for problem in shape.problems(entry.value, show_values=show_values) or [Problem("is not valid")]:
        code = "S128" if isinstance(problem, LimitProblem) else "S102"
        column = locate(line.raw, problem.pointer) if with_column else 0
        yield door_finding(
            code, problem.message, source.file, source.line, column, record=record, pointer=problem.pointer
        )


def id_of(shape: Shape, value: Mapping[str, Json]) -> str:
    """Return the id of a line that need not be valid, "" where it has none that can be read."""
    own = shape.view.get(value, "id") if shape.view else value.get("id")
    return own if isinstance(own, str) else str(own) if isinstance(own, int) and not isinstance(own, bool) else ""
