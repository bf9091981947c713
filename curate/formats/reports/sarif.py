"""SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/), within what GitHub's code scanning accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from urllib.parse import quote

from curate.base.record import Finding, Json, Severity
from curate.formats.reports import (
    Page,
    Verdict,
    column_of,
    file_of,
    identified,
    items_of,
    message_of,
    report,
    worst_first,
)

# GitHub refuses more than 25,000 results a run and shows the top 5,000; which those are we choose ourselves.
MOST_RESULTS = 5000
NUM_SOURCES = 1_000_000
_MOST_TEXT = 1000
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}
_FAMILIES = {
    "S": "shape",
    "Q": "quality",
    "D": "duplication",
    "L": "labels",
    "P": "splits",
    "R": "results",
    "T": "trainers",
    "X": "safety",
    "B": "balance",
}


@report("sarif", num_sources=NUM_SOURCES)
def render(verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield one log with one run, a rule and a result a line, in ASCII, the worst results first.

    Columns count code points, because our own count bytes; they are left out where the line is not at hand.
    """
    findings = worst_first(verdict.findings)[:MOST_RESULTS]
    rules = _rules(verdict, page)
    number_of = {rule["id"]: number for number, rule in enumerate(rules)}
    driver = {"name": "curate", "version": version("pairsmith")}
    yield f'{{"$schema": {json.dumps(_SCHEMA)}, "version": "2.1.0", "runs": [{{'
    yield f'"tool": {{"driver": {json.dumps(driver)[:-1]}, "rules": ['
    yield from items_of(rules)
    yield "]}},"
    root = {"SRCROOT": {"description": {"text": "The folder that the data was validated from."}}}
    yield f'"columnKind": "unicodeCodePoints", "originalUriBaseIds": {json.dumps(root)},'
    yield f'"invocations": {json.dumps([_invocation(verdict, len(findings))])},'
    yield '"results": ['
    yield from items_of(
        _result(finding, fingerprint, number_of[finding.code], page)
        for fingerprint, finding in identified(findings, page)
    )
    yield "]}]}"


def _rules(verdict: Verdict, page: Page) -> list[dict[str, Json]]:
    """Return the catalogue of the rules that were broken."""
    first: dict[str, Finding] = {}
    for finding in verdict.findings:
        first.setdefault(finding.code, finding)
    rules = []
    for code in sorted({*verdict.counts, *first}):
        known = page.rules.get(code) or first.get(code)
        rule: dict[str, Json] = {"id": code}
        if known:
            rule |= {
                "name": known.name,
                "shortDescription": {"text": known.name.replace("-", " ").capitalize()},
                "defaultConfiguration": {"level": _LEVELS[known.severity]},
            }
        if code in page.rules:
            text = page.rules[code].help
            more = f"Examples: `curate rule {code}`"
            rule["fullDescription"] = {"text": text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"}
            rule["help"] = {"text": f"{text}\n\n{more}", "markdown": f"{text}\n\n{more}"}
        if code[:1] in _FAMILIES:
            rule["properties"] = {"tags": ["data", _FAMILIES[code[0]]]}
        rules.append(rule)
    return rules


def _result(finding: Finding, fingerprint: str, rule: int, page: Page) -> dict[str, Json]:
    region = {"startLine": finding.line or 1}
    if column := column_of(finding, page):
        region["startColumn"] = column
    return {
        "ruleId": finding.code,
        "ruleIndex": rule,
        "level": _LEVELS[finding.severity],
        # `[text](target)` in a message is a link, and no message of ours has one.
        "message": {"text": message_of(finding, _MOST_TEXT - 300).replace("](", "] (")},
        "locations": [{"physicalLocation": {"artifactLocation": _artifact(finding, page), "region": region}}],
        # The first is the one that GitHub compares; it would else be a digest of the line.
        "partialFingerprints": {"primaryLocationLineHash": f"{fingerprint}:1", "curateFinding/v1": fingerprint},
    }


def _artifact(finding: Finding, page: Page) -> dict[str, Json]:
    """Return a percent-encoded URI, relative to the root of the repository unless the file is outside of it."""
    path = file_of(finding, page)
    uri = quote(path.encode("utf-8", "backslashreplace"))
    return {"uri": f"file://{uri}"} if path.startswith("/") else {"uri": uri, "uriBaseId": "SRCROOT"}


def _invocation(verdict: Verdict, num_results: int) -> dict[str, Json]:
    """Return how the run went, and what this log does not hold."""
    notes = []
    if num_results < verdict.num_findings:
        notes.append(
            f"{verdict.num_findings:,} findings, of which this log holds the {num_results:,} worst: at most as many as "
            f"--limit allows, and never more than the {MOST_RESULTS:,} that code scanning shows"
        )
    if verdict.num_suppressed:
        notes.append(f"{verdict.num_suppressed:,} findings that the records themselves ask to ignore are left out")
    if verdict.num_forgiven:
        notes.append(f"{verdict.num_forgiven:,} findings that the baseline holds are left out")
    invocation: dict[str, Json] = {"executionSuccessful": True}
    if notes:
        invocation["toolExecutionNotifications"] = [{"level": "note", "message": {"text": note}} for note in notes]
    counts = {"records": verdict.num_records, "lines": verdict.num_lines, "counts": dict(verdict.counts)}
    return invocation | {"properties": counts}
