"""The line above the list: how many findings there are, how many fail, and how fresh they are."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from curate.base.tables import counted
from curate.sessions.problem_groups import Problems

_SHOWS = ("", "errors only", "no infos")


def summary(problems: Problems | None, *, num_stale: int, is_searching: bool, severities: int) -> Text:
    """Return the line; ``severities`` says which severities are listed: all, errors, or errors and warnings."""
    if problems is None:
        return Text(" validating ..." if is_searching else " not validated yet: R begins")
    parts = _parts(problems, num_stale=num_stale, is_searching=is_searching, severities=severities)
    return Text("  ", end="", no_wrap=True).join(parts)


def _parts(problems: Problems, *, num_stale: int, is_searching: bool, severities: int) -> Iterator[Text]:
    num_errors, num_warnings, num_infos = (problems.count(severity) for severity in ("error", "warning", "info"))
    yield Text(f" {counted(num_errors, 'error')}", style="error" if num_errors else "ok")
    yield Text(counted(num_warnings, "warning"), style="warn" if num_warnings else "")
    if num_infos:
        yield Text(counted(num_infos, "info"))
    yield Text(f"in {counted(problems.num_records, 'record')}")
    if problems.num_failing:
        yield Text(f"{problems.num_failing:,} fail", style="error")
    if problems.num_forgiven:
        yield Text(f"{problems.num_forgiven:,} forgiven")
    if problems.num_suppressed:
        yield Text(f"{problems.num_suppressed:,} ignored")
    if num_stale:
        yield Text(f"{counted(num_stale, 'record')} changed since (R)", style="warn")
    if is_searching:
        yield Text("validating ...")
    if _SHOWS[severities]:
        yield Text(_SHOWS[severities], style="accent")
