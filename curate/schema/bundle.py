"""A schema and all that it refers to as one document, for readers that cannot see the project's files."""

from __future__ import annotations

from pathlib import Path

from curate.base.record import Json
from curate.schema.schema_set import bad_schema, read_schema_set

_OLD_DIALECTS = ("draft-04", "draft-06", "draft-07")


def bundled(path: Path, root: Path) -> Json:
    """Return the schema at ``path`` with the files that it refers to among its definitions.

    A schema that refers to itself only is returned as it is. Else each document gets the URI that references resolve to
    as its ``$id`` (a compound schema document: JSON Schema 2020-12 core, section 9.3), which names no folder of the
    machine.

    Raises:
        CurateError: E903, the schema is unfit, or a document that is referred to names itself; E904, there is no such
            schema.
    """
    schema, uri, schema_set = read_schema_set(path, root)
    if len(schema_set.documents) == 1 or not isinstance(schema, dict):
        return schema
    is_old = any(name in str(schema.get("$schema", "")) for name in _OLD_DIALECTS)
    keyword = "definitions" if is_old else "$defs"
    parts = dict(schema.get(keyword, {}))
    for other, document in schema_set.documents.items():
        if other != uri:
            parts[_free_name(other, parts)] = _named(path, other, document, is_old=is_old)
    return {**_named(path, uri, schema, is_old=is_old), keyword: parts}


def _named(path: Path, uri: str, document: Json, *, is_old: bool) -> Json:
    if not isinstance(document, dict):
        # A schema that is true or false has no place for a name.
        document = {} if document else {"not": {}}
    if "$id" in document or (is_old and "id" in document):
        raise bad_schema(path, "schema-id", f"{uri.removeprefix('file:///')} names itself by $id", "Leave the $id out.")
    if is_old and "draft-04" in str(document.get("$schema", "")):
        return {"id": uri, **document}
    return {"$id": uri, **document}


def _free_name(uri: str, taken: dict[str, Json]) -> str:
    name = uri.rsplit("/", 1)[-1]
    number = 1
    while name in taken:
        number += 1
        name = f"{uri.rsplit('/', 1)[-1]}-{number}"
    return name
