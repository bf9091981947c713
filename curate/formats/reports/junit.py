"""JUnit's XML, as Jenkins and GitLab read it: a suite a file, a case a rule, and a passing case where all is well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as Xml

from curate.base.console import one_line
from curate.base.record import Finding
from curate.formats.reports import Page, Verdict, from_here, message_of, report

_WHOLE = "all files"


@report("junit")
def render(verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield the document; what fails in it is what makes the validation fail, warnings are told in cases that pass."""
    by_file: dict[str, dict[str, list[Finding]]] = {file: {} for file in ("", *page.files)}
    for finding in verdict.findings:
        by_file.setdefault(finding.file, {}).setdefault(finding.code, []).append(finding)
    suites = [_suite(file, cases, verdict) for file, cases in by_file.items()]
    totals = {key: str(sum(int(suite.get(key, 0)) for suite in suites)) for key in ("tests", "failures", "errors")}
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield _lines(Xml.Element("testsuites", {"name": "curate validate"} | totals))[0].replace(" />", ">")
    for suite in suites:
        yield from _lines(suite)
    yield "</testsuites>"


def _suite(file: str, cases: dict[str, list[Finding]], verdict: Verdict) -> Xml.Element:
    name = one_line(from_here(file), 500) if file else _WHOLE
    elements = [_case(name, findings, verdict) for _, findings in sorted(cases.items())]
    if not file and len(verdict.findings) < verdict.num_findings:
        elements.append(_rest(verdict))
    if not elements:
        elements.append(_clean(name, verdict))
    count = {key: str(sum(e.find(tag) is not None for e in elements)) for key, tag in _KINDS.items()}
    suite = Xml.Element("testsuite", {"name": name, "tests": str(len(elements)), "errors": "0"} | count)
    suite.extend(elements)
    return suite


_KINDS = {"failures": "failure", "skipped": "skipped"}


def _case(name: str, findings: Sequence[Finding], verdict: Verdict) -> Xml.Element:
    first = findings[0]
    case = Xml.Element("testcase", {"classname": name, "name": f"{first.code} {first.name}"})
    text = "\n" + "".join(f"  {_line_of(finding)}\n" for finding in findings)
    failing = [finding for finding in findings if verdict.is_failing(finding)]
    if failing:
        more = f" (and {len(failing) - 1:,} more)" if len(failing) > 1 else ""
        message = one_line(failing[0].message, 300) + more
        Xml.SubElement(case, "failure", {"type": first.code, "message": message}).text = text
    else:
        Xml.SubElement(case, "system-out").text = text
    return case


def _rest(verdict: Verdict) -> Xml.Element:
    """Return a case for the findings that are counted only; no suite may look better than its file is."""
    number = verdict.num_findings - len(verdict.findings)
    case = Xml.Element("testcase", {"classname": _WHOLE, "name": "findings that are not listed"})
    message = f"{number:,} more findings, which --limit leaves out"
    kind = {"type": "limit", "message": message}
    if _is_partial(verdict):
        Xml.SubElement(case, "failure", kind)
    else:
        Xml.SubElement(case, "system-out").text = message
    return case


def _clean(name: str, verdict: Verdict) -> Xml.Element:
    case = Xml.Element("testcase", {"classname": name, "name": "all checks"})
    if _is_partial(verdict):
        Xml.SubElement(case, "skipped", {"message": "not all findings are listed, so this file may have some"})
    return case


def _is_partial(verdict: Verdict) -> bool:
    """Whether some of the findings that make the validation fail were not kept."""
    return sum(map(verdict.is_failing, verdict.findings)) < verdict.num_failing


def _line_of(finding: Finding) -> str:
    column = f", byte {finding.column}" if finding.column else ""
    location = f"line {finding.line}{column}: " if finding.line else ""
    return f"{location}{finding.severity}: {message_of(finding)}"


def _lines(element: Xml.Element) -> list[str]:
    """Return an element as lines of XML in which no two hashes stand together, as in orders to build servers."""
    Xml.indent(element)
    return Xml.tostring(element, encoding="unicode").replace("##", "#&#35;").split("\n")
