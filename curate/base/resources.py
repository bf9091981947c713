"""Where the files that ship with the product lie: in the wheel, or beside the packages in an editable install."""

from __future__ import annotations

from pathlib import Path

from curate.base.record import CurateError, Exit

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(folder: str) -> Path:
    """Return the shipped folder ``schemas`` or ``samples``.

    Raises:
        CurateError: E900 when the installation lacks it.
    """
    for candidate in (_PACKAGE / folder, _PACKAGE.parent / folder):
        if candidate.is_dir():
            return candidate
    raise CurateError(
        "E900 broken-installation",
        f"the folder {folder!r} is not part of this installation",
        "Reinstall pairsmith.",
        exit_code=Exit.MISSING,
    )
