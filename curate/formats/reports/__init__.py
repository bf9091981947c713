"""The registry of output formats: one file a format, found by its name; each turns a verdict into lines of text."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from curate.base.console import harmless, spelled
from curate.base.record import Finding, Json, Severity
from curate.base.tables import counted

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class VerdictLike(Protocol):
    """What a format needs to know of a validation."""

    @property
    def findings(self) -> Sequence[Finding]:
        """The findings that are kept."""

    @property
    def counts(self) -> Mapping[str, int]:
        """All findings by code."""

    @property
    def num_records(self) -> int:
        """Valid records."""

    @property
    def num_lines(self) -> int:
        """Lines of all files."""

    @property
    def num_errors(self) -> int:
        """All errors, kept or not."""

    @property
    def num_warnings(self) -> int:
        """All warnings, kept or not."""

    @property
    def num_infos(self) -> int:
        """All infos, kept or not."""

    @property
    def num_suppressed(self) -> int:
        """Findings that records asked to ignore."""

    @property
    def num_failing(self) -> int:
        """Findings that make the validation fail, kept or not."""

    def is_failing(self, finding: Finding) -> bool:
        """Whether a finding is one of those."""

    @property
    def num_forgiven(self) -> int:
        """Old findings, which a baseline holds."""

    @property
    def num_findings(self) -> int:
        """All findings, kept or not."""

    @property
    def tolerated(self) -> Mapping[str, int]:
        """Findings by code that are no failure, because the tolerance of their check allows so many."""

    @property
    def exceeded(self) -> Mapping[str, int]:
        """What a tolerance allows, by the codes that have more and fail for it."""


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


def object_of(finding: Finding) -> dict[str, Json]:
    """Return a finding as the object that `schemas/findings.schema.json` describes."""
    return asdict(finding) | {"file": spelled(finding.file)}


def format_names() -> list[str]:
    """Return the names of the formats."""
    return [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]


def with_source(name: str, findings: Sequence[Finding]) -> Sequence[Finding]:
    """Return the findings whose raw lines the format called ``name`` wants to have on its page."""
    most: int = getattr(importlib.import_module(f"{__name__}.{name}"), "NUM_SOURCES", 0)
    return findings[:most]


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return errors, then warnings, then infos, each in the order given."""
    return sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity))


def totals(verdict: VerdictLike) -> str:
    """Return the numbers of findings by severity in words."""
    numbers = {"error": verdict.num_errors, "warning": verdict.num_warnings, "info": verdict.num_infos}
    return ", ".join(counted(number, severity) for severity, number in numbers.items())


def render(name: str, verdict: VerdictLike, page: Page) -> Iterator[str]:
    """Yield the lines of ``verdict`` in the format called ``name``.

    No line, nor a part of one, can be taken for an order to a build server, unless the format means it as one.
    """
    lines: Iterable[str] = importlib.import_module(f"{__name__}.{name}").render(verdict, page)
    for line in lines:
        yield harmless(line)
