"""A strict reading of YAML: what you see is what you get, as in YAML 1.2, without the parts that surprise or attack.

Refused: tags, anchors and aliases, several documents, duplicate or non-text keys, more than 64 levels or 10,000
values. Only `true`, `false`, `null`, `~` and plain decimal numbers are more than text; `no`, `010`, `1.10`, `0x1F`,
`1_000` stay the text that they are, so a field that wants a number refuses them instead of receiving another value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from train.base.errors import TrainError

if TYPE_CHECKING:
    import yaml

Scalar = str | int | float | bool | None

MOST_LEVELS = 64
MOST_VALUES = 10_000
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
# No trailing zero after the first decimal: 1.10 is a version number to its author, and no float prints back as it.
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.(0|[0-9]*[1-9]))?([eE][+-]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[+-]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def read_yaml(text: str, name: str = "the value") -> Any:
    """Return the value of a YAML text as dicts, lists and scalars; ``name`` stands before the line in messages.

    Raises TrainError "E920 bad-recipe" with line and column for everything that this strict reading refuses.
    """
    # PyYAML comes with the [train] extra and is needed for YAML recipes only.
    import yaml

    reader = _Reader(yaml.parse(text, Loader=yaml.SafeLoader), name)
    try:
        return reader.document()
    except (ValueError, OverflowError) as error:
        # PyYAML hands an escape such as "\UFFFFFFFF" to chr() as it is.
        raise TrainError("E920 bad-recipe", f"{name}: this is not YAML: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise TrainError(
            "E920 bad-recipe", f"{where}: this is not YAML: {getattr(error, 'problem', None) or error}"
        ) from None


def scalar(text: str) -> Scalar:
    """Return a plain scalar's value: a literal, a decimal number, or else the text itself."""
    literals: dict[str, Scalar] = {"true": True, "false": False, "null": None, "~": None, "": None}
    if text in literals:
        return literals[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class _Reader:
    """Builds plain values from PyYAML's events and refuses what the module's docstring names."""

    def __init__(self, events: Iterator[yaml.Event], name: str) -> None:
        self.events = events
        self.name = name
        self.num_values = 0

    def document(self) -> Any:
        import yaml

        value: Any = None
        num_documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                num_documents += 1
                if num_documents > 1:
                    raise self.fault(event, "a second document begins here")
                value = self.value(next(self.events), 0)
        return value

    def value(self, event: yaml.Event, depth: int) -> Any:
        import yaml

        self.num_values += 1
        if depth > MOST_LEVELS or self.num_values > MOST_VALUES:
            raise self.fault(event, f"more than {MOST_LEVELS} levels or {MOST_VALUES} values")
        if isinstance(event, yaml.AliasEvent):
            raise self.fault(event, "aliases (*name) are not allowed")
        if getattr(event, "anchor", None):
            raise self.fault(event, "anchors (&name) are not allowed")
        if getattr(event, "tag", None):
            raise self.fault(event, f"tags ({event.tag}) are not allowed")
        if isinstance(event, yaml.ScalarEvent):
            return scalar(event.value) if event.style is None else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return [self.value(inner, depth + 1) for inner in self.until(yaml.SequenceEndEvent)]
        return self.mapping(depth)

    def mapping(self, depth: int) -> dict[str, Any]:
        import yaml

        table: dict[str, Any] = {}
        for event in self.until(yaml.MappingEndEvent):
            key = self.value(event, depth + 1)
            if not isinstance(key, str):
                raise self.fault(event, "a key must be text")
            if key in table:
                raise self.fault(event, f"the key {key!r} stands here a second time")
            table[key] = self.value(next(self.events), depth + 1)
        return table

    def until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        for event in self.events:
            if isinstance(event, end):
                return
            yield event

    def fault(self, event: yaml.Event, what: str) -> TrainError:
        mark = event.start_mark
        return TrainError(
            "E920 bad-recipe",
            f"{self.name}:{mark.line + 1}:{mark.column + 1}: {what}",
            "recipes use plain keys and values only; TOML works too",
        )
