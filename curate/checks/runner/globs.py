"""File names as settings spell them: relative to the workspace, and the globs that match them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from curate.base.console import spelled

_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]")


def relative_name(path: Path, root: Path | None) -> str:
    """Return ``path`` relative to ``root``, without one to the working folder, with slashes; links are not followed."""
    return spelled(os.path.relpath(path, root or Path()).replace(os.sep, "/"))


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern for whole names: ``*`` and ``?`` stay within a folder, ``**`` crosses folders.

    No regular expression: those try the ways in which many stars share out a name one after the other, and there are
    more than anybody can wait for.
    """

    pieces: tuple[str, ...]

    @staticmethod
    def of(pattern: str) -> Glob:
        """Return the glob that ``pattern`` spells."""
        return Glob(tuple(_PIECE.findall(pattern)))

    def matches(self, name: str) -> bool:
        """Whether ``name`` as a whole fits; it takes one step for each piece and character."""
        positions = {0}
        for piece in self.pieces:
            positions = _after(piece, name, positions)
        return len(name) in positions


def _after(piece: str, name: str, positions: set[int]) -> set[int]:
    """Return where in ``name`` one can be after ``piece``, coming from any of ``positions``."""
    first = min(positions, default=len(name) + 1)
    match piece:
        case "**":
            return set(range(first, len(name) + 1))
        case "**/":
            return positions | {position + 1 for position in range(first, len(name)) if name[position] == "/"}
        case "*":
            reached: set[int] = set()
            is_inside = False
            for position in range(first, len(name) + 1):
                is_inside = position in positions or (is_inside and name[position - 1] != "/")
                if is_inside:
                    reached.add(position)
            return reached
        case "?":
            return {position + 1 for position in positions if position < len(name) and name[position] != "/"}
        case _:
            return {position + 1 for position in positions if name[position : position + 1] == piece}
