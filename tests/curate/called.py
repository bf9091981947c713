"""One command of `curate`, run in this process: its exit code and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
from click.testing import CliRunner

from curate.base.record import CurateError
from curate.cli import cli


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended; an error that ends the run is part of ``stderr``."""

    exit_code: int
    stdout: str
    stderr: str


def call(*words: Any) -> Said:
    """Run a command in this process, as its entry point does."""
    result = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    error = result.exception
    if error is not None and not isinstance(error, CurateError | click.ClickException):
        raise error
    if error is None:
        return Said(int(result.return_value or 0), result.stdout, result.stderr)
    if isinstance(error, CurateError):
        message = f"{error.code}: {error.message}\n{error.hint}"
    else:
        message = error.format_message()
    return Said(int(error.exit_code), result.stdout, result.stderr + message)
