"""One span of one file: each line through strict parser, schema and record checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from curate.base.record import Finding, Json, Line, Problem, Record, Severity, Source, is_named
from curate.checks import Check, Sketches
from curate.checks.runner.baseline import Owed, fingerprint_of_file, fingerprint_of_raw, fingerprint_of_value
from curate.checks.runner.changes import NO_LINES
from curate.checks.runner.names import Watched
from curate.checks.runner.results import ExaminerSpec, SpanResult
from curate.checks.runner.select import CheckRules, relative_name, select_checks
from curate.checks.runner.shortcuts import Prefilter
from curate.checks.runner.verdict import FindingTally
from curate.jsonl import Entry, RawLine, Reader, Span, fault_finding, locate
from curate.schema import LimitProblem, Shape
from curate.schema.settings import ADDED

# Bytes of record files from which their columns are kept on the disk.
BLOCKS_FROM = 8_000_000


class Examiner:
    """Examines spans, and single records, as one `ExaminerSpec` says.

    Raises:
        CurateError: E902 for unknown checks in the settings.
    """

    def __init__(self, spec: ExaminerSpec) -> None:
        self.spec = spec
        self.shape = spec.shape
        self.settings = spec.settings
        self.selection = select_checks(spec.settings)
        self.limit = spec.limit
        self.baseline = spec.baseline
        self._name = ""
        self._rules = self.selection.everywhere
        self._prefilters: dict[int, Prefilter] = {}
        self._needs_sketches = bool(self.selection.sketched_checks)

    def examine(self, path: Path, span: Span | None) -> SpanResult:
        """Examine the lines of a span, or of the whole file.

        Raises:
            CurateError: E904 when the file is missing or may not be read.
        """
        reader = Reader(path, span=span, root=self.spec.root)
        result = SpanResult(FindingTally(self.limit), Sketches(reader.name))
        self._enter(relative_name(path, self.spec.root))
        changes = self.spec.changes
        changed = None if changes is None else changes.get(str(path), NO_LINES)
        for line in reader.lines():
            if isinstance(line, Finding):
                if changed is None or (line.line in changed if line.code == "S116" else changed):
                    self._add_door(result, line, self._name, self._rules)
                continue
            is_changed = changed is None or line[0] in changed
            result.num_unchanged += not is_changed
            self._examine_line(reader, line, result, is_changed=is_changed)
        result.num_lines = reader.num_lines
        if changed is None or changed:
            result.num_crlf, result.first_crlf = reader.num_crlf, reader.first_crlf
        return result

    def _examine_line(self, reader: Reader, line: RawLine, result: SpanResult, *, is_changed: bool) -> None:
        value = reader.value(line)
        if isinstance(value, Finding):
            if is_changed:
                self._add_door(result, value, self._name, self._rules, line[2])
        elif not self.shape.is_valid(value):
            if is_changed:
                self._add_violations(result, reader, line, value)
        elif self.shape.view is None:
            result.num_records += 1
        else:
            record = self.shape.record(value, Source(reader.name, line[0]))
            if not self._sets_aside(record, line[2], result, is_changed=is_changed):
                self._examine_record(record, line[2], result, is_changed=is_changed)

    def add_record(
        self, result: SpanResult, record: Record, file: str, raw: bytes | None, *, is_changed: bool = True
    ) -> None:
        """Add to ``result`` a record and what is wrong with it; ``file`` names its file within the workspace.

        ``raw`` is its line, None where the line says something else than the record: then its findings have no column.
        Unless ``is_changed``, its own faults are not looked for. The sketches have to be sorted when all are added.
        """
        self._enter(file)
        self._examine_record(record, raw, result, is_changed=is_changed)

    def findings_of(self, record: Record) -> list[Finding]:
        """Return what is wrong with one record, errors first and without columns; what a baseline holds is left out."""
        result = SpanResult(FindingTally(self.limit), Sketches(record.source.file))
        self.add_record(result, record, record.source.file, None)
        return [finding for findings in result.tally.retained.values() for finding in findings]

    def _enter(self, file: str) -> None:
        """Go by the rules of a file, which is named from the workspace on, for the records that follow."""
        self._name = file
        self._rules = self.selection.rules(file, "")

    def _sets_aside(self, record: Record, raw: bytes, result: SpanResult, *, is_changed: bool) -> bool:
        """Note a record as the spec asks, and return whether it is for somebody else to examine."""
        watched = self.spec.watched
        if watched is None:
            return False
        if record.id in watched.ids:
            result.watched.append(Watched(record, raw, is_changed))
            return True
        if watched.can_displace(record.id):
            result.displacing.append((record.source.line, record.id))
        return False

    def _examine_record(self, record: Record, raw: bytes | None, result: SpanResult, *, is_changed: bool) -> None:
        result.num_records += 1
        excused = self.shape.ignored(record.data)
        if is_changed:
            self._check(record, raw, result, excused)
        if self._needs_sketches:
            result.sketches.add(record)
            if self.baseline:
                result.sketches.prints.append(fingerprint_of_value(record.data))
            if excused:
                result.excused[record.source.file, record.source.line] = excused

    def _check(self, record: Record, raw: bytes | None, result: SpanResult, excused: frozenset[str]) -> None:
        """Add what is wrong with a record itself."""
        rules = self.selection.rules(self._name, record.category) if self.selection.is_by_category else self._rules
        for check in self._prefilter(rules).checks(record.data):
            assert check.on_record is not None
            for problem in check.on_record(record, self.settings):
                if excused and is_named(check.code, check.name, excused):
                    result.tally.num_suppressed += 1
                else:
                    self._add(result, check, rules.severities[check.code], problem, record, raw)

    def _prefilter(self, rules: CheckRules) -> Prefilter:
        """Return the prefilter for the checks of ``rules``, which the selection keeps, so that their identity lasts."""
        prefilter = self._prefilters.get(id(rules))
        if prefilter is None:
            prefilter = self._prefilters[id(rules)] = Prefilter(rules.record_checks, self.settings)
        return prefilter

    def _add(
        self, result: SpanResult, check: Check, severity: Severity, problem: Problem, record: Record, raw: bytes | None
    ) -> None:
        is_counted_only = self.baseline is None and result.tally.is_full(severity)
        column = 0 if raw is None or is_counted_only else locate(raw, problem.pointer)
        finding = check.finding(problem, record.source, severity, record=record.id, column=column)
        if self.baseline is None:
            result.tally.add(finding)
        else:
            self._weigh(result, finding, fingerprint_of_value(record.data))

    def _weigh(self, result: SpanResult, finding: Finding, print_: int) -> None:
        """Add a finding, or let it wait where the baseline has one like it."""
        if self.baseline is None or not self.baseline.holds(finding.code, print_):
            result.tally.add(finding)
            return
        owed = result.owed.get((finding.code, print_))
        if owed is None:
            owed = result.owed[finding.code, print_] = Owed()
        owed.count += 1
        if self.baseline.is_update:
            return
        # All of them say the same of the same content: one is kept for each content, and more while there is room.
        if owed.findings and result.num_spare >= self.limit:
            owed.findings.pop()
        elif owed.findings:
            result.num_spare += 1
        owed.findings.append(finding)

    def add_file_finding(self, result: SpanResult, finding: Finding, path: Path) -> None:
        """Add a finding of the strict parser about a file as a whole, whichever span or process has seen it."""
        name = relative_name(path, self.spec.root)
        self._add_door(result, finding, name, self.selection.rules(name, ""))

    def _add_door(
        self, result: SpanResult, finding: Finding, name: str, rules: CheckRules, raw: bytes | None = None
    ) -> None:
        """Add a finding of the strict parser, unless it is an unwanted warning; ``raw`` is its line, if any."""
        # We make that file ourselves, and its records stand in the journal at first.
        is_ours = finding.code == "S121" and name == ADDED
        if is_ours or finding.code in rules.unwanted:
            return
        severity = rules.severities[finding.code]
        finding = finding if severity == finding.severity else replace(finding, severity=severity)
        if self.baseline is None:
            result.tally.add(finding)
        else:
            self._weigh(result, finding, fingerprint_of_file(name) if raw is None else fingerprint_of_raw(raw))

    def _add_violations(self, result: SpanResult, reader: Reader, line: RawLine, value: dict[str, Json]) -> None:
        """Add a finding for each rule of the schema that a line breaks."""
        number, offset, raw, _ = line
        entry = Entry(Line(Source(reader.name, number), raw, offset), value)
        tally = result.tally
        print_ = 0 if self.baseline is None else fingerprint_of_value(value)
        for finding in violations(self.shape, entry, show_values=self.spec.show_values, with_column=False):
            # One line can break the schema more often than findings are retained; what is only counted needs no column.
            is_counted_only = self.baseline is None and tally.is_full(finding.severity)
            placed = finding if is_counted_only else replace(finding, column=locate(raw, finding.pointer))
            self._weigh(result, placed, print_)


def violations(shape: Shape, entry: Entry, *, show_values: bool = False, with_column: bool = True) -> Iterator[Finding]:
    """Yield one finding for each rule of the schema that a line breaks."""
    # A line that is not valid and breaks no rule that has a name still gets one.
    line, source = entry.line, entry.line.source
    record = id_of(shape, entry.value)
    for problem in shape.problems(entry.value, show_values=show_values) or [Problem("is not valid")]:
        code = "S128" if isinstance(problem, LimitProblem) else "S102"
        column = locate(line.raw, problem.pointer) if with_column else 0
        yield fault_finding(
            code, problem.message, source.file, source.line, column, record=record, pointer=problem.pointer
        )


def id_of(shape: Shape, value: Mapping[str, Json]) -> str:
    """Return the id of a line that need not be valid, "" where it has none that can be read."""
    own = shape.view.get(value, "id") if shape.view else value.get("id")
    return own if isinstance(own, str) else str(own) if isinstance(own, int) and not isinstance(own, bool) else ""
