"""Structured output: does it parse, does it fit the schema, are the fields right. Three numbers, never one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from train.base.worker import Worker
from train.data.strict import MOST_LEVELS, depth, levels, unique_members
from train.evaluate.metrics import Scores, metric, normalise

SECONDS = 2.0
"""The longest that one validation may take."""
_MOST_PAIRS = 200_000
# In a child, since a pattern or a tower of references in the schema can take longer than the universe has. An empty
# registry: a reference to the network or to a file is refused instead of fetched.
_PROGRAM = """
import json, sys
import jsonschema, referencing
from referencing.exceptions import Unresolvable
compiled = {}
for line in sys.stdin:
    schema, value = json.loads(line)
    name = json.dumps(schema, sort_keys=True)
    try:
        if name not in compiled:
            kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
            kind.check_schema(schema)
            compiled[name] = kind(schema, registry=referencing.Registry())
        answer = compiled[name].is_valid(value)
    except (Unresolvable, RecursionError):
        answer = None
    except Exception as error:
        answer = {"fault": str(getattr(error, "message", error))[:300]}
    sys.stdout.write(json.dumps(answer) + "\\n")
    sys.stdout.flush()
"""
_CHILD = Worker(["-c", _PROGRAM], greeting=[{}, None], seconds=SECONDS)

_ORDER = {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}}


class NotJsonError(ValueError):
    """The text is not strict JSON."""


@metric(
    "json_schema",
    primary="field_f1",
    cases=[
        ('{"id": "A", "n": 2}', '{"n": 2.0, "id": "A"}', {"parse": 1.0, "field_f1": 1.0}),
        ('{"id": "A"}', '{"id": "A", "n": 2}', {"parse": 1.0, "field_f1": 2 / 3}),
        ('{"id": "B", "n": 2}', '{"id": "A", "n": 2}', {"parse": 1.0, "field_f1": 0.5}),
        ('{"id": ["x", "y"]}', '{"id": ["y", "x"]}', {"parse": 1.0, "field_f1": 0.0}),
        ('{"id": ["x", "y"]}', '{"id": ["y", "x"]}', {"parse": 1.0, "field_f1": 1.0}, {"ordered": False}),
        ('{"id": true}', '{"id": 1}', {"parse": 1.0, "field_f1": 0.0}),
        ("{}", "{}", {"parse": 1.0, "field_f1": 1.0}),
        ("Sure! {", '{"id": "A"}', {"parse": 0.0, "field_f1": 0.0}),
        ('```json\n{"id": "A"}\n```', '{"id": "A"}', {"parse": 1.0, "field_f1": 1.0}),
        ('{"id": NaN}', '{"id": 1}', {"parse": 0.0, "field_f1": 0.0}),
        ('{"id": 1, "id": 2}', '{"id": 2}', {"parse": 0.0, "field_f1": 0.0}),
        ('{"id": "A"}', "not json", {"parse": 1.0}),
        ('{"id": "A"}', '{"id": "A"}', {"parse": 1.0, "valid": 1.0, "field_f1": 1.0}, {"schema": _ORDER}),
        ('{"n": 2}', '{"id": "A"}', {"parse": 1.0, "valid": 0.0, "field_f1": 0.0}, {"schema": _ORDER}),
        ("[", '{"id": "A"}', {"parse": 0.0, "valid": 0.0, "field_f1": 0.0}, {"schema": _ORDER}),
    ],
)
def json_schema(
    completion: str, reference: str, *, schema: Mapping[str, Any] | None = None, ordered: bool = True
) -> Scores:
    """``parse``: it is strict JSON; ``valid``: it fits ``schema``; ``field_f1``: its values are those of the reference.

    One code fence around the JSON is taken off. A field is a path with the value at its end; F1 counts the fields that
    both have. Texts and keys are compared after NFKC and squeezing of white space, 2 equals 2.0, true is not 1. With
    ``ordered`` off the position in a list does not count: elements are matched as wholes, those first that have most in
    common; two lists of over 200,000 pairs of fields are sorted instead. Over 64 levels are not read. Without a schema,
    or where it refers to something that is not in it or takes over two seconds, there is no ``valid``; a reference that
    is not JSON leaves ``field_f1`` out, and the record unscored.
    """
    if schema is not None and not isinstance(schema, Mapping):
        raise ValueError("schema must be a JSON Schema written as a table")
    scores: dict[str, float] = {}
    try:
        got = _loads(completion)
        scores["parse"] = 1.0
    except NotJsonError:
        got = None
        scores["parse"] = 0.0
    if schema is not None:
        is_fit = fits(got, schema)
        if is_fit is not None:
            scores["valid"] = float(is_fit and bool(scores["parse"]))
    try:
        right = _loads(reference)
    except NotJsonError:
        return scores
    num_fields = _num_fields(got) + _num_fields(right)
    scores["field_f1"] = scores["parse"] and 2 * _num_common(got, right, ordered=ordered) / num_fields
    return scores


def _loads(text: str) -> Any:
    """Return the one value that ``text`` holds, as strict JSON.

    Raises NotJsonError: it is not; numbers beyond the range of a float, repeated keys, NaN and over 64 levels included.
    """
    # Most chat models put a fence around JSON; it is a habit of form and not of content.
    fenced = re.fullmatch(r'(?s)```(?:[a-zA-Z][^\n{\["]*)?(.*)```', text.strip())
    value = strict_loads(fenced[1] if fenced else text)
    return value if depth(value) <= MOST_LEVELS else _refuse("it is nested too deeply and")


def strict_loads(text: str) -> Any:
    """Return the one value that ``text`` is, as strict JSON.

    Raises NotJsonError: it is not; numbers beyond the range of a float, repeated keys and NaN included.
    """
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=unique_members, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(str(error)) from error


def _refuse(constant: str) -> NoReturn:
    raise NotJsonError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if abs(value) != float("inf") else _refuse(digits)


def _num_fields(value: Any) -> int:
    """Return how many leaves there are; an empty object or list is one of its own."""
    return sum(not node or not isinstance(node, dict | list) for level in levels(value) for node in level)


def _num_common(ours: Any, theirs: Any, *, ordered: bool) -> int:
    """Return how many fields both have; without order, elements of lists are matched as wholes, the likest first."""
    if not ours or type(ours) is not type(theirs) or not isinstance(ours, dict | list):
        return int(_leaf(ours) == _leaf(theirs))
    if isinstance(ours, dict) or ordered or _num_fields(ours) * _num_fields(theirs) > _MOST_PAIRS:
        mine, yours = (
            dict[Any, Any](
                ((normalise(key), inner) for key, inner in value.items())
                if isinstance(value, dict)
                else enumerate(value if ordered else sorted(value, key=repr))
            )
            for value in (ours, theirs)
        )
        return sum(_num_common(mine[key], yours[key], ordered=ordered) for key in mine.keys() & yours.keys())
    total, taken = 0, set[int]()
    pairs = ((_num_common(a, b, ordered=False), i, ~j) for i, a in enumerate(ours) for j, b in enumerate(theirs))
    for number, *pair in sorted(pairs, reverse=True):
        if taken.isdisjoint(pair):
            total += number
            taken.update(pair)
    return total


def _leaf(node: Any) -> tuple[str, Any]:
    if isinstance(node, str):
        return "text", normalise(node)
    return ("number", node) if type(node) in (int, float) else ("other", repr(node))


def fits(value: Any, schema: Mapping[str, Any]) -> bool | None:
    """Return whether ``value`` fits, or None where the schema leads out of itself, in a circle, or takes too long.

    Raises ValueError: it is no JSON Schema.
    """
    answer = _CHILD.ask([schema, value])
    if isinstance(answer, dict):
        raise ValueError(f"the schema cannot be used: {answer['fault']}")
    return None if answer is None else bool(answer)
