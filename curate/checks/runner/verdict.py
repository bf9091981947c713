"""What a validation says: every finding counted, the worst ones kept, and which of them make it fail."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from curate.base.record import Finding, Severity
from curate.checks.runner.baseline import Baseline
from curate.schema.settings import Tolerance


@dataclass
class FindingTally:
    """Counts findings and keeps the first ``limit`` of each severity, so that memory does not grow with faults."""

    limit: int
    counts: Counter[tuple[str, Severity]] = field(default_factory=Counter)
    """Findings by code and severity."""
    retained: dict[str, list[Finding]] = field(default_factory=lambda: {"error": [], "warning": [], "info": []})
    num_suppressed: int = 0
    forgiven: Counter[str] = field(default_factory=Counter)
    """What a baseline holds, by code."""
    held: dict[tuple[str, int], deque[Finding]] = field(default_factory=dict)
    """By code and fingerprint, findings that may be old: a baseline is settled in reading order, after all spans."""
    num_held: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, finding: Finding, baseline: Baseline | None = None, fingerprint: int = 0) -> None:
        """Count a finding, and keep it while there is room; one that ``baseline`` holds waits for `settle`."""
        if baseline is not None and baseline.holds(finding.code, fingerprint):
            held = self.held.setdefault((finding.code, fingerprint), deque(maxlen=max(1, self.limit)))
            held.append(finding)
            self.num_held[finding.code, fingerprint] += 1
            return
        self.counts[finding.code, finding.severity] += 1
        retained = self.retained[finding.severity]
        if len(retained) < self.limit:
            retained.append(finding)

    def settle(self, baseline: Baseline | None) -> None:
        """Forgive those that ``baseline`` holds, the first of each content before others, and add what goes beyond."""
        for (code, fingerprint), number in self.num_held.items() if baseline else ():
            assert baseline is not None
            if num_old := baseline.settle(code, fingerprint, number):
                self.forgiven[code] += num_old
            findings = self.held[code, fingerprint]
            num_listed = min(number - num_old, len(findings))
            for finding in list(findings)[len(findings) - num_listed :]:
                self.add(finding)
            if num_more := number - num_old - num_listed:
                self.count(code, findings[-1].severity, num_more)
        self.held.clear()
        self.num_held.clear()

    def count(self, code: str, severity: Severity, number: int = 1) -> None:
        """Count findings that need not be kept."""
        self.counts[code, severity] += number

    def join(self, later: FindingTally) -> None:
        """Add what was found in lines that follow."""
        self.counts.update(later.counts)
        self.num_suppressed += later.num_suppressed
        self.forgiven.update(later.forgiven)
        for severity, findings in later.retained.items():
            retained = self.retained[severity]
            retained.extend(islice(findings, max(0, self.limit - len(retained))))

    def worst(self) -> list[Finding]:
        """Return at most ``limit`` findings, the worst severities first in line for a place."""
        return [*self.retained["error"], *self.retained["warning"], *self.retained["info"]][: self.limit]

    def by_code(self) -> dict[str, int]:
        """Return the number of findings of each code, in the order of the codes."""
        codes: Counter[str] = Counter()
        for (code, _), number in self.counts.items():
            codes[code] += number
        return dict(sorted(codes.items()))

    def of_severity(self, severity: Severity) -> int:
        """Return the number of findings of one severity."""
        return sum(number for (_, level), number in self.counts.items() if level == severity)


def reading_order(findings: Iterable[Finding], files: Iterable[str]) -> list[Finding]:
    """Return ``findings`` in the order of ``files`` and lines; those that are ranked follow, in that of their ranks."""
    order = {file: number for number, file in enumerate(files)}
    return sorted(findings, key=lambda f: (f.rank, order.get(f.file, -1), f.line, f.column, f.code))


@dataclass(frozen=True)
class Judgement:
    """What tolerances make of the counts; the fields are those of `Verdict`."""

    tolerated: dict[str, int]
    exceeded: dict[str, int]
    num_errors_tolerated: int
    num_over_tolerance: int


def judge(tally: FindingTally, tolerances: Mapping[str, Tolerance], num_records: int) -> Judgement:
    """Hold the counts against the tolerance of each check; a rate is a share of the records, rounded down.

    Within its tolerance no finding of a check fails, whatever its severity. Above it all of them do, warnings too.
    """
    codes = tally.by_code()
    tolerated, exceeded = {}, {}
    num_errors = num_over = 0
    for code, tolerance in tolerances.items():
        number = codes.get(code, 0)
        rate = [int(tolerance.max_rate * num_records + 1e-9)] if tolerance.max_rate is not None else []
        allowed = min([*rate, *([tolerance.max_count] if tolerance.max_count is not None else [])])
        errors = tally.counts[code, "error"]
        if number > allowed:
            exceeded[code] = allowed
            num_over += number - errors
        elif number:
            tolerated[code] = number
            num_errors += errors
    return Judgement(tolerated, exceeded, num_errors, num_over)
