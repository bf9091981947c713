"""What this installation has: the files that ship with the product, and the trainer as a program of its own."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from curate.base.record import CurateError, Exit, missing_extra

_PACKAGE = Path(__file__).resolve().parents[1]
_NEEDED = ("torch", "transformers", "peft")


def shipped(folder: str) -> Path:
    """Return the shipped folder ``schemas`` or ``samples``.

    Raises:
        CurateError: E900 when the installation lacks it.
    """
    # They are a part of the wheel, and lie beside the packages in an editable install.
    for candidate in (_PACKAGE / folder, _PACKAGE.parent / folder):
        if candidate.is_dir():
            return candidate
    message = f"the folder {folder!r} is not part of this installation"
    raise CurateError("E900 broken-installation", message, "Reinstall pairsmith.", exit_code=Exit.MISSING)


def python_command(*words: str) -> list[str]:
    """Return the command line of the Python that we run in, with ``words`` after it: every child of ours is started so.

    No file of the folder we happen to stand in, such as a train.py, is taken for a module.
    """
    return [sys.executable, "-P", *words]


def trainer_command(*words: str) -> list[str]:
    """Return the command line of `train` with ``words`` after it."""
    return python_command("-m", "train", *words)


def require_trainer(what: str, otherwise: str) -> None:
    """Make sure that the trainer can start here, without loading what it loads.

    ``what`` needs it, such as "training"; ``otherwise`` is what a person without it can do.

    Raises:
        CurateError: E940 with exit code 3 when the extra ``train`` is not installed.
    """
    if lacking := [name for name in _NEEDED if find_spec(name) is None]:
        raise missing_extra(what, "train", lacking, otherwise)
