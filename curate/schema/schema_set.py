"""A schema with all that it refers to, read from inside the project, and refused where it could mislead or hang."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urljoin, urlsplit

from curate.base.console import one_line
from curate.base.file_guard import read_file
from curate.base.record import CurateError, Finding, Json
from curate.jsonl import JsonFault, fault_finding, locate, parts_of, pointer_of, strict_loads
from curate.schema.view import at

# Where the URIs of a project begin: it names no folder of the machine.
BASE = "file:///"
_MAX_BYTES = 4 * 1024 * 1024
_MAX_PATH = 255
Steps = tuple[str | int, ...]
_Node = dict[str, Json]
# References make a small schema large: thirty definitions that each refer twice to the next are a thousand million
# paths. The engine follows every one of them, so that they are counted before it is asked.
_MOST_PATHS = 20_000
# A schema that cannot look this deep within `_MOST_PATHS` is refused.
_LEAST_DEPTH = 4
MAX_DEPTH = 64
# Where schemas stand within a schema: the keywords of drafts 4 to 2020-12, by the kind of value that each one takes.
_SAME_VALUE_SINGLE = {"not", "if", "then", "else"}
_SAME_VALUE_LIST = {"allOf", "anyOf", "oneOf"}
_SAME_VALUE_MAP = {"dependentSchemas", "dependencies"}
_INNER_SINGLE = {
    "additionalItems", "additionalProperties", "contains", "contentSchema", "items", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip
_INNER_LIST = {"prefixItems", "items"}
_INNER_MAP = {"properties", "patternProperties"}
_DEFINITIONS = {"$defs", "definitions"}
REFERENCES = {"$ref", "$dynamicRef", "$recursiveRef"}
_SAME_VALUE = _SAME_VALUE_SINGLE | _SAME_VALUE_LIST | _SAME_VALUE_MAP
_OTHERS = {
    "$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$comment", "$vocabulary", "type", "enum",
    "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength", "minLength",
    "pattern", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains", "maxProperties", "minProperties",
    "required", "dependentRequired", "title", "description", "default", "deprecated", "readOnly", "writeOnly",
    "examples", "format", "contentEncoding", "contentMediaType",
}  # fmt: skip
_KNOWN = _SAME_VALUE | _INNER_SINGLE | _INNER_LIST | _INNER_MAP | _DEFINITIONS | REFERENCES | _OTHERS
_DIALECTS = {
    f"json-schema.org/{name}/schema" for name in ("draft/2020-12", "draft/2019-09", "draft-07", "draft-06", "draft-04")
}


# A reference reaches this schema itself, or a file inside the project. What is fetched from elsewhere could change,
# could read files for a stranger, and is not needed.


@dataclass
class SchemaSet:
    """A schema with all documents that it refers to, by URI, and what is odd about them."""

    root: Path
    uri: str
    schema: Json = None
    documents: dict[str, Json] = field(default_factory=dict)
    warnings: list[Finding] = field(default_factory=list)
    by_uri: dict[str, Json] = field(default_factory=dict)
    """Schemas that have a URI of their own: documents, embedded ``$id`` and anchors."""
    references: list[tuple[Path, Steps, str, str]] = field(default_factory=list)
    bases: dict[int, str] = field(default_factory=dict)
    depth: int = MAX_DEPTH
    """How deep a value may be for the engine to be asked about it."""


def bad_schema(path: Path, reason: str, message: str, hint: str = "") -> CurateError:
    """Return the error of a schema that cannot be used; ``reason`` is a stable word such as "remote-ref"."""
    return CurateError("E903 bad-schema", f"{one_line(str(path))}: {reason}: {message}", hint)


def subschemas(schema: dict[str, Json]) -> Iterator[tuple[Steps, Json, bool]]:
    """Yield (path, subschema, whether it looks at the same value as ``schema`` does) for each direct subschema."""
    for keyword, value in schema.items():
        is_same = keyword in _SAME_VALUE
        if isinstance(value, list) and keyword in _SAME_VALUE_LIST | _INNER_LIST:
            for index, part in enumerate(value):
                yield (keyword, index), part, is_same
        elif isinstance(value, dict) and keyword in _SAME_VALUE_MAP | _INNER_MAP | _DEFINITIONS:
            for name, part in value.items():
                if isinstance(part, dict | bool):
                    yield (keyword, name), part, is_same
        elif keyword in _SAME_VALUE_SINGLE | _INNER_SINGLE:
            yield (keyword,), value, is_same


def read_schema_set(path: Path, root: Path) -> SchemaSet:
    """Read a schema file and every file that it refers to.

    Raises:
        CurateError: E903 when a document is not strict JSON, not a schema of a known draft, refers to something outside
            ``root``, or loops without looking deeper into the value. E904 when the file is missing.
    """
    root = root.resolve()
    uri = _uri_of(root, path)
    if uri is None:
        raise bad_schema(path, "path-traversal", "the schema lies outside the project", f"The project is {root}.")
    schema_set = SchemaSet(root, uri)
    schema_set.schema = _read(schema_set, path, uri)
    # Following a reference may add others at the end.
    for reference in schema_set.references:
        _follow(schema_set, *reference)
    schema_set.depth = _affordable_depth(schema_set, _in_order(schema_set, path))
    if schema_set.depth < _LEAST_DEPTH:
        message = "its references and choices multiply to too much work for one value"
        raise bad_schema(path, "schema-cost", message, "Name each definition once where it is needed.")
    return schema_set


# What is wrong with a schema that is JSON for everybody else.
_REASONS = {"S107": "schema-number", "S110": "schema-depth"}


def _read(schema_set: SchemaSet, path: Path, uri: str) -> Json:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise bad_schema(path, "schema-size", f"larger than {_MAX_BYTES // 1024 // 1024} MiB")
        raw = read_file(path, schema_set.root, most=_MAX_BYTES).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        message = f"the schema {one_line(str(path))} cannot be read: {error.strerror}"
        raise CurateError("E904 no-such-file", message) from error
    try:
        schema = strict_loads(raw)
    except JsonFault as fault:
        # No record holds an integer of more than 64 bits, so that a larger bound bounds nothing.
        fix = fault.fix if fault.code != "S107" else "Records hold integers of 64 bits at most: leave the bound out."
        line, column = _line_and_column(raw, fault.column - 1)
        reason = _REASONS.get(fault.code, "schema-not-json")
        raise bad_schema(path, reason, f"line {line}, column {column}: {fault.message}", fix) from fault
    if not isinstance(schema, dict | bool):
        raise bad_schema(path, "schema-invalid", "a schema is an object, true or false")
    schema_set.documents[uri] = schema
    schema_set.by_uri[uri] = schema
    _walk(schema_set, path, raw, schema, uri)
    return schema


def _walk(schema_set: SchemaSet, path: Path, raw: bytes, schema: Json, base: str, start: Steps = ()) -> None:
    """Note every reference, anchor and (where ``raw`` is given) unknown keyword below ``schema``."""
    stack: list[tuple[Steps, Json, str]] = [(start, schema, base)]
    while stack:
        steps, node, base = stack.pop()
        if not isinstance(node, dict):
            continue
        # A schema within a schema that has an id of its own resolves its references against that.
        if isinstance(own := node.get("$id"), str) and not own.startswith("#"):
            base = _joined(path, base, urldefrag(own).url)
            schema_set.by_uri.setdefault(base, node)
        schema_set.bases[id(node)] = base
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := node.get(keyword), str):
                schema_set.by_uri.setdefault(f"{base}#{name}", node)
        dialect = node.get("$schema")
        if isinstance(dialect, str) and dialect.rstrip("#").split("://")[-1] not in _DIALECTS:
            message = f"{one_line(pointer_of([*steps, '$schema']))} names the dialect {one_line(dialect, 80)!r}"
            raise bad_schema(path, "unknown-dialect", message, "Use https://json-schema.org/draft/2020-12/schema.")
        for keyword in node.keys() & REFERENCES:
            if isinstance(node[keyword], str):
                schema_set.references.append((path, (*steps, keyword), base, node[keyword]))
        if raw:
            schema_set.warnings.extend(_unknown_keywords(path, raw, steps, node))
        stack.extend(((*steps, *step), part, base) for step, part, _ in subschemas(node))


def _unknown_keywords(path: Path, raw: bytes, steps: Steps, node: dict[str, Json]) -> Iterator[Finding]:
    for keyword in node:
        if keyword in _KNOWN or keyword.startswith("x-"):
            continue
        from difflib import get_close_matches

        near = get_close_matches(keyword, _KNOWN, n=1)
        fix = f"Did you mean {near[0]!r}?" if near else "Remove it, or begin its name with `x-`."
        pointer = pointer_of([*steps, keyword])
        line, column = _line_and_column(raw, locate(raw, pointer) - 1)
        message = f"the keyword {one_line(keyword, 60)!r} is not part of JSON Schema and checks nothing"
        yield fault_finding("S125", message, str(path), line, column, pointer=pointer, fix=fix)


def _follow(schema_set: SchemaSet, owner: Path, steps: Steps, base: str, reference: str) -> None:
    """Make sure that a reference stays in the project, and read the file it names if it is a new one."""
    where, quoted = one_line(pointer_of(list(steps))), one_line(reference, 120)
    target = urldefrag(_joined(owner, base, reference)).url
    if target in schema_set.by_uri or _is_dialect(target):
        # A pointer can lead to a place that is no schema by its keyword, such as "#/x-parts/name".
        node = resolve(schema_set, base, reference)
        if isinstance(node, dict) and id(node) not in schema_set.bases:
            _walk(schema_set, owner, b"", node, target, tuple(parts_of(unquote(urldefrag(reference).fragment))))
        return
    if urlsplit(reference).scheme or reference.startswith("//") or not base.startswith(BASE):
        hint = "Copy that schema into the project and refer to it by a relative path."
        raise bad_schema(owner, "remote-ref", f"{where} refers to {quoted!r}, which is not part of the project", hint)
    path = owner.parent / unquote(urldefrag(reference).url)
    if "\0" in str(path) or len(str(path)) > _MAX_PATH:
        raise bad_schema(owner, "missing-ref", f"{where} refers to {quoted!r}, which is no path")
    uri = _uri_of(schema_set.root, path)
    if uri is None or urldefrag(uri).url != target:
        raise bad_schema(owner, "path-traversal", f"{where} refers to {quoted!r}, which lies outside the project")
    if not path.is_file():
        raise bad_schema(owner, "missing-ref", f"{where} refers to {quoted!r}, which does not exist")
    _read(schema_set, path, uri)


def _in_order(schema_set: SchemaSet, path: Path) -> list[_Node]:
    """Return every schema after those that look at the same value as it does.

    Raises:
        CurateError: E903, a reference comes back to where it began at the same value, so that it decides nothing.
    """
    nodes: dict[int, _Node] = {}
    below: dict[int, list[int]] = {}
    waiting = [document for document in schema_set.documents.values() if isinstance(document, dict)]
    while waiting:
        node = waiting.pop()
        if id(node) not in nodes:
            same = list(_same_value(schema_set, node))
            nodes[id(node)], below[id(node)] = node, [id(part) for part in same]
            waiting += same + [part for _, part, _ in subschemas(node) if isinstance(part, dict)]
    try:
        return [nodes[name] for name in TopologicalSorter(below).static_order()]
    except CycleError as error:
        message = "a $ref comes back to itself without looking deeper into the value"
        raise bad_schema(path, "schema-recursion", message) from error


def _same_value(schema_set: SchemaSet, node: dict[str, Json]) -> Iterator[dict[str, Json]]:
    for _, part, is_same in subschemas(node):
        if is_same and isinstance(part, dict):
            yield part
    for keyword in sorted(REFERENCES):
        if isinstance(reference := node.get(keyword), str):
            target = resolve(schema_set, schema_set.bases.get(id(node), BASE), reference)
            if isinstance(target, dict):
                yield target


def _parts(node: dict[str, Json]) -> Iterator[tuple[str, dict[str, Json]]]:
    """Yield the subschemas that look at a part of the value, with its key or "*" for any."""
    for steps, part, is_same in subschemas(node):
        if not is_same and isinstance(part, dict) and steps[0] not in _DEFINITIONS:
            yield (str(steps[1]) if steps[0] in _INNER_MAP - {"patternProperties"} else "*"), part


def _affordable_depth(schema_set: SchemaSet, order: Sequence[_Node]) -> int:
    """Return how many levels of a value the schema can be asked about within `_MOST_PATHS`, at most `MAX_DEPTH`.

    ``order`` has every schema after those that look at the same value.
    """
    # The worst value is assumed: at each level the key that most of the schema looks at.
    steps = [(id(node), list(_parts(node)), list(map(id, _same_value(schema_set, node)))) for node in order]
    paths = dict.fromkeys(map(id, order), 0)
    for depth in range(MAX_DEPTH + 1):
        # By key, the paths of a schema at a part of the value, under "" those at the value itself.
        ways: dict[int, Counter[str]] = {}
        for name, parts, same in steps:
            ways[name] = Counter({"": 1})
            for key, below in parts:
                ways[name][key] += paths[id(below)]
            for part in same:
                ways[name].update(ways[part])
        deeper = {
            name: by_key.pop("") + by_key.pop("*", 0) + max(by_key.values(), default=0)
            for name, by_key in ((name, Counter(ways[name])) for name in ways)
        }
        if deeper.get(id(schema_set.schema), 0) > _MOST_PATHS:
            return depth - 1
        # A schema that ends looks no deeper.
        if deeper == paths:
            break
        paths = deeper
    return MAX_DEPTH


def depth_of(value: Json) -> int:
    """Return how many levels of objects and lists a value has; 0 for a text, a number, true, false and null."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [part for node in level for part in (node.values() if isinstance(node, dict) else node)]
    return depth


