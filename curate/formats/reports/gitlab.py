"""GitLab's Code Quality report: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.record import Finding, Json, Severity
from curate.formats.reports import Page, Verdict, file_of, identified, items_of, message_of, report

NUM_SOURCES = 1_000_000
_SEVERITIES: dict[Severity, str] = {"error": "critical", "warning": "minor", "info": "info"}


@report("gitlab", num_sources=NUM_SOURCES)
def render(verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield one JSON list, an object a finding and line.

    GitLab takes two findings of one fingerprint for one, so each has its own.
    """
    yield "["
    issues = identified(verdict.findings, page)
    yield from items_of(_issue(finding, fingerprint, page) for fingerprint, finding in issues)
    yield "]"


def _issue(finding: Finding, fingerprint: str, page: Page) -> dict[str, Json]:
    return {
        "description": f"{finding.code} {finding.name}: {message_of(finding)}",
        "check_name": finding.code,
        "fingerprint": fingerprint,
        "severity": _SEVERITIES[finding.severity],
        "location": {"path": file_of(finding, page), "lines": {"begin": finding.line or 1}},
    }
