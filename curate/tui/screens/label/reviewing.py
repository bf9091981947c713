"""The review of what was answered differently: which item is looked at, and what settling it does."""

from __future__ import annotations

from curate.base.tables import counted
from curate.project.project import Project
from curate.sessions.labelling import LabelSession, ReviewItem, Waiting, settle, waiting


class Reviewing:
    """What one annotator has to settle."""

    def __init__(self, project: Project, session: LabelSession) -> None:
        """Look for what waits."""
        self._project = project
        self._session = session
        self._index = 0
        self.waiting: Waiting = waiting(project, session)

    @property
    def item(self) -> ReviewItem | None:
        """The item that is looked at; None where nothing waits."""
        return self.waiting.items[self._index] if self.waiting.items else None

    def refresh(self) -> None:
        """Look again for what waits, and stay with the item that was looked at if it still does."""
        key = self.item.key if self.item else None
        self.waiting = waiting(self._project, self._session)
        keys = [item.key for item in self.waiting.items]
        self._index = keys.index(key) if key in keys else min(self._index, max(0, len(keys) - 1))

    def move(self, step: int) -> bool:
        """Look at another item; return whether there is one in that direction."""
        if not 0 <= self._index + step < len(self.waiting.items):
            return False
        self._index += step
        return True

    def settle(self, index: int) -> ReviewItem | None:
        """Save that one side of the item holds, and return the item; None where there is no such side.

        Raises:
            CurateError: E906 when it is not saved; E972 when the schema refuses the line that it makes.
        """
        item = self.item
        if item is None or index >= len(item.sides):
            return None
        settle(self._project, item, item.sides[index])
        return item

    @property
    def hidden(self) -> str:
        """What waits and is not shown, and why, in words; empty where everything is shown."""
        parts = []
        if self.waiting.num_unanswered:
            parts.append(f"{counted(self.waiting.num_unanswered, 'question')} still ask you: answer first, then settle")
        if self.waiting.others_own:
            parts.append(f"{counted(len(self.waiting.others_own), 'answer')} given twice: only who answered can settle")
        return "; ".join(parts)

    @property
    def progress(self) -> str:
        """Where the item stands among all that wait, in words."""
        if not self.waiting.items:
            return "nothing to settle"
        return f"{self._index + 1:,} of {counted(len(self.waiting.items), 'item')} to settle"
