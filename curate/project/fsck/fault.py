"""What `curate fsck` finds: one fault each, with the place and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorkspaceFault:
    """Something that is not as it was written.

    ``is_damage`` is False for what takes nothing away from anybody, such as the remains of a write that was cut off.
    ``line`` is 1-based, ``offset`` counts bytes from the start of the file; they are 0 and None where a fault has none.
    """

    name: str
    is_damage: bool
    file: str
    message: str
    fix: str
    line: int = 0
    offset: int | None = None


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong with it."""

    root: Path
    faults: list[WorkspaceFault] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Things that were looked at, by what one of them is called."""

    def add(
        self,
        name: str,
        path: Path,
        message: str,
        fix: str,
        *,
        line: int = 0,
        offset: int | None = None,
        is_damage: bool = True,
    ) -> None:
        """Add a fault of the file ``path``."""
        file = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        self.faults.append(WorkspaceFault(name, is_damage, str(file), message, fix, line, offset))

    def count(self, what: str, number: int = 1) -> None:
        """Note that so many things more were looked at."""
        self.counts[what] = self.counts.get(what, 0) + number

    @property
    def damage(self) -> list[WorkspaceFault]:
        """The faults by which something is lost, or cannot be told from what is lost."""
        return [fault for fault in self.faults if fault.is_damage]
