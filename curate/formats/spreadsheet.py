"""The CSV that we write for spreadsheets: its columns, and the apostrophe before a cell that could run as a formula."""

# Exporters write it and importers read it back, and neither may know the other.

from __future__ import annotations

import re

# The header by which such a file is known again.
COLUMNS = ("id", "category", "system", "instruction", "input", "output")

_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")
_STARTS = frozenset("=+-@\t\r\n＝＋－＠﹦﹢﹣﹫−")
_SKIPPED = re.compile(r"[\s\"\u0000-\u001f\u007f\u200b-\u200f\u2060\ufeff]*")


def guarded(cell: str) -> str:
    """Return ``cell`` behind an apostrophe when a spreadsheet could take it for a formula (OWASP: CSV injection)."""
    # That is a cell which begins, after blanks, control characters and double quotes, with = + - @ or another form of
    # them, or which begins with a tab or a line break; a plain number is left as it is. A cell that looks as if it were
    # guarded gets an apostrophe more, so that `unguarded` gives every cell back.
    return "'" + cell if _is_risky(cell) else cell


def unguarded(cell: str) -> str:
    """Return the cell that `guarded` has made ``cell`` of."""
    return cell[1:] if cell[:1] == "'" and _is_risky(cell[1:]) else cell


def _is_risky(cell: str) -> bool:
    bare = cell.lstrip("'")
    inner = _SKIPPED.sub("", bare, count=1)
    return bool(bare) and (bare[0] in _STARTS or inner[:1] in _STARTS) and not _NUMBER.fullmatch(bare.strip())
