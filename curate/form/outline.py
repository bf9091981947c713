"""The form of a schema as text, one line a field: what people will be asked, seen without opening it."""

from __future__ import annotations

from collections.abc import Iterator

from curate.form.field import Field
from curate.form.model import Form
from curate.form.rules import Nodes, Schemas, Unseen
from curate.record import Json
from curate.say import one_line
from curate.shape import Shape

_MOST_FIELDS = 2_000
_SHOWN_OPTIONS = 6
_WORDS = {
    "line": "one line of text",
    "text": "text area",
    "number": "number",
    "switch": "switch",
    "constant": "always",
    "choices": "several of",
    "tags": "list of short texts",
    "list": "cards",
    "group": "group",
    "json": "JSON",
}


def outline(shape: Shape) -> Iterator[str]:
    """Yield the fields of a form, indented by depth; required ones have a star. A recursive part is told once."""
    schemas = Schemas(shape)
    form = Form(shape, _Specimens(schemas).of(schemas.root))
    yield from _lines(form.root, 0)


def _lines(field: Field, depth: int) -> Iterator[str]:
    if depth or field.kind != "group":
        yield f"{'  ' * (depth - 1)}{_line(field)}"
    for choice in field.choices:
        names = ", ".join(one_line(label, 40) for label in choice.labels)
        yield f"{'  ' * depth}(one of: {names}; shown is the first)"
    for one in field.fields:
        yield from _lines(one, depth + 1)


def _line(field: Field) -> str:
    kind = _WORDS.get(field.kind, "radio buttons" if field.is_radio else "select")
    parts = [f"{one_line(field.name, 40) or 'value'}{' *' if field.is_required else ''}: {kind}"]
    if field.options:
        parts.append(", ".join(one_line(option.label, 30) for option in field.options[:_SHOWN_OPTIONS]))
        if len(field.options) > _SHOWN_OPTIONS:
            parts.append(f"and {len(field.options) - _SHOWN_OPTIONS} more")
    elif field.bounds:
        parts.append(field.bounds)
    if field.kind == "group" and not field.is_present:
        parts.append("(told above)")
    told = " ".join(parts)
    return f"{told}. {one_line(field.help, 100)}" if field.help else told


class _Specimens:
    """Makes a value in which every group and list of a schema is there once; it need not be valid."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._num_left = _MOST_FIELDS

    def of(self, nodes: Nodes, above: frozenset[int] = frozenset()) -> Json:
        """Return a value for ``nodes``; ``above`` are the schemas around it, of which none is begun again."""
        rules = self._schemas.rules(nodes, Unseen())
        if rules.options is not None:
            return rules.options[0].value if rules.options else None
        match next(iter(rules.kinds)) if len(rules.kinds) == 1 else "":
            case "object":
                parts = {name: tuple(part) for name, part in rules.properties.items() if False not in part}
                around = above | rules.seen
                return {name: self.of(part, around) for name, part in parts.items() if self._is_new(part, around)}
            case "array":
                items = tuple(rules.items)
                around = above | rules.seen
                return [self.of(items, around)] if items and self._is_new(items, around) else []
            case "string":
                return ""
            case "boolean":
                return False
            case "number" | "integer":
                return 0
            case _:
                return None

    def _is_new(self, nodes: Nodes, around: frozenset[int]) -> bool:
        self._num_left -= 1
        return self._num_left > 0 and not around & self._schemas.rules(nodes, Unseen()).seen
