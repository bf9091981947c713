"""The registry of output formats: one file a format, found by its name; each turns a verdict into lines of text.

Below the registry stands what formats share: where a finding is in the words of build servers, and what makes it the
same finding in the next run.
"""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b

# Not the module itself: the format `json` of this package would take its name.
from json import dumps
from pathlib import Path
from typing import Protocol

from curate.base.console import harmless, one_line, spelled
from curate.base.record import Finding, Json, Severity
from curate.base.registry import Registry
from curate.base.tables import counted

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """The outcome of a validation.

    ``findings`` holds at most the limit asked for, errors before warnings before infos, in the order of files and
    lines; ``counts`` and the numbers count all of them, by code and by severity. ``num_suppressed`` counts what the
    records themselves asked to ignore, ``forgiven`` what the baseline held already; neither is among the others.
    What decides over an exit code, or over an export, is ``num_failing`` and nothing else.
    """

    findings: list[Finding]
    counts: dict[str, int]
    num_records: int
    num_lines: int
    num_errors: int
    num_warnings: int
    num_infos: int
    num_suppressed: int
    tolerated: dict[str, int] = field(default_factory=dict)
    """Findings by code that are within the tolerance of their check: counted above, and no failure."""
    exceeded: dict[str, int] = field(default_factory=dict)
    """By code, the most findings that the tolerance of a check allows, where there are more."""
    num_errors_tolerated: int = 0
    """Errors among ``tolerated``."""
    num_over_tolerance: int = 0
    """Warnings and infos that fail, because there are more of their code than its tolerance allows."""
    forgiven: dict[str, int] = field(default_factory=dict)
    """Old findings, which the baseline holds, by code."""
    num_mended: int = 0
    """Findings that the baseline holds and that are gone."""
    num_changed: int | None = None
    """Lines that were looked at because they had changed; None where all lines were."""

    def __repr__(self) -> str:
        outcome = "fails" if self.num_failing else "passes"
        return f"<{outcome}: {totals(self)} in {counted(self.num_records, 'record')}>"

    @property
    def num_findings(self) -> int:
        """All findings, shown or not."""
        return self.num_errors + self.num_warnings + self.num_infos

    @property
    def num_forgiven(self) -> int:
        """Old findings, which the baseline holds."""
        return sum(self.forgiven.values())

    @property
    def num_failing(self) -> int:
        """Findings that make a validation fail and an export stop: errors that no tolerance covers, and gates."""
        return self.num_errors - self.num_errors_tolerated + self.num_over_tolerance

    def is_failing(self, finding: Finding) -> bool:
        """Whether a finding of this verdict is one of ``num_failing``."""
        if finding.code in self.tolerated:
            return False
        return finding.severity == "error" or finding.code in self.exceeded

    def with_findings(self, more: Sequence[Finding]) -> Verdict:
        """Return this verdict with findings that were made elsewhere, such as of a merge or of a trainer's own rules.

        They come before the others, and no tolerance applies to them.
        """
        # They are counted as well, so that the totals and the listed findings agree.
        counts, severities = Counter(self.counts), Counter(finding.severity for finding in more)
        counts.update(finding.code for finding in more)
        return replace(
            self,
            findings=[*more, *self.findings],
            counts=dict(sorted(counts.items())),
            num_errors=self.num_errors + severities["error"],
            num_warnings=self.num_warnings + severities["warning"],
            num_infos=self.num_infos + severities["info"],
        )


class ReportRule(Protocol):
    """What a format needs to know of a check, or of a row of the table of faults."""

    @property
    def code(self) -> str:
        """Stable code."""

    @property
    def name(self) -> str:
        """The same in words."""

    @property
    def severity(self) -> Severity:
        """How bad it is by itself; settings may say otherwise."""

    @property
    def help(self) -> str:
        """What it is about."""


@dataclass(frozen=True)
class Page:
    """What a format may show beside the verdict."""

    lines: Mapping[tuple[str, int], bytes] = field(default_factory=dict)
    """Raw lines by file and number: those of the findings that `with_source` names, as far as they are at hand."""
    show_values: bool = False
    """Whether values of the data may be shown."""
    files: Sequence[str] = ()
    """All files that were validated, spelled as in findings."""
    rules: Mapping[str, ReportRule] = field(default_factory=dict)
    """The catalogue of rules by code."""
    hide: Callable[[str], str] = str
    """Hides the sensitive values of a text, where values may not be shown."""


def object_of(finding: Finding) -> dict[str, Json]:
    """Return a finding as the object that `schemas/findings.schema.json` describes."""
    values = asdict(finding) | {"file": spelled(finding.file)}
    if not finding.rank:
        del values["rank"]
    return values


