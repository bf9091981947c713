"""One span of one file: each line through strict parser, schema and record checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from curate.base.record import Finding, Json, Line, Problem, Record, Source, is_named
from curate.checks.runner.baseline import fingerprint_of_file, fingerprint_of_raw, fingerprint_of_value
from curate.checks.runner.changes import ALL_LINES, NO_LINES
from curate.checks.runner.results import CheckPlan, SpanResult
from curate.checks.runner.select import relative_name
from curate.checks.runner.verdict import FindingTally
from curate.jsonl import Entry, RawLine, Reader, Span, fault_finding, locate
from curate.schema import LimitProblem, Shape
from curate.schema.settings import ADDED

# Bytes of record files from which their columns are kept on the disk.
BLOCKS_FROM = 8_000_000


def examine(plan: CheckPlan, path: Path, span: Span | None = None) -> SpanResult:
    """Return what is wrong with the lines of a span, or of the whole file.

    Findings have no column where they have a pointer.

    Raises:
        CurateError: E904 when the file is missing or may not be read.
    """
    reader, result, file = Reader(path, span=span, root=plan.root), plan.result(), relative_name(path, plan.root)
    changed = ALL_LINES if plan.changes is None else plan.changes.get(str(path), NO_LINES)
    for line in reader.lines():
        if isinstance(line, Finding):
            if line.line in changed if line.code == "S116" else changed:
                add_finding(plan, result.tally, line, file)
            continue
        is_changed = line[0] in changed
        result.num_unchanged += not is_changed
        value = reader.value(line)
        if isinstance(value, Finding):
            if is_changed:
                add_finding(plan, result.tally, value, file, fingerprint_of_raw(line[2]))
        elif not plan.shape.is_valid(value):
            if is_changed:
                _add_violations(plan, result.tally, reader, line, value, file)
        elif plan.shape.view is None:
            result.num_records += 1
        else:
            record = plan.shape.record(value, Source(reader.name, line[0]))
            now = plan.decided.record(str(path), record)
            if now is not None:
                add_record(plan, result, now, file, is_changed=is_changed or now is not record)
    result.num_lines = reader.num_lines
    if changed:
        result.num_crlf, result.first_crlf = reader.num_crlf, reader.first_crlf
    return result


def add_record(plan: CheckPlan, result: SpanResult, record: Record, file: str, *, is_changed: bool = True) -> None:
    """Add to ``result`` a record and what is wrong with it; ``file`` names its file within the workspace.

    Unless ``is_changed``, its own faults are not looked for.
    """
    result.num_records += 1
    excused = plan.shape.ignored(record.data)
    rules = plan.selection.rules(file, record.category)
    fingerprint = fingerprint_of_value(record.data) if plan.baseline else 0
    for check in rules.prefilter.checks(record.data) if is_changed else ():
        for problem in check.run(record, plan.settings):
            if excused and is_named(check.code, check.name, excused):
                result.tally.num_suppressed += 1
                continue
            severity = rules.severities[check.code]
            finding = check.finding(problem, record.source, severity, record=record.id, column=int(not problem.pointer))
            result.tally.add(finding, plan.baseline, fingerprint)
    if plan.needs_sketches:
        result.sketches.add(record, fingerprint)
        if excused:
            result.excused[record.source.file, record.source.line] = excused


def findings_of(plan: CheckPlan, record: Record) -> list[Finding]:
    """Return what is wrong with one record, errors first and without columns; what a baseline holds is left out."""
    result = plan.result()
    add_record(plan, result, record, record.source.file)
    return [finding for findings in result.tally.retained.values() for finding in findings]


def add_finding(
    plan: CheckPlan, tally: FindingTally, finding: Finding, file: str, fingerprint: int = 0, category: str = ""
) -> None:
    """Add a finding as the rules for ``file`` and ``category`` have it, unless it is not wanted there.

    Without a ``fingerprint`` it is about the file as a whole.
    """
    rules = plan.selection.rules(file, category)
    # We make that file ourselves, and its records stand in the journal at first.
    if finding.code in rules.unwanted or (finding.code == "S121" and file == ADDED):
        return
    severity = rules.severities.get(finding.code, finding.severity)
    finding = finding if severity == finding.severity else replace(finding, severity=severity)
    if plan.baseline and not fingerprint:
        fingerprint = fingerprint_of_file(file)
    tally.add(finding, plan.baseline, fingerprint)


def _add_violations(
    plan: CheckPlan, tally: FindingTally, reader: Reader, line: RawLine, value: dict[str, Json], file: str
) -> None:
    """Add a finding for each rule of the schema that a line breaks."""
    number, offset, raw, _ = line
    entry = Entry(Line(Source(reader.name, number), raw, offset), value)
    fingerprint = fingerprint_of_value(value) if plan.baseline else 0
    for finding in violations(plan.shape, entry, show_values=plan.show_values, with_column=False):
        add_finding(plan, tally, finding, file, fingerprint)


def violations(shape: Shape, entry: Entry, *, show_values: bool = False, with_column: bool = True) -> Iterator[Finding]:
    """Yield one finding for each rule of the schema that a line breaks."""
    # A line that is not valid and breaks no rule that has a name still gets one.
    line, source = entry.line, entry.line.source
    record = id_of(shape, entry.value)
    for problem in shape.problems(entry.value, show_values=show_values) or [Problem("is not valid")]:
        code = "S128" if isinstance(problem, LimitProblem) else "S102"
        column = locate(line.raw, problem.pointer) if with_column else int(not problem.pointer)
        yield fault_finding(
            code, problem.message, source.file, source.line, column, record=record, pointer=problem.pointer
        )


def id_of(shape: Shape, value: Mapping[str, Json]) -> str:
    """Return the id of a line that need not be valid, "" where it has none that can be read."""
    own = shape.view.get(value, "id") if shape.view else value.get("id")
    return own if isinstance(own, str) else str(own) if isinstance(own, int) and not isinstance(own, bool) else ""