def _joined(owner: Path, base: str, reference: str) -> str:
    """Return a reference as an absolute URI."""
    try:
        return urljoin(base, reference)
    except ValueError as error:
        quoted = one_line(reference, 120)
        raise bad_schema(owner, "schema-invalid", f"{quoted!r} is not a URI reference") from error


def resolve(schema_set: SchemaSet, base: str, reference: str) -> Json:
    """Return what ``reference`` leads to from the URI ``base``, None where it leads to nothing in the project."""
    uri = urljoin(base, reference)
    document, fragment = urldefrag(uri)
    if fragment and not fragment.startswith("/"):
        return schema_set.by_uri.get(uri)
    return at(schema_set.by_uri.get(document), parts_of(unquote(fragment)))


def _uri_of(root: Path, path: Path) -> str | None:
    """Return the URI of a file inside the project, None for one outside. It names no folder of the machine."""
    try:
        resolved = path.resolve()
    except RuntimeError as error:
        raise CurateError("E904 no-such-file", f"{one_line(str(path))} is a link that leads to itself") from error
    if not resolved.is_relative_to(root):
        return None
    return BASE + quote(resolved.relative_to(root).as_posix())


def _is_dialect(uri: str) -> bool:
    text = uri.rsplit("://", maxsplit=1)[-1]
    return text in _DIALECTS or text.startswith(
        ("json-schema.org/draft/2020-12/meta/", "json-schema.org/draft/2019-09/meta/")
    )


