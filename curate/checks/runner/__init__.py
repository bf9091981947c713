"""Lines to records or findings: strict parser, schema, record checks, dataset checks, in one streaming pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

from curate.base.console import spelled
from curate.base.record import SPLITS, Finding, Problem, Record, Source, is_named
from curate.checks import DatasetProblem, Sketches
from curate.checks.runner.baseline import (
    Baseline,
    baseline_path,
    fingerprint_of_group,
    fingerprint_of_set,
    read_baseline,
)
from curate.checks.runner.changes import NO_LINES, changed_lines
from curate.checks.runner.examine import add_finding, violations
from curate.checks.runner.parallel import default_jobs, examine_all, num_bytes
from curate.checks.runner.results import CheckPlan, SpanResult
from curate.checks.runner.select import UNREADABLE, relative_name, select_checks
from curate.checks.runner.verdict import judge, reading_order
from curate.formats.reports import Verdict
from curate.jsonl import FAULTS, Reader, crlf_finding, locate
from curate.schema import Shape
from curate.schema.settings import Settings

# Examines files, shared out to some number of workers, and gives the results in reading order.
Engine = Callable[[CheckPlan, Sequence[Path], int], Iterable[tuple[Path, SpanResult]]]
# Finds problems beyond lines and records; its argument says whether a record is in a test or validation split. It is
# called when all files were examined. A `DatasetProblem` says more about a finding than its file and line.
Further = Callable[[bool], Iterable[tuple[Finding, DatasetProblem | None]]]
_MOST_RAW = 32 * 1024 * 1024

_NOTHING = Problem("")


def open_baseline(settings: Settings, root: Path | None) -> Baseline | None:
    """Return the baseline that the settings name, None where they name none.

    It forgives old findings, but none of a line that cannot be read: that would be left out unseen. Raises CurateError:
    as `baseline_path` and `read_baseline`.
    """
    path = baseline_path(settings, root)
    return read_baseline(path, without=UNREADABLE) if path else None


def validate(
    files: Sequence[Path],
    plan: CheckPlan,
    *,
    jobs: int = 1,
    engine: Engine = examine_all,
    further: Further = lambda has_exam: (),
    has_lengths: bool = False,
) -> Verdict:
    """Examine every line of ``files`` and the data set as a whole, and return what was found.

    What the baseline of ``plan`` holds is forgiven. With its changes only those lines are looked at; dataset checks
    still see every record, and report what touches such a line or no line at all. ``further`` finds what is not found
    line by line, such as that of a merge, and is held to the same rules; findings of length checks are among that if
    ``has_lengths``.

    Memory does not grow with the number of findings; at most the limit of ``plan`` are kept. The verdict depends
    neither on ``jobs``, the number of processes (0 for as many as pay), nor on the ``engine`` that has the files
    examined.

    Raises:
        CurateError: E902 for unknown checks in the settings; E904 when a file is missing or may not be read.
    """
    baseline, selection, is_whole = plan.baseline, plan.selection, plan.changes is None
    total = _examined(plan, files, engine(plan, files, jobs or default_jobs(files)))
    names = {spelled(str(path)): relative_name(path, plan.root) for path in files}
    changes = {spelled(path): lines for path, lines in (plan.changes or {}).items()}
    for finding, located in chain(_of_the_set(plan, total.sketches), further(_has_exam(total.sketches))):
        problem = located or DatasetProblem(_NOTHING, finding.file, finding.line)
        places = (finding.file, finding.line), problem.other
        if is_whole or not problem.line or any(line in changes.get(file, NO_LINES) for file, line in places):
            _add(plan, total, finding, problem, names.get(finding.file, ""))
    tally = total.tally
    tally.settle(baseline)
    return Verdict(
        findings=_with_columns(tally.worst(), files, plan.root),
        counts=tally.by_code(),
        num_records=total.num_records,
        num_lines=total.num_lines,
        num_errors=tally.of_severity("error"),
        num_warnings=tally.of_severity("warning"),
        num_infos=tally.of_severity("info"),
        num_suppressed=tally.num_suppressed,
        forgiven=dict(sorted(tally.forgiven.items())),
        num_mended=baseline.num_mended(selection.codes(has_lengths)) if baseline and is_whole else 0,
        num_changed=None if is_whole else total.num_lines - total.num_unchanged,
        **asdict(judge(tally, selection.tolerances, total.num_records)),
    )


def _examined(plan: CheckPlan, files: Sequence[Path], results: Iterable[tuple[Path, SpanResult]]) -> SpanResult:
    """Return what was found in all spans as if in one."""
    total = plan.result()
    for finding in plan.shape.warnings:
        add_finding(plan, total.tally, finding, relative_name(plan.shape.path, plan.root))
    crlf: dict[Path, tuple[int, int]] = {}
    for path, result in results:
        total.num_records += result.num_records
        total.num_lines += result.num_lines
        total.num_unchanged += result.num_unchanged
        if result.num_crlf:
            first, number = crlf.get(path, (result.first_crlf, 0))
            crlf[path] = first, number + result.num_crlf
        total.excused.update(result.excused)
        total.sketches.extend(result.sketches)
        result.tally.settle(plan.baseline)
        total.tally.join(result.tally)
    for path, (first, number) in crlf.items():
        finding = crlf_finding(spelled(str(path)), first, number)
        add_finding(plan, total.tally, finding, relative_name(path, plan.root))
    return total


def _has_exam(sketches: Sketches) -> bool:
    return not {*SPLITS[1:]}.isdisjoint(sketches.splits)


def _of_the_set(plan: CheckPlan, sketches: Sketches) -> Iterator[tuple[Finding, DatasetProblem]]:
    """Yield what dataset checks find."""
    for check in plan.selection.of("dataset"):
        for reported in check.run(sketches, plan.settings):
            problem, source = reported.problem, Source(reported.file, reported.line)
            # The line begins with its record, so only a place within it has to be looked up.
            column = int(reported.line > 0 and not problem.pointer)
            yield check.finding(problem, source, record=reported.record, column=column), reported


def _add(plan: CheckPlan, total: SpanResult, finding: Finding, reported: DatasetProblem, file: str) -> None:
    """Add a finding about records, as the rules of its record say, or of its category where it names no record."""
    excused = total.excused.get((finding.file, finding.line), ())
    row = total.sketches.row_of(finding.file, finding.line) if plan.baseline or plan.selection.is_by_category else -1
    category = total.sketches.categories[row] if row >= 0 else reported.category
    if finding.code not in FAULTS and is_named(finding.code, finding.name, excused):
        rules = plan.selection.rules(file, category)
        total.tally.num_suppressed += finding.code not in rules.unwanted
        return
    print_ = total.sketches.prints[row] if row >= 0 else 0
    if reported.group:
        print_ = fingerprint_of_group(reported.group)
    elif not finding.file:
        print_ = fingerprint_of_set(reported.category)
    add_finding(plan, total.tally, finding, file, print_, category or reported.category)


def read_records(files: Sequence[Path], shape: Shape, *, root: Path | None = None) -> Iterator[Record | Finding]:
    """Yield the valid records of ``files`` in order, and a finding for whatever is not one; no check runs.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E905 when the schema has no ``x-record`` view.
    """
    # With ``root`` files are named relative to it, so that a record's source is the same on every machine.
    for path in files:
        is_inside = root is not None and path.is_relative_to(root)
        reader = Reader(path, name=str(path.relative_to(root)) if root and is_inside else None, root=root)
        for item in reader:
            if isinstance(item, Finding):
                yield item
            elif shape.is_valid(item.value):
                yield shape.record(item.value, item.line.source)
            else:
                yield from violations(shape, item)
        if reader.num_crlf:
            yield crlf_finding(reader.name, reader.first_crlf, reader.num_crlf)


def _with_columns(findings: Sequence[Finding], files: Sequence[Path], root: Path | None) -> list[Finding]:
    """Return ``findings`` in reading order, each with the column of what it points at."""
    blank = sorted((f for f in findings if f.line and not f.column and f.pointer), key=lambda f: f.line)
    columns = {
        id(finding): locate(raw, finding.pointer)
        for path in files
        for raw, finding in _lines_of(path, [f for f in blank if f.file == spelled(str(path))], root)
    }
    placed = [replace(f, column=columns[id(f)]) if id(f) in columns else f for f in findings]
    return reading_order(placed, (spelled(str(path)) for path in files))


def _lines_of(path: Path, findings: Sequence[Finding], root: Path | None) -> Iterator[tuple[bytes, Finding]]:
    """Yield the bytes of each line that ``findings`` of a file are about, which come in the order of their lines."""
    waiting = deque(findings)
    reader = Reader(path, root=root)
    for block in reader.blocks() if waiting else ():
        if isinstance(block, Finding) or waiting[0].line >= block.number + block.num_lines:
            continue
        for line in reader.lines_in(block):
            while waiting and not isinstance(line, Finding) and waiting[0].line <= line[0]:
                finding = waiting.popleft()
                if finding.line == line[0]:
                    yield line[2], finding
        # What is no line that can be parsed is not among those that are read.
        while waiting and waiting[0].line < block.number + block.num_lines:
            waiting.popleft()
        if not waiting:
            break


def raw_lines(
    files: Sequence[Path], findings: Collection[Finding], *, root: Path | None = None
) -> dict[tuple[str, int], bytes]:
    """Return the bytes of the lines that findings are about, by file and line number, reading each file once."""
    raws: dict[tuple[str, int], bytes] = {}
    # Of lines that are 16 MiB long not many fit in memory: those beyond `_MOST_RAW` bytes in all are left out.
    left = _MOST_RAW
    for path in files:
        wanted = {f.line: f for f in findings if f.line and f.file == spelled(str(path))}
        for raw, finding in _lines_of(path, [wanted[line] for line in sorted(wanted)], root):
            if len(raw) <= left:
                raws[finding.file, finding.line] = raw
                left -= len(raw)
    return raws
