"""Annotations of GitHub Actions: one workflow command a finding, the worst first, and the counts of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from curate.base.console import Order, one_line
from curate.base.record import Finding, Severity
from curate.formats.reports import (
    Page,
    ReportRule,
    Verdict,
    column_of,
    from_here,
    message_of,
    report,
    totals,
    worst_first,
)

NUM_SOURCES = 1000
_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "notice"}


@report("github", num_sources=NUM_SOURCES)
def render(verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield the commands.

    A runner shows the first ten annotations of each kind in a step, so of equally bad findings the first of each check
    comes first, and the counts come before the infos, which are notices too.
    """
    findings = worst_first(_first_of_each_check(verdict.findings))
    num_worse = sum(finding.severity != "info" for finding in findings)
    for finding in findings[:num_worse]:
        yield _command(finding, page)
    if verdict.num_findings:
        yield _counts(verdict, page)
    for finding in findings[num_worse:]:
        yield _command(finding, page)


def _first_of_each_check(findings: Iterable[Finding]) -> list[Finding]:
    codes: set[str] = set()
    firsts: list[Finding] = []
    others: list[Finding] = []
    for finding in findings:
        (others if finding.code in codes else firsts).append(finding)
        codes.add(finding.code)
    return firsts + others


def _command(finding: Finding, page: Page) -> Order:
    location: dict[str, str | int] = {"file": from_here(finding.file)} if finding.file else {}
    if finding.line:
        location["line"] = finding.line
        if column := column_of(finding, page):
            location["col"] = column
    title = {"title": f"{finding.code} {finding.name}"}
    more = f"\n{one_line(finding.fix, 300)}" if finding.fix else ""
    return Order(_COMMANDS[finding.severity], location | title, message_of(finding) + more)


def _counts(verdict: Verdict, page: Page) -> Order:
    known: list[ReportRule | Finding] = [*page.rules.values(), *verdict.findings]
    names = {rule.code: f" {rule.name}" for rule in known}
    lines = [
        f"{number:,} {code}{names.get(code, '')}"
        for code, number in sorted(verdict.counts.items(), key=lambda item: -item[1])
    ]
    total = totals(verdict)
    if len(verdict.findings) < verdict.num_findings:
        total += f"; {len(verdict.findings):,} of them shown"
    return Order("notice", {"title": "curate validate"}, "\n".join([total, *lines]))
