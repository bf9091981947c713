"""For people: each finding with its place, the line it is in with a caret, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from curate.base.console import one_line
from curate.base.patterns import lazy_pattern
from curate.base.record import Finding
from curate.base.tables import width_of
from curate.formats.reports import Page, Verdict, location_of, report, subject_of

NUM_SOURCES = 20
_BEFORE, _AFTER = 48, 48
_STRING = lazy_pattern(r'("(?:[^"\\]|\\.)*")(\s*:)?|([^"]+)', re.DOTALL)
_WORDS = lazy_pattern(r"\b(true|false|null)\b")
_UNREADABLE = {"S101", "S103", "S109", "S110", "S111", "S113", "S122"}


@report("text", num_sources=NUM_SOURCES)
def render(verdict: Verdict, page: Page) -> Iterator[str]:
    """Yield each finding in a few lines, the first ones with the source, its values masked unless asked for."""
    for number, finding in enumerate(verdict.findings):
        rule = f"{finding.severity}[{finding.code} {finding.name}]"
        yield f"{location_of(finding)}: {rule}: {one_line(finding.message, 500)}"
        raw = page.lines.get((finding.file, finding.line))
        if raw is not None and number < NUM_SOURCES and finding.column:
            yield from _excerpt(finding, raw, page)
        if subject := subject_of(finding):
            yield f"  = {subject}"
        if finding.fix:
            yield f"  = help: {one_line(finding.fix, 300)}"


def _excerpt(finding: Finding, raw: bytes, page: Page) -> Iterator[str]:
    """Yield the line around the column and a caret under it."""
    start = max(0, finding.column - 1 - _BEFORE * 4)
    before = raw[start : finding.column - 1].decode("utf-8", "replace")
    after = raw[finding.column - 1 : finding.column - 1 + _AFTER * 4].decode("utf-8", "replace")
    if not page.show_values:
        whole = raw.decode("utf-8", "replace")
        is_read = finding.code not in _UNREADABLE and len(whole) <= 100_000
        cut = len(raw[: finding.column - 1].decode("utf-8", "replace"))
        whole = _masked(whole, page.hide) if is_read else _hidden(whole)
        before, after = whole[max(0, cut - _BEFORE * 4) : cut], whole[cut : cut + _AFTER * 4]
    left = one_line(before[-_BEFORE:], _BEFORE * 12)
    if start > 0 or len(before) > _BEFORE:
        left = "…" + left
    right = one_line(after[:_AFTER], _AFTER * 12) + ("…" if len(after) > _AFTER else "")
    margin = str(finding.line)
    yield f"  {margin} | {left}{right}"
    yield f"  {' ' * len(margin)} | {' ' * width_of(left)}^"


def _masked(text: str, hide: Callable[[str], str]) -> str:
    """Return JSON with dots for letters and digits of its values, and for what is sensitive in keys; as long as it."""

    def mask(token: re.Match[str]) -> str:
        string, colon, rest = token.groups()
        if string is None:
            return "".join(part if _WORDS.fullmatch(part) else _hidden(part) for part in _WORDS.split(rest))
        return hide(string) + colon if colon else f'"{"·" * (len(string) - 2)}"'

    return _STRING.sub(mask, text)


def _hidden(text: str) -> str:
    """Return ``text`` with every letter, digit and mark as a dot."""
    return "".join("·" if c.isalnum() or not c.isascii() else c for c in text)
