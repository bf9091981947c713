"""Markdown for a step summary or a comment: the counts by rule, then the worst findings; all data in code spans."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curate.base.console import one_line
from curate.base.record import Finding
from curate.base.tables import counted
from curate.formats.reports import Page, Verdict, location_of, report, totals, worst_first

MOST_ROWS = 200
# GitHub drops a step summary of more than 1 MiB; several steps may share it.
MOST_BYTES = 512 * 1024
_RUNS = re.compile("`+")


@report("markdown")
def render(verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield the tables, and how many findings they leave out."""
    yield "curate validate"
    yield "---------------"
    yield ""
    yield f"{_summary(verdict)}."
    if not verdict.counts:
        return
    names = {finding.code: finding.name for finding in verdict.findings} | {r.code: r.name for r in page.rules.values()}
    yield ""
    yield "| findings | check | |"
    yield "|---:|---|---|"
    for code, number in sorted(verdict.counts.items(), key=lambda item: -item[1]):
        yield f"| {number:,} | {code} {names.get(code, '')} | {_tolerance(code, verdict)} |"
    rows = _rows(verdict)
    if rows:
        yield ""
        yield "| severity | check | where | what |"
        yield "|---|---|---|---|"
        yield from rows
    if len(rows) < verdict.num_findings:
        yield ""
        yield f"{verdict.num_findings - len(rows):,} more findings are counted above and not listed."


def _summary(verdict: Verdict) -> str:
    parts = [totals(verdict), f"{counted(verdict.num_records, 'valid record')} in {counted(verdict.num_lines, 'line')}"]
    if verdict.num_suppressed:
        parts.append(f"{verdict.num_suppressed:,} suppressed by the records themselves")
    if verdict.num_forgiven:
        parts.append(f"{verdict.num_forgiven:,} old ones in the baseline")
    return "; ".join(parts)


def _tolerance(code: str, verdict: Verdict) -> str:
    if code in verdict.exceeded:
        return f"fails: at most {verdict.exceeded[code]:,} are tolerated"
    return "tolerated" if code in verdict.tolerated else ""


def _rows(verdict: Verdict) -> list[str]:
    """Return the rows of the worst findings, as many as may be."""
    rows: list[str] = []
    left = MOST_BYTES
    for finding in worst_first(verdict.findings)[:MOST_ROWS]:
        row = _row(finding)
        left -= len(row.encode()) + 1
        if left < 0:
            break
        rows.append(row)
    return rows


def _row(finding: Finding) -> str:
    where = [_code(location_of(finding))]
    where += [f"record {_code(one_line(finding.record, 80))}"] if finding.record else []
    where += [f"at {_code(one_line(finding.pointer, 120))}"] if finding.pointer else []
    rule = f"{finding.code} {finding.name}"
    return f"| {finding.severity} | {rule} | {' '.join(where)} | {_code(one_line(finding.message, 300))} |"


def _code(text: str) -> str:
    """Return one line of text as a code span in a table, in which no markup, link, mention or HTML is read."""
    fence = "`" * (1 + max((len(run) for run in _RUNS.findall(text)), default=0))
    space = " " if text[:1] in ("`", " ") or text[-1:] in ("`", " ") else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|") if text else ""
