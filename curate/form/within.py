"""JSON that stands in a text of a line, such as an answer that a program reads: read as a value, and written back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curate.door import DoorFault, strict_loads
from curate.record import Json


@dataclass(frozen=True, slots=True)
class Inner:
    """A value within a text, and how the text spells it: the blanks around it and the options of `json.dumps`."""

    value: Json
    before: str = ""
    after: str = ""
    indent: int | None = None
    separators: tuple[str, str] | None = None
    is_ascii: bool = False

    def written(self, value: Json) -> str:
        """Return the text that says ``value`` in the same way; where nothing changed it is the same text."""
        text = json.dumps(value, ensure_ascii=self.is_ascii, indent=self.indent, separators=self.separators)
        return f"{self.before}{text}{self.after}"


def inner_of(text: str) -> Inner | None:
    """Return the value that ``text`` is the strict JSON of, None where it is none.

    A spelling that `json.dumps` never writes, such as other blanks or 1.50, becomes the plainest one when the value is
    changed.
    """
    bare = text.strip()
    try:
        value = strict_loads(bare.encode("utf-8", "surrogatepass"))
    except DoorFault:
        return None
    start = text.index(bare)
    around: dict[str, Any] = {"before": text[:start], "after": text[start + len(bare) :]}
    for way in _ways():
        if json.dumps(value, **{"ensure_ascii": way["is_ascii"], **_options(way)}) == bare:
            return Inner(value, **around, **way)
    return Inner(value, **around)


def _ways() -> Iterator[dict[str, Any]]:
    for is_ascii in (False, True):
        for separators in (None, (",", ":")):
            yield {"is_ascii": is_ascii, "separators": separators, "indent": None}
        for indent in (2, 4, 1):
            yield {"is_ascii": is_ascii, "separators": None, "indent": indent}


def _options(way: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in way.items() if name != "is_ascii"}
