"""One line a finding, as editors and grep like it: ``file:line:column: severity code name: message``."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.console import one_line
from curate.formats.reports import Page, Verdict, location_of, report


@report("concise")
def render(verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield one line a finding."""
    for finding in verdict.findings:
        record = f" [{one_line(finding.record, 80)}]" if finding.record else ""
        rule = f"{finding.severity} {finding.code} {finding.name}"
        yield f"{location_of(finding)}: {rule}: {one_line(finding.message, 500)}{record}"
