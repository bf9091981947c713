"""Problems as a list to look through: groups that open and close, in two orders, and a filter."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from curate.base.record import Finding, Severity
from curate.sessions.problems.groups import ORDER, Group, Problems

By = Literal["code", "file"]


@dataclass(frozen=True, slots=True)
class Heading:
    """A group: ``count`` findings, of which ``num_listed`` can be listed and ``num_matching`` pass the filter."""

    key: str
    severity: Severity
    title: str
    pointer: str
    count: int
    num_listed: int
    num_matching: int
    message: str
    """The message of its first finding."""
    is_open: bool


@dataclass(frozen=True, slots=True)
class ProblemItem:
    """A finding of the group whose heading stands above it."""

    key: str
    finding: Finding


def listed(
    problems: Problems,
    *,
    by: By = "code",
    closed: Collection[str] = (),
    severities: Collection[Severity] = ORDER,
    text: str = "",
    visible: Callable[[Finding], Finding | None] = replace,
) -> list[Heading | ProblemItem]:
    """Return the headings, errors first, each followed by its findings unless ``closed`` has its key.

    ``text`` is what a finding must hold, whatever the case, in its code, name, message, file, record or pointer; of
    those that are counted and not kept nobody knows whether they do. ``visible`` gives a finding as whoever looks may
    see it, None where they may not: the filter must not tell what the list hides.
    """
    groups = [group for group in problems.groups if group.count > 0 and group.severity in severities]
    rows: list[Heading | ProblemItem] = []
    for part in _by_code(groups) if by == "code" else _by_file(groups):
        matching = [finding for finding in map(visible, part.findings) if finding and _holds(finding, text.casefold())]
        if text and not matching:
            continue
        message = matching[0].message if matching and by == "code" else ""
        is_open = part.key not in closed
        numbers = (part.count, len(part.findings), len(matching))
        rows.append(Heading(part.key, part.severity, part.title, part.pointer, *numbers, message, is_open))
        rows += [ProblemItem(part.key, finding) for finding in matching] if is_open else []
    return rows


@dataclass(slots=True)
class _Section:
    """What becomes a heading and the findings below it."""

    key: str
    severity: Severity
    title: str
    pointer: str
    count: int
    findings: list[Finding]


def _by_code(groups: list[Group]) -> Iterator[_Section]:
    for group in sorted(groups, key=lambda one: (ORDER.index(one.severity), one.code, -one.count, one.pointer)):
        key = f"{group.severity} {group.level} {group.code} {group.pointer}"
        yield _Section(key, group.severity, f"{group.code} {group.name}", group.pointer, group.count, group.examples)


def _by_file(groups: list[Group]) -> Iterator[_Section]:
    parts: dict[str, _Section] = {}
    for group in sorted(groups, key=lambda one: ORDER.index(one.severity)):
        for file, number in group.files.items():
            if number > 0:
                new = _Section(f"file {file}", group.severity, file or "all records", "", 0, [])
                parts.setdefault(file, new).count += number
        for finding in group.examples:
            parts[finding.file].findings.append(finding)
    for _, part in sorted(parts.items()):
        part.findings.sort(key=lambda finding: (finding.line, finding.column, finding.code))
        yield part


def _holds(finding: Finding, text: str) -> bool:
    if not text:
        return True
    parts = (finding.code, finding.name, finding.message, finding.file, finding.record, finding.pointer)
    return any(text in part.casefold() for part in parts)