Render = Callable[[Verdict, Page], Iterable[str]]


@dataclass(frozen=True, slots=True)
class ReportFormat:
    """One format: what yields its lines, and how many findings it shows the raw lines of."""

    render: Render
    num_sources: int = 0


_registry: Registry[ReportFormat] = Registry("reports", __name__)


def report(name: str, *, num_sources: int = 0) -> Callable[[Render], Render]:
    """Register a function that yields the lines of a verdict."""
    # A file of ours has the name of its format, so that no other format is imported with it.
    return _registry.adding(name, lambda render: ReportFormat(render, num_sources))


def format_names() -> list[str]:
    """Return the names of our own formats."""
    return _registry.file_names()


def all_format_names() -> list[str]:
    """Return the names of all formats, also of those that plug-ins bring."""
    return list(_registry.all())


def with_source(name: str, findings: Sequence[Finding]) -> Sequence[Finding]:
    """Return the findings whose raw lines the format called ``name`` wants to have on its page."""
    return findings[: _registry.from_file(name).num_sources]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return errors, then warnings, then infos, each in the order given."""
    return sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))


def totals(verdict: Verdict) -> str:
    """Return the numbers of findings by severity in words."""
    numbers = {"error": verdict.num_errors, "warning": verdict.num_warnings, "info": verdict.num_infos}
    return ", ".join(counted(number, severity) for severity, number in numbers.items())


def render(name: str, verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield the lines of ``verdict`` in the format called ``name``."""
    # No line, nor a part of one, can be taken for an order to a build server, unless the format means it as one.
    for line in _registry.from_file(name).render(verdict, page):
        yield harmless(line)


def from_here(file: str) -> str:
    """Return a file's path relative to the current folder, which a build server makes the root of the repository.

    A file outside of it keeps its absolute path.
    """
    # Annotations go to files of the repository by their path in it.
    path = os.path.normpath(file)
    return path.removeprefix(f"{Path.cwd()}/") if path.startswith("/") else path


def file_of(finding: Finding, page: Page) -> str:
    """Return the file to show a finding at: its own, else, where it concerns the whole set, the first of the set."""
    return from_here(finding.file or (page.files[0] if page.files else "."))


def column_of(finding: Finding, page: Page) -> int:
    """Return a finding's 1-based column counted in code points, 0 where the line is not at hand to count them in."""
    # Our columns count bytes, and build servers count characters.
    raw = page.lines.get((finding.file, finding.line))
    return len(raw[: finding.column - 1].decode("utf-8", "replace")) + 1 if raw is not None and finding.column else 0


def subject_of(finding: Finding) -> str:
    """Return the record and the pointer that a finding is about, as far as it has them, on one line."""
    parts = [f"record {one_line(finding.record, 80)}"] if finding.record else []
    parts += [f"at {one_line(finding.pointer, 120)}"] if finding.pointer else []
    return ", ".join(parts)


def message_of(finding: Finding, limit: int = 500) -> str:
    """Return the message, cut to ``limit`` characters, and what it is about, on one line."""
    subject = subject_of(finding)
    return one_line(finding.message, limit) + (f" ({subject})" if subject else "")


def identified(findings: Iterable[Finding], page: Page) -> Iterator[tuple[str, Finding]]:
    """Yield each finding with 32 hex digits that stay the same as long as it is about the same thing."""
    # They are a digest of code, file, record id and pointer, so that neither moving a record nor rewording a message
    # makes a new finding. Where a record has no id its line stands for it, and where that is not at hand the message.
    # What is still equal is numbered.
    occurrences: Counter[tuple[str, ...]] = Counter()
    for finding in findings:
        subject = finding.record and f"id {finding.record}"
        if not subject:
            raw = page.lines.get((finding.file, finding.line))
            subject = f"says {finding.message}" if raw is None else f"line {blake2b(raw.strip()).hexdigest()}"
        same = (finding.code, from_here(finding.file) if finding.file else "", subject, finding.pointer)
        parts = "\0".join([*same, *([str(occurrences[same])] if occurrences[same] else [])])
        occurrences[same] += 1
        yield blake2b(parts.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest(), finding


def location_of(finding: Finding) -> str:
    """Return where a finding is, as far as it has a place."""
    parts = [one_line(finding.file, 500) or "(all files)"]
    if finding.line:
        parts.append(str(finding.line))
        if finding.column:
            parts.append(str(finding.column))
    return ":".join(parts)


def items_of(values: Iterable[Json]) -> Iterator[str]:
    """Yield each value in ASCII on a line of its own, with a comma after all but the last."""
    last = ""
    for value in values:
        if last:
            yield f"{last},"
        last = dumps(value)
    if last:
        yield last
