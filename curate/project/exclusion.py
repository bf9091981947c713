"""Why a decision leaves a record out: a rule with its finding, or a person's words.

Since version 2 of the journal the rule, the record that stays instead and the similarity are fields, and the reason is
text that nothing is read from. Version 1 had the text alone, and `curate dedupe --apply` wrote its finding into it;
`read_rule` reads that again, and is the only code that reads a meaning out of a reason. Whoever typed exactly such a
text then, about a record that exists, cannot be told apart from the rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from curate.base.events import Drop, DropEvent
from curate.base.record import Json

_RULE = re.compile(r"(?:(D301): repeats (.+) \((1\.00)\)|(D302): repeats (.+) \((0\.\d\d|1\.00)\))", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a record is left out: the fields of a `curate.base.events.DropEvent`."""

    reason: str
    code: str = ""
    """The finding of the rule that leaves it out, empty for a person's own words."""
    of: str = ""
    """The record that stays instead, if there is one."""
    score: float | None = None
    """How alike the two are, from 0 to 1."""
    version: int = 2
    """Version of the journal that it was written in."""

    def __str__(self) -> str:
        if self.version == 1:
            return self.reason
        prefix = f"{self.code}: " if self.code else ""
        return f"{prefix}{self.reason}" + (f" ({self.score:.2f})" if self.score is not None else "")

    def decision(self, name: str) -> Drop:
        """Return the decision, in the newest version, that leaves the record ``name`` out for this reason."""
        # A rule's text of version 1 repeats what the fields say.
        reason = f"repeats {self.of}" if self.version == 1 and self.code else self.reason
        return Drop(name, reason, self.code, self.of, self.score)

    def status(self) -> list[Json]:
        """Return the value of the facet ("status",) that says so; see `exclusion_of`."""
        head: list[Json] = [self.reason, False]
        return head if self.version == 1 else [*head, self.code, self.of, self.score]


def exclusion_by(event: DropEvent) -> Exclusion:
    """Return why ``event`` leaves its record out, as it was written."""
    return Exclusion(event.reason, event.code, event.of, event.score, event.v)


def exclusion_of(status: list[Json] | None) -> Exclusion | None:
    """Return what a value of the facet ("status",) says, None where the record is in.

    A drop is [reason, False] in version 1 and [reason, False, code, of, score] in version 2; a restore is [None, True].
    """
    reason, _, *fields = status or [None, False]
    if reason is None:
        return None
    return Exclusion(reason, *fields) if status and is_typed(status) else Exclusion(reason, version=1)


def is_typed(status: list[Json]) -> bool:
    """Whether a value of the facet ("status",) is that of a drop of version 2."""
    return len(status) > len(("reason", "is_wanted"))


def read_rule(exclusion: Exclusion, record: str, exists: Callable[[str], bool]) -> Exclusion:
    """Return why ``record`` is out, with the rule where a drop of version 1 was made by one; others as they are.

    It was if its text has the exact form that the rules wrote, and names another record that ``exists`` in the
    workspace. The reason stays as it was written.
    """
    match = _RULE.fullmatch(exclusion.reason) if exclusion.version == 1 else None
    if match is None:
        return exclusion
    code, of, score = (group for group in match.groups() if group is not None)
    if of == record or not exists(of):
        return exclusion
    return replace(exclusion, code=code, of=of, score=float(score))
