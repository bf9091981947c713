"""Which status findings give a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from curate.base.console import spelled
from curate.base.record import Finding, Severity, Source
from curate.project.catalog.columns import STATUSES, Status
from curate.project.data import ProjectData

RANKS: Mapping[Severity, int] = {"info": 0, "warning": 1, "error": 2}
"""Place of a severity in `STATUSES`: what is only to be known leaves a record ok."""


@dataclass
class FindingRanks:
    """The worst rank of the findings about each record: by its line, or by its id where no record file is named."""

    by_line: dict[tuple[str, int], int] = field(default_factory=dict)
    by_id: dict[str, int] = field(default_factory=dict)

    def status(self, source: Source, name: str) -> Status:
        """Return the status of the record called ``name`` that was read at ``source``."""
        return STATUSES[max(self.by_line.get((source.file, source.line), 0), self.by_id.get(name, 0))]


def rank_findings(findings: Iterable[Finding], data: ProjectData) -> FindingRanks:
    """Sort ``findings`` by what they are about; validation names files by their path, records by the workspace's."""
    names: dict[str, str] = {}
    for path in data.matching_files():
        name = spelled(str(path.relative_to(data.root)))
        names[name] = names[spelled(str(path))] = name
    ranks = FindingRanks()
    for finding in findings:
        rank = RANKS[finding.severity]
        if finding.file in names:
            location = names[finding.file], finding.line
            ranks.by_line[location] = max(rank, ranks.by_line.get(location, 0))
        elif finding.record:
            ranks.by_id[finding.record] = max(rank, ranks.by_id.get(finding.record, 0))
    return ranks


def severities(findings: Iterable[Finding]) -> dict[str, Severity]:
    """Return the worst severity of the findings about each record, by its id."""
    worst: dict[str, Severity] = {}
    for finding in findings:
        before = worst.get(finding.record)
        if finding.record and (before is None or RANKS[finding.severity] > RANKS[before]):
            worst[finding.record] = finding.severity
    return worst
