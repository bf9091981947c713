"""What a validation says: every finding counted, the worst ones kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from curate.record import Finding, Severity


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a validation.

    ``findings`` holds at most the limit asked for, errors before warnings before infos, in the order of files and
    lines; ``counts`` and the numbers count all of them, by code and by severity. ``num_suppressed`` counts what the
    records themselves asked to ignore.
    """

    findings: list[Finding]
    counts: dict[str, int]
    num_records: int
    num_lines: int
    num_errors: int
    num_warnings: int
    num_infos: int
    num_suppressed: int

    @property
    def num_findings(self) -> int:
        """All findings, shown or not."""
        return self.num_errors + self.num_warnings + self.num_infos


@dataclass
class Tally:
    """Counts findings and keeps the first ``limit`` of each severity, so that memory does not grow with faults."""

    limit: int
    counts: Counter[str] = field(default_factory=Counter)
    by_severity: Counter[str] = field(default_factory=Counter)
    kept: dict[str, list[Finding]] = field(default_factory=lambda: {"error": [], "warning": [], "info": []})
    num_suppressed: int = 0

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it while there is room."""
        self.count(finding.code, finding.severity)
        kept = self.kept[finding.severity]
        if len(kept) < self.limit:
            kept.append(finding)

    def count(self, code: str, severity: Severity, number: int = 1) -> None:
        """Count findings that need not be kept."""
        self.counts[code] += number
        self.by_severity[severity] += number

    def is_full(self, severity: Severity) -> bool:
        """Whether further findings of this severity are only counted."""
        return len(self.kept[severity]) >= self.limit

    def join(self, later: Tally) -> None:
        """Add what was found in lines that follow."""
        self.counts.update(later.counts)
        self.by_severity.update(later.by_severity)
        self.num_suppressed += later.num_suppressed
        for severity, findings in later.kept.items():
            kept = self.kept[severity]
            kept.extend(islice(findings, max(0, self.limit - len(kept))))

    def worst(self, files: Iterable[str]) -> list[Finding]:
        """Return at most ``limit`` findings, the worst severities first in line for a place, in reading order."""
        order = {file: index for index, file in enumerate(files)}
        chosen = [*self.kept["error"], *self.kept["warning"], *self.kept["info"]][: self.limit]
        return sorted(chosen, key=lambda f: (order.get(f.file, -1), f.line, f.column, f.code))
