"""The error root of `train` and the exit codes that its commands return."""

from __future__ import annotations

from enum import IntEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class Exit(IntEnum):
    """Exit codes of every command; part of the public API."""

    OK = 0
    FAILED = 1
    """What --fail-on names has happened, or the run diverged."""
    USAGE = 2
    MISSING = 3
    """The machine lacks something: an extra, a GPU, memory, disk."""
    # The shell's numbers for a process that a signal ended: 128 and the signal's own.
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that is not blank, at most 300 characters, else the error's type."""
    return next((line.strip()[:300] for line in str(error).splitlines() if line.strip()), type(error).__name__)


def validation_fault(error: ValidationError) -> str:
    """Return the first fault of a value that a model refuses, as "categories.0: what is wrong"."""
    first = error.errors()[0]
    where = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
    return f"{where}{first['msg'].removeprefix('Value error, ')}"


class TrainError(Exception):
    """A run that cannot go on: ``code`` ("E911 dataset-changed"), what happened, and what to do about it."""

    def __init__(self, code: str, message: str, hint: str = "", *, exit_code: Exit = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def require_extra(package: str, feature: str, extra: str) -> None:
    """Raise TrainError "E940 missing-extra" (exit 3) unless ``package`` is there, which ``feature`` needs."""
    if find_spec(package) is None:
        message = f"{feature} needs the package {package}, which is not installed"
        raise TrainError("E940 missing-extra", message, f"pip install 'pairsmith[{extra}]'", exit_code=Exit.MISSING)
