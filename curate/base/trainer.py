"""The trainer's side as a program of its own: how it is called, and what it needs to be there."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from curate.base.record import missing_extra

_NEEDED = ("torch", "transformers", "peft")


def trainer_command(*words: str) -> list[str]:
    """Return the command line of `train` with ``words`` after it, in the Python that we run in."""
    # -P keeps the folder we happen to stand in from shadowing the package.
    return [sys.executable, "-P", "-m", "train", *words]


def require_trainer(what: str, otherwise: str) -> None:
    """Make sure that the trainer can start here, without loading what it loads.

    ``what`` needs it, such as "training"; ``otherwise`` is what a person without it can do.

    Raises:
        CurateError: E940 with exit code 3 when the extra ``train`` is not installed.
    """
    if lacking := [name for name in _NEEDED if find_spec(name) is None]:
        raise missing_extra(what, "train", lacking, otherwise)
