"""File names as settings spell them: relative to the workspace, and the globs that match them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from curate.say import spelled

_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]+")


def place_name(path: Path, root: Path | None) -> str:
    """Return ``path`` relative to ``root``, without one to the working folder, with slashes; links are not followed."""
    return spelled(os.path.relpath(path, root or Path()).replace(os.sep, "/"))


def matcher(glob: str) -> re.Pattern[str]:
    """Return the pattern that a whole name must match: ``*`` and ``?`` stay within a folder, ``**`` crosses folders."""
    pieces = _PIECE.findall(glob)
    return re.compile("".join(_WILD[piece] if piece in _WILD else re.escape(piece) for piece in pieces), re.DOTALL)
