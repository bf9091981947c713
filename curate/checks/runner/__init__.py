"""Lines to records or findings: strict parser, schema, record checks, dataset checks, in one streaming pass."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from curate.base.console import spelled
from curate.base.record import SPLITS, Finding, Problem, Record, Source, is_named
from curate.checks import Check, DatasetProblem, Sketches, show
from curate.checks.runner.baseline import (
    Baseline,
    Owed,
    baseline_path,
    fingerprint_of_file,
    fingerprint_of_group,
    fingerprint_of_set,
    read_baseline,
)
from curate.checks.runner.changes import NO_LINES, changed_lines
from curate.checks.runner.examine import Examiner, violations
from curate.checks.runner.parallel import default_jobs, examine_all, num_bytes
from curate.checks.runner.results import ExaminerSpec, SpanResult
from curate.checks.runner.select import UNREADABLE, CheckSelection, relative_name, select_checks
from curate.checks.runner.verdict import FindingTally, judge
from curate.formats.reports import Verdict
from curate.jsonl import FAULTS, Reader, crlf_finding, locate
from curate.schema import Shape
from curate.schema.settings import Settings

# Examines files, shared out to some number of workers, and gives the results in reading order.
Engine = Callable[[Examiner, Sequence[Path], int], Iterable[tuple[Path, SpanResult]]]
# Finds problems beyond lines and records; its argument says whether a record is in a test or validation split. It is
# called when all files were examined. A `DatasetProblem` says more about a finding than its file and line.
Further = Callable[[bool], Iterable[tuple[Finding, DatasetProblem | None]]]
_MOST_RAW = 32 * 1024 * 1024

_NOTHING = Problem("")


def _no_further(_has_exam: bool) -> Sequence[tuple[Finding, DatasetProblem | None]]:
    return ()


def open_baseline(settings: Settings, root: Path | None) -> Baseline | None:
    """Return the baseline that the settings name, None where they name none.

    It forgives old findings, but none of a line that cannot be read: that would be left out unseen. Raises CurateError:
    as `baseline_path` and `read_baseline`.
    """
    path = baseline_path(settings, root)
    return read_baseline(path, without=UNREADABLE) if path else None


def validate(
    files: Sequence[Path],
    spec: ExaminerSpec,
    *,
    jobs: int = 1,
    engine: Engine = examine_all,
    further: Further = _no_further,
    has_lengths: bool = False,
) -> Verdict:
    """Examine every line of ``files`` and the data set as a whole, and return what was found.

    What the baseline of ``spec`` holds is forgiven. With its changes only those lines are looked at; dataset checks
    still see every record, and report what touches such a line or no line at all. ``further`` finds what is not found
    line by line, such as that of a merge, and is held to the same rules; findings of length checks are among that if
    ``has_lengths``.

    Memory does not grow with the number of findings; at most the limit of ``spec`` are kept. The verdict depends
    neither on ``jobs``, the number of processes (0 for as many as pay), nor on the ``engine`` that has the files
    examined.

    Raises:
        CurateError: E902 for unknown checks in the settings; E904 when a file is missing or may not be read.
    """
    examiner = Examiner(spec)
    baseline, selection, across = spec.baseline, examiner.selection, Across(examiner, files)
    total = _examined(across, examiner, engine(examiner, files, jobs or default_jobs(files)))
    tally = total.tally
    across.finish(tally)
    for finding, problem in further(across.has_exam):
        across.add(tally, finding, problem)
    is_whole = spec.changes is None
    return replace(
        _summed(total, selection),
        findings=_with_columns(tally.worst(spelled(str(path)) for path in files), files, spec.root),
        num_mended=baseline.num_mended(selection.codes(has_lengths)) if baseline and is_whole else 0,
        num_changed=None if is_whole else total.num_lines - total.num_unchanged,
    )


def _summed(total: SpanResult, selection: CheckSelection) -> Verdict:
    """Return what was counted, held to the tolerances, without the findings themselves."""
    tally = total.tally
    return Verdict(
        findings=[],
        counts=tally.by_code(),
        num_records=total.num_records,
        num_lines=total.num_lines,
        num_errors=tally.of_severity("error"),
        num_warnings=tally.of_severity("warning"),
        num_infos=tally.of_severity("info"),
        num_suppressed=tally.num_suppressed,
        forgiven=dict(sorted(tally.forgiven.items())),
        **asdict(judge(tally, selection.tolerances, total.num_records)),
    )


def _examined(across: Across, examiner: Examiner, results: Iterable[tuple[Path, SpanResult]]) -> SpanResult:
    """Show the records of all spans to the dataset checks, and return what was found as if in one span."""
    total = SpanResult(FindingTally(examiner.limit), Sketches(""))
    for finding in examiner.shape.warnings:
        examiner.add_file_finding(total, finding, examiner.shape.path)
    crlf: dict[Path, tuple[int, int]] = {}
    for path, result in results:
        total.num_records += result.num_records
        total.num_lines += result.num_lines
        total.num_unchanged += result.num_unchanged
        if result.num_crlf:
            first, number = crlf.get(path, (result.first_crlf, 0))
            crlf[path] = first, number + result.num_crlf
        across.see(result)
        total.tally.join(result.tally)
        _settle(total.tally, examiner.baseline, result.owed)
    for path, (first, number) in crlf.items():
        examiner.add_file_finding(total, crlf_finding(spelled(str(path)), first, number), path)
    _settle(total.tally, examiner.baseline, total.owed)
    return total


def _settle(tally: FindingTally, baseline: Baseline | None, owed: Mapping[tuple[str, int], Owed]) -> None:
    """Forgive what the baseline holds, in reading order, and add what goes beyond it to the tally."""
    if baseline is None:
        return
    for (code, fingerprint), group in owed.items():
        num_old = baseline.settle(code, fingerprint, group.count)
        if num_old:
            tally.forgiven[code] += num_old
        num_new = group.count - num_old
        listed = group.findings[-num_new:] if num_new else []
        for finding in listed:
            tally.add(finding)
        if num_new > len(listed):
            tally.count(code, group.findings[-1].severity, num_new - len(listed))


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


def _with_columns(findings: list[Finding], files: Sequence[Path], root: Path | None) -> list[Finding]:
    """Give findings about the data set, which remember a line but not its bytes, the column of what they point at."""
    blank = [finding for finding in findings if finding.line and not finding.column and finding.pointer]
    raws = raw_lines(files, blank, root=root)
    columns = {id(f): locate(raws[f.file, f.line], f.pointer) for f in blank if (f.file, f.line) in raws}
    return [
        replace(finding, column=columns[id(finding)]) if id(finding) in columns else finding for finding in findings
    ]


def raw_lines(
    files: Sequence[Path], findings: Iterable[Finding], *, root: Path | None = None
) -> dict[tuple[str, int], bytes]:
    """Return the bytes of the lines that findings are about, by file and line number, reading each file once."""
    wanted: dict[str, set[int]] = {}
    for finding in findings:
        if finding.line:
            wanted.setdefault(finding.file, set()).add(finding.line)
    raws: dict[tuple[str, int], bytes] = {}
    # Of lines that are 16 MiB long not many fit in memory: those beyond `_MOST_RAW` bytes in all are left out.
    left = _MOST_RAW
    for path in files:
        numbers = sorted(wanted.get(spelled(str(path)), ()))
        reader = Reader(path, root=root)
        for item in reader.blocks() if numbers else ():
            if isinstance(item, Finding) or numbers[0] >= item.number + item.num_lines:
                continue
            for line in reader.lines_in(item):
                if not isinstance(line, Finding) and numbers and line[0] == numbers[0]:
                    number, _, raw, _ = line
                    numbers.pop(0)
                    if len(raw) <= left:
                        raws[reader.name, number] = raw
                        left -= len(raw)
            # What is no line that can be parsed is not among those that are read.
            numbers = numbers[bisect_left(numbers, item.number + item.num_lines) :]
            if not numbers:
                break
    return raws


class Across:
    """The dataset checks of one run, and what must be remembered of the records to judge what they say."""

    def __init__(self, examiner: Examiner, files: Sequence[Path]) -> None:
        spec, selection = examiner.spec, examiner.selection
        self._selection = selection
        self._running = [(c, c.on_dataset(spec.settings)) for c in selection.dataset_checks if c.on_dataset]
        self._baseline = spec.baseline
        self._names = {spelled(str(path)): relative_name(path, spec.root) for path in files}
        self._changes = None if spec.changes is None else {spelled(path): ls for path, ls in spec.changes.items()}
        # Whether a record says that it is in a test or validation split.
        self.has_exam = False
        self._excused: dict[tuple[str, int], frozenset[str]] = {}
        self._records = _RecordIndex() if spec.baseline or selection.is_by_category else None

    def see(self, result: SpanResult) -> None:
        """Show the records of a span to every check."""
        self._excused.update(result.excused)
        sketches = result.sketches
        if not sketches:
            return
        for _, running in self._running:
            show(running, sketches)
        self.has_exam = self.has_exam or not {*SPLITS[1:]}.isdisjoint(sketches.splits)
        if self._records is not None:
            self._records.add(sketches)

    def finish(self, tally: FindingTally) -> None:
        """Add what is wrong with the whole to ``tally``."""
        for check, running in self._running:
            for reported in running.finish():
                if self._is_counted(check, reported, tally):
                    continue
                problem = reported.problem
                # The line begins with its record, so only a place within it has to be looked up.
                column = 1 if reported.line and not problem.pointer else 0
                source = Source(reported.file, reported.line)
                finding = check.finding(problem, source, record=reported.record, column=column)
                self.add(tally, finding, reported)

    def _is_counted(self, check: Check, reported: DatasetProblem, tally: FindingTally) -> bool:
        """Count a problem if it is one of those, most of many, of which all is known without a finding of it."""
        if self._baseline or self._records or self._changes is not None or reported.category:
            return False
        rules = self._selection.rules(self._names.get(reported.file, ""), "")
        severity = rules.severities.get(check.code, check.severity)
        is_excused = (reported.file, reported.line) in self._excused
        if is_excused or check.code in rules.unwanted or not tally.is_full(severity):
            return False
        tally.count(check.code, severity)
        return True

    def add(self, tally: FindingTally, finding: Finding, reported: DatasetProblem | None = None) -> None:
        """Add a finding to ``tally`` as the rules of its record say, or of its category where it names no record.

        ``reported`` tells more about one of a dataset check.
        """
        reported = reported or DatasetProblem(_NOTHING, finding.file, finding.line)
        category, print_ = self._records.at(finding.file, finding.line) if self._records else ("", 0)
        name = self._names.get(finding.file, "")
        rules = self._selection.rules(name, category or reported.category)
        if finding.code in rules.unwanted or not self._is_touched(reported):
            return
        excused = self._excused.get((finding.file, finding.line), ())
        if finding.code not in FAULTS and is_named(finding.code, finding.name, excused):
            tally.num_suppressed += 1
            return
        if self._baseline:
            if reported.group:
                print_ = fingerprint_of_group(reported.group)
            elif not print_:
                print_ = fingerprint_of_file(name) if finding.file else fingerprint_of_set(reported.category)
            if self._baseline.settle(finding.code, print_, 1):
                tally.forgiven[finding.code] += 1
                return
        severity = rules.severities.get(finding.code, finding.severity)
        tally.add(finding if severity == finding.severity else replace(finding, severity=severity))

    def _is_touched(self, reported: DatasetProblem) -> bool:
        """Whether a finding has to do with a changed line; one about the whole set has to do with all of them."""
        if self._changes is None or not reported.line:
            return True
        locations = ((reported.file, reported.line), reported.other)
        return any(line in self._changes.get(file, NO_LINES) for file, line in locations)


@dataclass
class _File:
    """What is known of a file's records, by their index."""

    lines: array[int] = field(default_factory=lambda: array("I"))
    categories: array[int] = field(default_factory=lambda: array("I"))
    prints: array[int] = field(default_factory=lambda: array("Q"))


class _RecordIndex:
    """Category and fingerprint of each record by file and line, in 16 bytes a record; records come in reading order."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._numbers: dict[str, int] = {}
        self._categories: list[str] = []

    def add(self, sketches: Sketches) -> None:
        """Take note of the records of a span."""
        file = self._files.setdefault(sketches.file, _File())
        for category in dict.fromkeys(sketches.categories):
            self._numbers.setdefault(category, len(self._numbers))
        self._categories = list(self._numbers)
        file.lines.extend(sketches.lines)
        file.categories.extend(map(self._numbers.__getitem__, sketches.categories))
        file.prints.extend(sketches.prints)

    def at(self, file: str, line: int) -> tuple[str, int]:
        """Return category and fingerprint of the record there, "" and 0 where no record is."""
        known = self._files.get(file)
        index = bisect_left(known.lines, line) if known else 0
        if known is None or index == len(known.lines) or known.lines[index] != line:
            return "", 0
        return self._categories[known.categories[index]], known.prints[index] if known.prints else 0
