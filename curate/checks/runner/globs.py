"""File names as settings spell them: relative to the workspace, and the globs that match them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from curate.base.console import spelled

_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]")


def place_name(path: Path, root: Path | None) -> str:
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
        places = {0}
        for piece in self.pieces:
            places = _after(piece, name, places)
        return len(name) in places


def _after(piece: str, name: str, places: set[int]) -> set[int]:
    """Return where in ``name`` one can be after ``piece``, coming from any of ``places``."""
    first = min(places, default=len(name) + 1)
    match piece:
        case "**":
            return set(range(first, len(name) + 1))
        case "**/":
            return places | {place + 1 for place in range(first, len(name)) if name[place] == "/"}
        case "*":
            reached: set[int] = set()
            is_inside = False
            for place in range(first, len(name) + 1):
                is_inside = place in places or (is_inside and name[place - 1] != "/")
                if is_inside:
                    reached.add(place)
            return reached
        case "?":
            return {place + 1 for place in places if place < len(name) and name[place] != "/"}
        case _:
            return {place + 1 for place in places if name[place : place + 1] == piece}
