"""What jsonschema-rs found wrong, in our words: one problem a broken rule, without values unless asked for."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema_rs import ValidationError
from jsonschema_rs import ValidationErrorKind as Kind

from curate.base.console import one_line
from curate.base.record import Json, Problem, json_type
from curate.base.tables import listed
from curate.jsonl import parts_of, pointer_of
from curate.schema.view import at

_TYPES = {
    "array": "an array",
    "boolean": "a boolean",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
# Rules with a limit, in words, and what they count in a value.
_LIMITS: tuple[tuple[type[Any], str, str], ...] = (
    (Kind.MinLength, "have at least", "character"), (Kind.MaxLength, "have at most", "character"),
    (Kind.MinItems, "have at least", "item"), (Kind.MaxItems, "have at most", "item"),
    (Kind.AdditionalItems, "have at most", "item"), (Kind.MinProperties, "have at least", "key"),
    (Kind.MaxProperties, "have at most", "key"), (Kind.Minimum, "be at least", ""), (Kind.Maximum, "be at most", ""),
    (Kind.ExclusiveMinimum, "be more than", ""), (Kind.ExclusiveMaximum, "be less than", ""),
)  # fmt: skip
_VALUE_CHARS = 80
_MOST_OPTIONS = 12


@dataclass(frozen=True, slots=True)
class SchemaSource:
    """The ``document`` whose rules were broken, and a function that gives the keys which it knows at a path."""

    document: Json
    known_keys: Callable[[list[str | int]], Collection[str]]


class LimitProblem(Problem):
    """The engine gave up on a pattern, so that the value is neither valid nor invalid."""

    __slots__ = ()


# The engine's own messages quote the data, which may be personal or secret, so none of them is shown.


def problems_of(errors: list[ValidationError], source: SchemaSource, *, show_values: bool) -> list[Problem]:
    """Turn the engine's errors into problems."""
    return [problem for error in _narrowest(errors) for problem in _problems(error, source, show_values=show_values)]


def _narrowest(errors: list[ValidationError]) -> list[ValidationError]:
    """Leave out a wrong type where another rule asks for fewer types at the same place."""
    # Each branch of a choice reports its own list of types; the shortest list says the most.
    types = [
        (tuple(e.instance_path), frozenset(e.kind.types)) if isinstance(e.kind, Kind.Type) else None for e in errors
    ]
    types_at: dict[tuple[str | int, ...], set[frozenset[str]]] = {}
    for typed in types:
        if typed:
            types_at.setdefault(typed[0], set()).add(typed[1])
    return [
        error
        for error, typed in zip(errors, types, strict=True)
        if typed is None or not any(other < typed[1] for other in types_at[typed[0]])
    ]


def _problems(error: ValidationError, source: SchemaSource, *, show_values: bool) -> Iterator[Problem]:
    kind, path = error.kind, error.instance_path
    match kind:
        case Kind.BacktrackLimitExceeded() | Kind.RegexEngineFailure():
            yield LimitProblem("a pattern of the schema needed more work than is allowed", pointer_of(path))
        case Kind.AdditionalProperties() | Kind.UnevaluatedProperties():
            for key in kind.unexpected:
                yield Problem(_unknown_key(key, source.known_keys(path)), pointer_of([*path, key]))
        case Kind.AnyOf() | Kind.OneOfNotValid():
            yield from _nearest(error, kind.context, source, show_values=show_values)
        case Kind.PropertyNames():
            inner = next(_problems(kind.error, source, show_values=show_values))
            yield Problem(f"a key is not allowed: it {inner.message}", pointer_of(path))
        case Kind.Contains():
            holder = at(source.document, [str(part) for part in error.schema_path[:-1]])
            yield Problem(_wanted_items(holder, source.document), pointer_of(path))
        case _:
            value_text = f" (value: {_value_text(error.instance)})" if show_values else ""
            missing = kind.property if isinstance(kind, Kind.Required) else ""
            yield Problem(_sentence(kind, error.instance) + value_text, pointer_of(path), missing)


def _nearest(
    error: ValidationError, context: list[list[ValidationError]], source: SchemaSource, *, show_values: bool
) -> Iterator[Problem]:
    """Explain a choice by the branch that the value comes closest to; branches equally close are named together."""
    path = error.instance_path
    # A message for every branch would bury the one that the author meant.
    branches = [branch for branch in context if branch]
    wrong_types = [
        branch[0].kind.types
        for branch in branches
        if len(branch) == 1 and branch[0].instance_path == path and isinstance(branch[0].kind, Kind.Type)
    ]
    if branches and len(wrong_types) == len(branches):
        types = [name for names in wrong_types for name in names]
        yield Problem(f"must be {_either(types)}, not {_TYPES[json_type(error.instance)]}", pointer_of(path))
        return
    distances = [_distance(branch, path) for branch in branches]
    close = [branch for branch, distance in zip(branches, distances, strict=True) if distance == min(distances)]
    if len(close) == 1:
        for inner in close[0]:
            yield from _problems(inner, source, show_values=show_values)
    else:
        parts = {p.message: None for branch in close for e in branch for p in _problems(e, source, show_values=False)}
        yield Problem(" or ".join(parts) or "fits none of the forms that the schema allows", pointer_of(path))


