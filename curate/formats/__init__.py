"""The shelf of output formats: one file a format, found by its name; each turns a verdict into lines of text."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from curate.record import Finding, Json
from curate.say import harmless, spelled


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


@dataclass(frozen=True)
class Page:
    """What a format may show beside the verdict: some raw lines by file and number, and whether their values."""

    lines: Mapping[tuple[str, int], bytes] = field(default_factory=dict)
    show_values: bool = False


def object_of(finding: Finding) -> dict[str, Json]:
    """Return a finding as the object that `schemas/findings.schema.json` describes."""
    return asdict(finding) | {"file": spelled(finding.file)}


def format_names() -> list[str]:
    """Return the names of the formats."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def render(name: str, verdict: VerdictLike, page: Page) -> Iterator[str]:
    """Yield the lines of ``verdict`` in the format called ``name``.

    No line can be taken for an order to a build server, which are lines that begin with two colons or two hashes.
    """
    lines: Iterable[str] = importlib.import_module(f"{__name__}.{name}").render(verdict, page)
    for line in lines:
        yield harmless(line)
