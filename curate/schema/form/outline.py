"""A form as lines of text: what `curate schema form` prints."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.console import one_line
from curate.base.record import Json
from curate.schema import Shape
from curate.schema.form.fields import Field
from curate.schema.form.model import Form
from curate.schema.form.rules import NOTHING, Schemas

_MOST_OPTIONS = 6
_MOST_FIELDS = 2_000
_MOST_AROUND = 200
_WORDS = {
    "line": "one line of text", "text": "text area", "number": "number", "switch": "switch", "constant": "always",
    "choices": "several of", "tags": "list of short texts", "list": "cards", "group": "group", "json": "JSON",
}  # fmt: skip


def outline(shape: Shape) -> Iterator[str]:
    """Yield the fields of a form, indented by depth; required ones have a star. A recursive part is told once."""
    schemas = Schemas(shape)
    yield from _lines(Form(shape, _Specimens(schemas).of(schemas.root, frozenset())).root, 0)


def _lines(field: Field, depth: int) -> Iterator[str]:
    if depth or field.kind != "group":
        yield f"{'  ' * (depth - 1)}{_line(field)}"
    for part in field.fields:
        yield from _lines(part, depth + 1)


def _line(field: Field) -> str:
    kind = _WORDS.get(field.kind, "radio buttons" if field.is_radio else "select")
    parts = [f"{one_line(field.name, 40) or 'value'}{' *' if field.is_required else ''}: {kind}"]
    if field.options:
        parts.append(", ".join(one_line(option.label, 30) for option in field.options[:_MOST_OPTIONS]))
        if len(field.options) > _MOST_OPTIONS:
            parts.append(f"and {len(field.options) - _MOST_OPTIONS} more")
    elif field.bounds:
        parts.append(field.bounds)
    if field.kind == "group" and not field.is_present:
        parts.append("(told above)")
    text = " ".join(parts)
    return f"{text}. {one_line(field.help, 100)}" if field.help else text


class _Specimens:
    """Makes a value in which every group and list of a schema is there once; it need not be valid."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._num_left = _MOST_FIELDS

    def of(self, schema: Json, above: frozenset[int]) -> Json:
        """Return a value for ``schema``; ``above`` are the schemas around it, none of which is begun again."""
        rules = self._schemas.rules(schema)
        if rules.options is not None or len(rules.kinds) != 1:
            return rules.options[0].value if rules.options else None
        around = above | rules.nodes
        match next(iter(rules.kinds)):
            case "object":
                return {
                    name: self.of(part, around) for name, part in rules.properties.items() if self._is_new(part, around)
                }
            case "array":
                return [self.of(rules.items, around)] if self._is_new(rules.items, around) else []
            case kind:
                return {"string": "", "boolean": False}.get(kind, 0)

    def _is_new(self, schema: Json, around: frozenset[int]) -> bool:
        self._num_left -= 1
        is_room = self._num_left > 0 and len(around) < _MOST_AROUND
        return schema is not NOTHING and is_room and not around & self._schemas.rules(schema).nodes
