"""Lines to records or findings: front door, schema, record checks, dataset checks, in one streaming pass."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from curate.checks import Check, DatasetCheck
from curate.door import Reader, crlf_finding, locate
from curate.record import Finding, Record
from curate.say import spelled
from curate.settings import Settings
from curate.shape import Shape
from curate.validate.examine import Examiner, SpanResult, violations
from curate.validate.parallel import default_jobs, examine_all
from curate.validate.select import Selection, is_named, select_checks
from curate.validate.verdict import Tally, Verdict

__all__ = ["Verdict", "default_jobs", "raw_lines", "read_records", "select_checks", "validate"]

_MOST_RAW = 32 * 1024 * 1024


def validate(
    files: Sequence[Path],
    shape: Shape,
    settings: Settings,
    *,
    jobs: int = 1,
    limit: int = 1000,
    dropped: Collection[str] = (),
    root: Path | None = None,
    show_values: bool = False,
) -> Verdict:
    """Examine every line of ``files`` and the data set as a whole, and return what was found.

    ``dropped`` names records that were taken out by decision: they are not checked. ``root`` is the folder that links
    may not lead out of, by default that of each file. Memory does not grow with the number of findings; at most
    ``limit`` are kept. The verdict does not depend on ``jobs``, the number of processes.

    Raises:
        CurateError: E902 for unknown checks in the settings; E904 when a file is missing or may not be read.
    """
    selection = select_checks(settings.checks)
    examiner = Examiner(shape, settings, selection, limit=limit, show_values=show_values, dropped=dropped, root=root)
    tally = Tally(limit)
    for finding in shape.warnings:
        examiner.add_door(tally, finding)
    seers = [(check, check.on_dataset(settings)) for check in selection.dataset_checks if check.on_dataset]
    excused: dict[tuple[str, int], frozenset[str]] = {}
    crlf: dict[Path, tuple[int, int]] = {}
    num_records = num_lines = 0
    for path, result in examine_all(examiner, files, jobs):
        tally.join(result.tally)
        num_records += result.num_records
        num_lines += result.num_lines
        excused.update(result.excused)
        if result.num_crlf:
            first, number = crlf.get(path, (result.first_crlf, 0))
            crlf[path] = first, number + result.num_crlf
        _show(seers, result)
    for path, (first, number) in crlf.items():
        examiner.add_door(tally, crlf_finding(spelled(str(path)), first, number))
    _finish(seers, selection, excused, tally)
    return Verdict(
        findings=_with_columns(tally.worst(spelled(str(path)) for path in files), files, root),
        counts=dict(sorted(tally.counts.items())),
        num_records=num_records,
        num_lines=num_lines,
        num_errors=tally.by_severity["error"],
        num_warnings=tally.by_severity["warning"],
        num_infos=tally.by_severity["info"],
        num_suppressed=tally.num_suppressed,
    )


def read_records(files: Sequence[Path], shape: Shape, *, root: Path | None = None) -> Iterator[Record | Finding]:
    """Yield the valid records of ``files`` in order, and a finding for whatever is not one; no check runs.

    With ``root`` files are named relative to it, so that a record's source is the same on every machine.

    Raises:
        CurateError: E904 when a file is missing or may not be read; E905 when the schema has no ``x-record`` view.
    """
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


def _show(seers: list[tuple[Check, DatasetCheck]], result: SpanResult) -> None:
    for _, seer in seers:
        for sketch in result.sketches:
            seer.see(sketch)


def _finish(
    seers: list[tuple[Check, DatasetCheck]],
    selection: Selection,
    excused: dict[tuple[str, int], frozenset[str]],
    tally: Tally,
) -> None:
    for check, seer in seers:
        severity = selection.severities[check.code]
        for problem, file, line, record in seer.finish():
            if is_named(check.code, check.name, excused.get((file, line), ())):
                tally.num_suppressed += 1
            else:
                # The line begins with its record, so only a place within it has to be looked up.
                column = 1 if line and not problem.pointer else 0
                tally.add(
                    Finding(
                        check.code, check.name, severity, problem.message, file, line, column, record, problem.pointer
                    )
                )


def _with_columns(findings: list[Finding], files: Sequence[Path], root: Path | None) -> list[Finding]:
    """Give findings about the data set, which remember a line but not its bytes, the column of what they point at."""
    blank = [finding for finding in findings if finding.line and not finding.column and finding.pointer]
    raws = raw_lines(files, blank, root=root)
    found = {id(f): locate(raws[f.file, f.line], f.pointer) for f in blank if (f.file, f.line) in raws}
    return [replace(finding, column=found[id(finding)]) if id(finding) in found else finding for finding in findings]


def raw_lines(
    files: Sequence[Path], findings: Iterable[Finding], *, root: Path | None = None
) -> dict[tuple[str, int], bytes]:
    """Return the bytes of the lines that findings are about, by file and line number, reading each file once.

    Of lines that are 16 MiB long not many fit in memory: those beyond `_MOST_RAW` bytes in all are left out.
    """
    wanted: dict[str, set[int]] = {}
    for finding in findings:
        if finding.line:
            wanted.setdefault(finding.file, set()).add(finding.line)
    raws: dict[tuple[str, int], bytes] = {}
    left = _MOST_RAW
    for path in files:
        numbers = wanted.get(spelled(str(path)), set())
        last = max(numbers, default=0)
        reader = Reader(path, root=root)
        for line in reader.lines() if numbers else ():
            if not isinstance(line, Finding):
                number, _, raw, _ = line
                if number in numbers and len(raw) <= left:
                    raws[reader.name, number] = raw
                    left -= len(raw)
                if number >= last:
                    break
    return raws
