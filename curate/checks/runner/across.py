"""Checks of the data set as a whole: they see all records, and the rules of a record's file and category apply."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from curate.base.console import spelled
from curate.base.record import SPLITS, Finding, Problem, is_named
from curate.checks import DatasetProblem, Sketch
from curate.checks.runner import fingerprint
from curate.checks.runner.baseline import Baseline
from curate.checks.runner.changes import NO_LINES, LineSet
from curate.checks.runner.examine import SpanResult
from curate.checks.runner.globs import relative_name
from curate.checks.runner.select import CheckSelection
from curate.checks.runner.verdict import FindingTally
from curate.jsonl import FAULTS
from curate.schema.settings import Settings

_NOTHING = Problem("")


class Across:
    """The dataset checks of one run, and what must be remembered of the records to judge what they say."""

    def __init__(
        self,
        selection: CheckSelection,
        settings: Settings,
        files: Sequence[Path],
        root: Path | None,
        *,
        baseline: Baseline | None,
        changes: Mapping[str, LineSet] | None,
    ) -> None:
        self._selection = selection
        self._seers = [(check, check.on_dataset(settings)) for check in selection.dataset_checks if check.on_dataset]
        self._baseline = baseline
        self._names = {spelled(str(path)): relative_name(path, root) for path in files}
        self._changes = None if changes is None else {spelled(path): lines for path, lines in changes.items()}
        self.has_exam = False
        """Whether a record says that it is in a test or validation split."""
        self._excused: dict[tuple[str, int], frozenset[str]] = {}
        self._records = _RecordIndex() if baseline or selection.is_by_category else None

    def see(self, result: SpanResult) -> None:
        """Show the records of a span to every check."""
        self._excused.update(result.excused)
        for _, seer in self._seers:
            for sketch in result.sketches:
                seer.see(sketch)
        self.has_exam = self.has_exam or any(sketch.split in SPLITS[1:] for sketch in result.sketches)
        if self._records is not None:
            self._records.add(result.sketches, result.prints)

    def finish(self, tally: FindingTally) -> None:
        """Add what is wrong with the whole to ``tally``."""
        for check, seer in self._seers:
            for reported in seer.finish():
                problem = reported.problem
                # The line begins with its record, so only a place within it has to be looked up.
                column = 1 if reported.line and not problem.pointer else 0
                finding = Finding(
                    check.code,
                    check.name,
                    check.severity,
                    problem.message,
                    reported.file,
                    reported.line,
                    column,
                    reported.record,
                    problem.pointer,
                )
                self.add(tally, finding, reported)

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
                print_ = fingerprint.of_group(reported.group)
            elif not print_:
                print_ = fingerprint.of_file(name) if finding.file else fingerprint.of_set(reported.category)
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
    lines: array[int] = field(default_factory=lambda: array("I"))
    categories: array[int] = field(default_factory=lambda: array("I"))
    prints: array[int] = field(default_factory=lambda: array("Q"))


class _RecordIndex:
    """Category and fingerprint of each record by file and line, in 16 bytes a record; records come in reading order."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._numbers: dict[str, int] = {}
        self._categories: list[str] = []

    def add(self, sketches: Sequence[Sketch], prints: Sequence[int]) -> None:
        """Take note of the records of a span; ``prints`` is empty where no baseline asks for them."""
        for index, sketch in enumerate(sketches):
            file = self._files.get(sketch.file)
            if file is None:
                file = self._files[sketch.file] = _File()
            number = self._numbers.setdefault(sketch.category, len(self._numbers))
            if number == len(self._categories):
                self._categories.append(sketch.category)
            file.lines.append(sketch.line)
            file.categories.append(number)
            if prints:
                file.prints.append(prints[index])

    def at(self, file: str, line: int) -> tuple[str, int]:
        """Return category and fingerprint of the record there, "" and 0 where no record is."""
        known = self._files.get(file)
        index = bisect_left(known.lines, line) if known else 0
        if known is None or index == len(known.lines) or known.lines[index] != line:
            return "", 0
        return self._categories[known.categories[index]], known.prints[index] if known.prints else 0