def _distance(branch: list[ValidationError], path: list[str | int]) -> tuple[bool, int, int]:
    """How far a value is from a branch: another kind of thing, then the number of faults, then how shallow they are."""
    is_other = any(
        isinstance(e.kind, Kind.Type | Kind.Constant | Kind.Enum) and e.instance_path == path for e in branch
    )
    return is_other, len(branch), -max(len(e.instance_path) for e in branch)


def _sentence(kind: Kind, value: Json) -> str:  # noqa: C901  (one arm a keyword reads best in one place)
    for limited, words, unit in _LIMITS:
        if isinstance(kind, limited):
            limit: Any = kind.limit
            return f"must {words} {_count(limit, unit)}, and has {len(value):,}" if unit else f"must {words} {limit}"
    match kind:
        case Kind.Required():
            return f"{one_line(kind.property, 60)!r} is missing"
        case Kind.Type():
            return f"must be {_either(kind.types)}, not {_TYPES[json_type(value)]}"
        case Kind.Enum():
            return f"must be one of {listed([_value_text(option) for option in kind.options], _MOST_OPTIONS)}"
        case Kind.Constant():
            return f"must be {_value_text(kind.expected_value)}"
        case Kind.MultipleOf():
            return f"must be a multiple of {kind.multiple_of}"
        case Kind.Pattern():
            return f"must match the pattern {one_line(kind.pattern, _VALUE_CHARS)}"
        case Kind.Format():
            return f"must be in the format {one_line(kind.format, 60)!r}"
        case Kind.UniqueItems():
            return "must not hold the same item twice"
        case Kind.FalseSchema():
            return "is not allowed here"
        case Kind.UnevaluatedItems():
            return f"has {_count(len(kind.unexpected), 'item')} that the schema does not allow"
        case Kind.OneOfMultipleValid():
            return "fits more than one of the forms, and the schema allows one"
        case Kind.Not():
            return "has the form that the schema rules out"
        case Kind.ContentEncoding():
            return f"must be encoded as {kind.content_encoding}"
        case Kind.ContentMediaType():
            return f"must hold {kind.content_media_type}"
        case _:
            return f"breaks the rule {kind.name!r} of the schema"


def _wanted_items(holder: Json, document: Json) -> str:
    """Say how many items the schema ``holder`` wants a list to contain, by the title of what it asks for."""
    rules: Mapping[str, Json] = holder if isinstance(holder, dict) else {}
    schema = rules.get("contains")
    if isinstance(schema, dict) and str(schema.get("$ref", "")).startswith("#/"):
        schema = at(document, parts_of(schema["$ref"][1:]))
    title = schema.get("title") if isinstance(schema, dict) else None
    wanted = one_line(str(title or "an item that the schema asks for"), 60)
    least, most = rules.get("minContains", 1), rules.get("maxContains")
    if most is None:
        return f"{wanted} is missing" if least == 1 else f"must hold {wanted} at least {least} times"
    return f"must hold {wanted} {f'{least} to ' * (least != most)}{_count(most, 'time')}"


def _unknown_key(key: str, known: Collection[str]) -> str:
    """Name an unknown key, with its code points where it only looks like a known one."""
    from difflib import get_close_matches

    odd = [c for c in key if not " " <= c <= "~"]
    message = f"unknown key {one_line(key, 60)!r}"
    if odd:
        points = ", ".join(f"U+{ord(c):04X} {unicodedata.name(c, 'unnamed')}" for c in dict.fromkeys(odd[:5]))
        message += f" (with {points})"
    folded = "".join(c if c not in odd else "?" for c in unicodedata.normalize("NFKC", key))
    near = get_close_matches(folded, known, n=1, cutoff=0.7)
    return message + (f"; did you mean {near[0]!r}?" if near and near[0] != key else "")


def _value_text(value: Json) -> str:
    return one_line(json.dumps(value, ensure_ascii=False), _VALUE_CHARS)


def _either(types: list[str]) -> str:
    names = [_TYPES[name] for name in sorted(set(types))]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")
