"""A folder that is whole or absent: written under a temporary name next to it, renamed at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from train.base.errors import TrainError
from train.base.storage import whole_folder

MARK = "export.json"


@contextmanager
def fresh_folder(final: Path, mark: dict[str, Any], *, is_forced: bool) -> Iterator[Path]:
    """Yield an empty folder that becomes ``final`` when the block ends well, and is gone when it does not.

    ``mark`` is written into it as export.json. With ``is_forced`` it takes the place of an earlier export, and of
    nothing else.

    Raises:
        TrainError: E919 would-overwrite, E936 write-failed.
    """
    check_free(final, is_forced=is_forced)
    with whole_folder(final) as work:
        yield work
        (work / MARK).write_text(json.dumps(mark, indent=1) + "\n", encoding="utf-8")
        # Another process may have written there meanwhile.
        check_free(final, is_forced=is_forced)


def check_free(final: Path, *, is_forced: bool) -> None:
    """Raise TrainError "E919 would-overwrite" where ``final`` exists and may not be replaced."""
    is_taken = os.path.lexists(final) and not (final.is_dir() and not final.is_symlink() and not any(final.iterdir()))
    if not is_taken:
        return
    if final.is_symlink() or not (final / MARK).is_file():
        raise TrainError("E919 would-overwrite", f"{final} exists and is not an export", "choose another --output")
    if not is_forced:
        raise TrainError("E919 would-overwrite", f"{final} exists", "--force replaces that export")


def size_of(folder: Path) -> int:
    """Return the bytes of all files in ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def format_size(num_bytes: int) -> str:
    """Return a size as people say it: "4.2 MB"."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
