"""The review of what was answered differently: which item is looked at, and what settling it does."""

from __future__ import annotations

from curate.base.tables import counted
from curate.project.project import Project
from curate.sessions.labelling import LabelSession, ReviewItem, Waiting, settle, waiting


class Reviewing:
    """What waits to be settled, from the desk of one annotator."""

    def __init__(self, project: Project, desk: LabelSession) -> None:
        """Look for what waits."""
        self._project = project
        self._desk = desk
        self._place = 0
        self.found: Waiting = waiting(project, desk)

    @property
    def item(self) -> ReviewItem | None:
        """The item that is looked at; None where nothing waits."""
        return self.found.items[self._place] if self.found.items else None

    def look(self) -> None:
        """Look again for what waits, and stay with the item that was looked at if it still does."""
        key = self.item.key if self.item else None
        self.found = waiting(self._project, self._desk)
        keys = [one.key for one in self.found.items]
        self._place = keys.index(key) if key in keys else min(self._place, max(0, len(keys) - 1))

    def move(self, step: int) -> bool:
        """Look at another item; return whether there is one in that direction."""
        if not 0 <= self._place + step < len(self.found.items):
            return False
        self._place += step
        return True

    def settle(self, place: int) -> ReviewItem | None:
        """Save that one side of the item holds, and return the item; None where there is no such side.

        Raises:
            CurateError: E906 when it is not saved; E972 when the schema refuses the line that it makes.
        """
        item = self.item
        if item is None or place >= len(item.sides):
            return None
        settle(self._project, item, item.sides[place])
        return item

    @property
    def hidden(self) -> str:
        """What waits and is not shown, and why, in words; empty where everything is shown."""
        parts = []
        if self.found.num_unanswered:
            parts.append(f"{counted(self.found.num_unanswered, 'question')} still ask you: answer first, then settle")
        if self.found.others_own:
            parts.append(f"{counted(len(self.found.others_own), 'answer')} given twice: only who answered can settle")
        return "; ".join(parts)

    @property
    def progress(self) -> str:
        """Where the item stands among all that wait, in words."""
        if not self.found.items:
            return "nothing to settle"
        return f"{self._place + 1:,} of {counted(len(self.found.items), 'item')} to settle"
