"""The only writer of `train` to stdout and stderr: data goes to stdout, talk to stderr.

So a pipe gets the table of results and nothing else, and no text of a dataset reaches a terminal with its escapes.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Iterable
from shlex import quote
from typing import TextIO

_BREAKS = "\u2028\u2029"
_BRACKETED = re.compile(r"##(?=[a-z]*\[)", re.IGNORECASE)


def visible(text: str) -> str:
    """Return ``text`` with every character that steers or breaks a line as ``<U+XXXX>``, but newline and tab."""
    # Also private and unassigned ones, to which a terminal may give a meaning.
    return "".join([
        f"<U+{ord(c):04X}>" if c not in "\n\t" and (c in _BREAKS or unicodedata.category(c)[0] == "C") else c
        for c in text
    ])  # fmt: skip


def one_line(text: str) -> str:
    """Return ``text`` on one line, made visible."""
    return visible(text).replace("\n", " ").replace("\t", " ")


def typed(path: object) -> str:
    """Return a path as a person types it to a shell, on one line."""
    return quote(one_line(str(path)))


def _escape_ci_commands(line: str) -> str:
    # As in curate: a build server takes two colons or hashes at the beginning of a line for an order, and two hashes
    # before a bracket wherever they stand.
    start = line.lstrip()
    if start.startswith(("::", "##")):
        line = f"./{line}"
    return _BRACKETED.sub(r"#\\u0023" if start.startswith(("{", "[", '"')) else "# #", line)


def _write(stream: TextIO, text: str) -> None:
    stream.write("\n".join(map(_escape_ci_commands, text.split("\n"))) + "\n")


def join_names(names: Iterable[str], most: int = 10) -> str:
    """Return ``names`` in one line, made visible: the first ``most``, and how many more there are."""
    one_lines = list(map(one_line, names))
    return ", ".join(one_lines[:most]) + (f" and {len(one_lines) - most:,} more" if len(one_lines) > most else "")


def columns() -> int | None:
    """Return the width of the terminal that stdout goes to, in cells; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def data(text: str = "") -> None:
    """Write one line of data to stdout."""
    _write(sys.stdout, text)


class _Stderr:
    """What this process has left on the last line of its stderr, when it last logged there, and whether it may."""

    is_line_open = False
    is_muted = False
    logged_at = time.monotonic()


PROGRESS_SECONDS = 10.0
"""How often a log that is no terminal gets a line of progress."""


def mute(*, is_muted: bool) -> None:
    """Write nothing to stderr from now on, or write again: of many ranks only the first does."""
    _Stderr.is_muted = is_muted


def info(text: str = "") -> None:
    """Write one line to stderr, made visible; a line of progress on a terminal stays above it as it was last."""
    if _Stderr.is_muted:
        return
    if _Stderr.is_line_open:
        sys.stderr.write("\n")
        _Stderr.is_line_open = False
    _write(sys.stderr, visible(text))


def error(code: str, message: str, hint: str = "") -> None:
    """Write an error of the run to stderr: its code, what happened, what to do."""
    info(f"error[{code}]: {message}")
    if hint:
        info(f"  help: {hint}")


def progress(text: str, *, is_last: bool = False) -> None:
    """Write how far the work is: a terminal's line is redrawn, a log gets a line every ten seconds, and the last."""
    if sys.stderr.isatty() and not _Stderr.is_muted:
        redraw(text)
    elif is_last or time.monotonic() - _Stderr.logged_at >= PROGRESS_SECONDS:
        _Stderr.logged_at = time.monotonic()
        info(text)


def redraw(text: str) -> None:
    """Write ``text`` over the present line of a terminal's stderr; the next `info` goes below it."""
    sys.stderr.write(f"\r\x1b[2K{text}")
    sys.stderr.flush()
    _Stderr.is_line_open = True