def _line_and_column(raw: bytes, offset: int) -> tuple[int, int]:
    before = raw[:offset]
    return before.count(b"\n") + 1, offset - (before.rfind(b"\n") + 1) + 1


def bundled(path: Path, root: Path) -> Json:
    """Return the schema at ``path`` with the files that it refers to among its definitions.

    Raises:
        CurateError: E903, the schema is unfit, or a document that is referred to names itself; E904, there is no such
            schema.
    """
    # A schema that refers to itself only is returned as it is. Else each document gets the URI that references resolve
    # to as its ``$id`` (a compound schema document: JSON Schema 2020-12 core, section 9.3), which names no folder of
    # the machine.
    schema_set = read_schema_set(path, root)
    schema = schema_set.schema
    if len(schema_set.documents) == 1 or not isinstance(schema, dict):
        return schema
    dialect = str(schema.get("$schema", ""))
    keyword, id_key = "definitions" if "/draft-0" in dialect else "$defs", "id" if "draft-04" in dialect else "$id"
    parts: dict[str, _Node] = {}
    for name, document in schema_set.documents.items():
        # A schema that is true or false has no place for a name.
        named = document if isinstance(document, dict) else {} if document else {"not": {}}
        if not named.keys().isdisjoint(("$id", "id")):
            raise bad_schema(path, "schema-id", f"{name.removeprefix(BASE)} names itself by $id", "Leave the $id out.")
        parts[name] = {id_key: name, **named}
    return {**parts.pop(schema_set.uri), keyword: {**schema.get(keyword, {}), **parts}}
