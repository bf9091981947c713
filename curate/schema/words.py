"""What jsonschema-rs found wrong, in our words: one problem a broken rule, without values unless asked for."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterator

from jsonschema_rs import ValidationError
from jsonschema_rs import ValidationErrorKind as Kind

from curate.base.console import one_line
from curate.base.record import Json, Problem, json_type
from curate.jsonl import pointer_of
from curate.schema.rules import rules_at, rules_of
from curate.schema.schema_set import SchemaSet
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
_VALUE_CHARS = 80
_MOST_CHARS = 400


class LimitProblem(Problem):
    """The engine gave up on a pattern, so that the value is neither valid nor invalid."""

    __slots__ = ()


# What stands in the engine's own messages for the data, which may be personal or secret.
MASK = "it"


def problems_of(errors: list[ValidationError], project: SchemaSet, *, show_values: bool) -> list[Problem]:
    """Turn the engine's errors into problems."""
    return [problem for error in _narrowest(errors) for problem in _problems(error, project, show_values=show_values)]


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


def _problems(error: ValidationError, project: SchemaSet, *, show_values: bool) -> Iterator[Problem]:
    kind, path = error.kind, error.instance_path
    match kind:
        case Kind.BacktrackLimitExceeded() | Kind.RegexEngineFailure():
            yield LimitProblem("a pattern of the schema needed more work than is allowed", pointer_of(path))
        case Kind.AdditionalProperties() | Kind.UnevaluatedProperties():
            for key in kind.unexpected:
                known_keys = rules_at(project, path).properties
                yield Problem(_unknown_key(key, known_keys), pointer_of([*path, key]))
        case Kind.AnyOf() | Kind.OneOfNotValid():
            yield from _nearest(error, kind.context, project, show_values=show_values)
        case Kind.PropertyNames():
            inner = next(_problems(kind.error, project, show_values=show_values))
            yield Problem(f"a key is not allowed: it {inner.message}", pointer_of(path))
        case Kind.Contains():
            holder = at(project.schema, [str(part) for part in error.schema_path[:-1]])
            yield Problem(_wanted_items(holder, project), pointer_of(path))
        case _:
            value = json.dumps(error.instance, ensure_ascii=False) if show_values else ""
            value_text = f" (value: {one_line(value, _VALUE_CHARS)})" if show_values else ""
            missing = kind.property if isinstance(kind, Kind.Required) else ""
            yield Problem(_sentence(error) + value_text, pointer_of(path), missing)


def _nearest(
    error: ValidationError, context: list[list[ValidationError]], project: SchemaSet, *, show_values: bool
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
            yield from _problems(inner, project, show_values=show_values)
    else:
        parts = {p.message: None for branch in close for e in branch for p in _problems(e, project, show_values=False)}
        yield Problem(" or ".join(parts) or "fits none of the forms that the schema allows", pointer_of(path))


def _distance(branch: list[ValidationError], path: list[str | int]) -> tuple[bool, int, int]:
    """How far a value is from a branch: another kind of thing, then the number of faults, then how shallow they are."""
    is_other = any(
        isinstance(e.kind, Kind.Type | Kind.Constant | Kind.Enum) and e.instance_path == path for e in branch
    )
    return is_other, len(branch), -max(len(e.instance_path) for e in branch)


def _sentence(error: ValidationError) -> str:
    match error.kind:
        case Kind.Required(property=name):
            return f"{one_line(name, 60)!r} is missing"
        case Kind.Type(types=types):
            return f"must be {_either(types)}, not {_TYPES[json_type(error.instance)]}"
        case Kind.FalseSchema():
            return "is not allowed here"
        case Kind.OneOfMultipleValid():
            return "fits more than one of the forms, and the schema allows one"
        case Kind.Not():
            return "has the form that the schema rules out"
        case _:
            return one_line(error.message.removeprefix(f"{MASK} "), _MOST_CHARS)


def _wanted_items(holder: Json, project: SchemaSet) -> str:
    """Say how often the schema ``holder`` wants a list to contain an item, by the title of what it asks for."""
    rules: dict[str, Json] = holder if isinstance(holder, dict) else {}
    title = rules_of(project, rules.get("contains")).notes.get("title") or "an item that the schema asks for"
    name, least, most = one_line(str(title), 60), rules.get("minContains", 1), rules.get("maxContains")
    if most is None and least == 1:
        return f"{name} is missing"
    return f"must hold {name} {f'at least {least}' if most is None else f'{least} to {most}'} times"


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


def _either(types: list[str]) -> str:
    names = [_TYPES[name] for name in sorted(set(types))]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
