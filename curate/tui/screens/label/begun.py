"""What somebody has begun at the record at hand and not saved: a line being typed, marked values, values looked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from curate.tui.screens.label.rendering import KEYS

Typed = Literal["", "note", "value"]


class Begun:
    """It belongs to one record, and is saved for that one or not at all."""

    def __init__(self) -> None:
        self.record = ""
        """The record that it was begun at."""
        self.typing: Typed = ""
        """What the line that is typed into is for."""
        self.marked: list[str] = []
        """The values that are marked so far, where several may be an answer."""
        self.sought = ""
        """What the values that have keys now have in them."""

    def __bool__(self) -> bool:
        """Whether anything is begun."""
        return bool(self.typing or self.marked or self.sought)

    def type(self, what: Typed, record: str) -> None:
        """Begin to type something about ``record``."""
        self.typing, self.record = what, record

    def mark(self, value: str, record: str) -> None:
        """Mark a value for ``record``, or take its mark away."""
        self.marked = [other for other in self.marked if other != value] + ([] if value in self.marked else [value])
        self.record = record

    def keyed(self, values: Sequence[str]) -> Sequence[str]:
        """Return those of ``values`` that have a key now: the first ten in which is found what is looked for."""
        sought = self.sought.casefold()
        return [value for value in values if sought in value.casefold()][: len(KEYS)]

    def forget(self) -> None:
        """Begin anew."""
        self.typing, self.marked, self.sought = "", [], ""
