"""One line a finding, as editors and grep like it: ``file:line:column: severity code name: message``."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.console import one_line
from curate.base.record import Finding
from curate.formats.reports import Page, VerdictLike


def render(verdict: VerdictLike, page: Page) -> Iterator[str]:
    """Yield one line a finding."""
    for finding in verdict.findings:
        record = f" [{one_line(finding.record, 80)}]" if finding.record else ""
        rule = f"{finding.severity} {finding.code} {finding.name}"
        yield f"{location_of(finding)}: {rule}: {one_line(finding.message, 500)}{record}"


def location_of(finding: Finding) -> str:
    """Return where a finding is, as far as it has a place."""
    parts = [one_line(finding.file, 500) or "(all files)"]
    if finding.line:
        parts.append(str(finding.line))
        if finding.column:
            parts.append(str(finding.column))
    return ":".join(parts)
