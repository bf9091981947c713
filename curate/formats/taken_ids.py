"""What becomes of rows whose ids records have already: a newcomer gets neither the place nor the decisions of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

from curate.base.record import Json
from curate.schema import Shape
from curate.schema.view import put

IdChoice = Literal["new", "skip", "replace"]


@dataclass(slots=True)
class TakenIds:
    """The ids that records have, and what becomes of a row of an import that has one of them.

    It gets a new id, is skipped, or replaces what the record says. A row whose id another row of its file has gets a
    new one as well.
    """

    ids: Collection[str] = frozenset()
    choice: IdChoice = "new"
    prefix: str = ""
    """Put before the id of every row."""
    before: Mapping[str, str] = field(default_factory=dict)
    """What the last import of the file did: by id in the file, the id of the record, empty where there is none."""
    renamed: dict[str, str] = field(default_factory=dict)
    """What this one has done, in the same way."""
    replaced: dict[str, Mapping[str, Json]] = field(default_factory=dict)
    """By id, what the record is to say instead."""
    num_taken: int = 0
    _counts: Counter[str] = field(default_factory=Counter)
    given: set[str] = field(default_factory=set)
    """The ids that rows of this import have now."""

    def begin(self) -> None:
        """Start with the first row again."""
        self.num_taken = 0
        for known in (self._counts, self.given, self.renamed, self.replaced):
            known.clear()

    def place(self, line: Mapping[str, Json], shape: Shape) -> Mapping[str, Json] | None:
        """Return ``line`` with an id that no other record has; None where it makes no record of its own."""
        if not (view := shape.view) or "id" not in view.paths:
            return line
        # Records that have no id of their own are told apart in the order of the files: a copy that came to lie in an
        # earlier one would have the name of the older record, and what was decided on it.
        if (own := view.get(line, "id")) is None and (own := view.content(line).id()) not in self.ids:
            return line
        wanted = f"{self.prefix}{own}"
        self._counts[wanted] += 1
        source = wanted if self._counts[wanted] == 1 else f"{wanted}\0{self._counts[wanted]}"
        name = self._name(source, wanted, line)
        if name != wanted:
            self.renamed[source] = name
        if not name:
            return None
        self.given.add(name)
        if name == str(own):
            return line
        named = deepcopy(dict(line))
        put(named, view.paths["id"], name)
        return named

    def _name(self, source: str, wanted: str, value: Mapping[str, Json]) -> str:
        if before := self.before.get(source):
            return before
        # The row may be another record's since the last import.
        is_left, is_twin = before is not None, wanted in self.given
        if not is_left and not is_twin and wanted not in self.ids:
            return wanted
        self.num_taken += 1
        if is_left or (not is_twin and self.choice != "new"):
            if self.choice == "replace":
                self.replaced[wanted] = value
            return ""
        number = 2
        while (name := f"{wanted}-{number}") in self.ids or name in self.given:
            number += 1
        return name
