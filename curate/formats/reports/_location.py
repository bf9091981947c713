"""Where a finding is in the words of build servers, and what makes it the same finding in the next run."""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

from curate.base.console import one_line
from curate.base.record import Finding
from curate.formats.reports import Page


def from_here(file: str) -> str:
    """Return a file's path relative to the current folder, which a build server makes the root of the repository.

    A file outside of it keeps its absolute path.
    """
    path = os.path.normpath(file)
    return path.removeprefix(f"{Path.cwd()}/") if path.startswith("/") else path


def file_of(finding: Finding, page: Page) -> str:
    """Return the file to show a finding at: its own, else, where it concerns the whole set, the first of the set."""
    return from_here(finding.file or (page.files[0] if page.files else "."))


def column_of(finding: Finding, page: Page) -> int:
    """Return a finding's 1-based column counted in code points, 0 where the line is not at hand to count them in."""
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
    """Yield each finding with 32 hex digits that stay the same as long as it is about the same thing.

    They are a digest of code, file, record id and pointer, so that neither moving a record nor rewording a message
    makes a new finding. Where a record has no id its line stands for it, and where that is not at hand the message.
    What is still equal is numbered.
    """
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
