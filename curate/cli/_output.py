"""How verbs print: lines or JSON on stdout, or lines in a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from curate.base import console
from curate.base.record import Json


def print_lines(lines: Iterable[str], output: Path | None = None) -> None:
    """Print ``lines``, or write them to the file ``output`` at once."""
    if output is None:
        for line in lines:
            console.data(line)
        return
    # Only a file needs what writes files.
    from curate.base.storage import write_atomic

    write_atomic(output, (f"{line}\n".encode() for line in lines))


def print_json(value: Json, *, indent: int | None = None) -> None:
    """Print ``value`` as JSON, on one line unless there is an ``indent``."""
    # Most verbs print text, and start without the parser.
    import json

    # ASCII only: what controls a terminal or turns its text around must not reach one.
    console.data(json.dumps(value, indent=indent))
