"""The line above the list: how many findings there are, how many fail, and how fresh they are."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from curate.base.tables import counted
from curate.sessions.problems import Problems

_SHOWS = ("", "errors only", "no infos")


def summary(found: Problems | None, *, num_stale: int, is_searching: bool, shown: int) -> Text:
    """Return the line; ``shown`` says which severities are listed: all, errors, or errors and warnings."""
    if found is None:
        return Text(" validating ..." if is_searching else " not validated yet: R begins")
    parts = _parts(found, num_stale=num_stale, is_searching=is_searching, shown=shown)
    return Text("  ", end="", no_wrap=True).join(parts)


def _parts(found: Problems, *, num_stale: int, is_searching: bool, shown: int) -> Iterator[Text]:
    num_errors, num_warnings, num_infos = (found.count(one) for one in ("error", "warning", "info"))
    yield Text(f" {counted(num_errors, 'error')}", style="error" if num_errors else "ok")
    yield Text(counted(num_warnings, "warning"), style="warn" if num_warnings else "")
    if num_infos:
        yield Text(counted(num_infos, "info"))
    yield Text(f"in {counted(found.num_records, 'record')}")
    if found.num_failing:
        yield Text(f"{found.num_failing:,} fail", style="error")
    if found.num_forgiven:
        yield Text(f"{found.num_forgiven:,} forgiven")
    if found.num_suppressed:
        yield Text(f"{found.num_suppressed:,} ignored")
    if num_stale:
        yield Text(f"{counted(num_stale, 'record')} changed since (R)", style="warn")
    if is_searching:
        yield Text("validating ...")
    if _SHOWS[shown]:
        yield Text(_SHOWS[shown], style="accent")
