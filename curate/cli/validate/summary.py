"""The few lines that say how a validation went."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from curate.base.tables import counted

if TYPE_CHECKING:
    from curate.checks.runner import Verdict


def statistics(verdict: Verdict) -> list[str]:
    """Return the number of findings by check, the most first."""
    from curate.cli.rule import catalogue

    rules = catalogue()
    return [
        f"{number:>11,}  {code} {rules[code].name}"
        for code, number in sorted(verdict.counts.items(), key=lambda item: -item[1])
    ]


def summary(verdict: Verdict) -> Iterator[str]:
    """Yield the counts on a line, and a line for each thing that makes the exit code differ from them."""
    parts = [
        counted(verdict.num_records, "record"),
        counted(verdict.num_errors, "error"),
        counted(verdict.num_warnings, "warning"),
        *([counted(verdict.num_infos, "info")] if verdict.num_infos else []),
        *([f"{verdict.num_suppressed:,} suppressed"] if verdict.num_suppressed else []),
    ]
    num_listed = len(verdict.findings)
    more = f" ({num_listed:,} shown of {verdict.num_findings:,})" if num_listed < verdict.num_findings else ""
    changed = f"{counted(verdict.num_changed, 'changed line')} of " if verdict.num_changed is not None else ""
    total = f"{verdict.num_lines:,}" if changed else counted(verdict.num_lines, "line")
    yield f"{', '.join(parts)} in {changed}{total}{more}"
    for code, number in verdict.tolerated.items():
        yield f"{code}: {number:,} within its tolerance"
    for code, allowed in verdict.exceeded.items():
        yield f"{code}: {verdict.counts[code]:,}, and its tolerance allows {allowed:,}"
    if verdict.num_forgiven:
        yield f"{counted(verdict.num_forgiven, 'old finding')} forgiven by the baseline"
    if verdict.num_mended:
        verb = "is" if verdict.num_mended == 1 else "are"
        gone = f"{counted(verdict.num_mended, 'finding')} of the baseline {verb} gone"
        yield f"{gone}: --update-baseline makes it smaller"
