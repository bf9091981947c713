"""Where schemas stand within a schema: the keywords of drafts 4 to 2020-12 and what kind of value each one takes."""

from __future__ import annotations

from collections.abc import Iterator

from curate.base.record import Json

IN_PLACE_SINGLE = {"not", "if", "then", "else"}
IN_PLACE_LIST = {"allOf", "anyOf", "oneOf"}
IN_PLACE_MAP = {"dependentSchemas", "dependencies"}
INNER_SINGLE = {
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "items",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
}
INNER_LIST = {"prefixItems", "items"}
INNER_MAP = {"properties", "patternProperties"}
DEFINITIONS = {"$defs", "definitions"}
REFERENCES = {"$ref", "$dynamicRef", "$recursiveRef"}
KNOWN = (
    IN_PLACE_SINGLE
    | IN_PLACE_LIST
    | IN_PLACE_MAP
    | INNER_SINGLE
    | INNER_LIST
    | INNER_MAP
    | DEFINITIONS
    | REFERENCES
    | {
        "$schema",
        "$id",
        "id",
        "$anchor",
        "$dynamicAnchor",
        "$recursiveAnchor",
        "$comment",
        "$vocabulary",
        "type",
        "enum",
        "const",
        "multipleOf",
        "maximum",
        "exclusiveMaximum",
        "minimum",
        "exclusiveMinimum",
        "maxLength",
        "minLength",
        "pattern",
        "maxItems",
        "minItems",
        "uniqueItems",
        "maxContains",
        "minContains",
        "maxProperties",
        "minProperties",
        "required",
        "dependentRequired",
        "title",
        "description",
        "default",
        "deprecated",
        "readOnly",
        "writeOnly",
        "examples",
        "format",
        "contentEncoding",
        "contentMediaType",
    }
)
DIALECTS = {
    "json-schema.org/draft/2020-12/schema",
    "json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft-07/schema",
    "json-schema.org/draft-06/schema",
    "json-schema.org/draft-04/schema",
}


def subschemas(schema: dict[str, Json]) -> Iterator[tuple[tuple[str | int, ...], Json, bool]]:
    """Yield (path, subschema, whether it looks at the same value as ``schema`` does) for each direct subschema."""
    for keyword, value in schema.items():
        is_same = keyword in IN_PLACE_SINGLE or keyword in IN_PLACE_LIST or keyword in IN_PLACE_MAP
        if isinstance(value, list) and keyword in IN_PLACE_LIST | INNER_LIST:
            for index, part in enumerate(value):
                yield (keyword, index), part, is_same
        elif isinstance(value, dict) and keyword in IN_PLACE_MAP | INNER_MAP | DEFINITIONS:
            for name, part in value.items():
                if isinstance(part, dict | bool):
                    yield (keyword, name), part, is_same
        elif keyword in IN_PLACE_SINGLE | INNER_SINGLE:
            yield (keyword,), value, is_same
