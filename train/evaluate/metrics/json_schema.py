"""Structured output: does it parse, does it fit the schema, are the fields right. Three numbers, never one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

from train.base.worker import Worker
from train.data.strict import unique_members
from train.evaluate.metrics import Scores, metric, normalise

SECONDS = 2.0
"""The longest that one validation may take."""
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
    both have. Texts are compared after NFKC and squeezing of white space, 2 equals 2.0, true is not 1. With ``ordered``
    off the position in a list does not count. Without a schema, or where it refers to something that is not in it or
    takes over two seconds, there is no ``valid``; a reference that is not JSON leaves ``field_f1`` out, and the record
    unscored.
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
        wanted = _fields(_loads(reference), ordered=ordered)
    except NotJsonError:
        return scores
    ours = _fields(got, ordered=ordered) if scores["parse"] else Counter[Any]()
    scores["field_f1"] = 2 * (ours & wanted).total() / (ours.total() + wanted.total())
    return scores


def _loads(text: str) -> Any:
    """Return the one value that ``text`` holds, as strict JSON.

    Raises NotJsonError: it is not; numbers beyond the range of a float, repeated keys and NaN included.
    """
    # Most chat models put a fence around JSON; it is a habit of form and not of content.
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        text = text[text.index("\n") : -3]
    return strict_loads(text)


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


def _fields(value: Any, *, ordered: bool) -> Counter[Any]:
    """Return how often each (path, leaf) occurs; an empty object or list is a leaf of its own."""
    counts: Counter[Any] = Counter()
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, dict) and node:
            waiting += [((*path, key), inner) for key, inner in node.items()]
        elif isinstance(node, list) and node:
            waiting += [((*path, position if ordered else -1), inner) for position, inner in enumerate(node)]
        elif isinstance(node, str):
            counts[path, "text", normalise(node)] += 1
        elif isinstance(node, bool) or not isinstance(node, int | float):
            counts[path, "other", repr(node)] += 1
        else:
            counts[path, "number", node] += 1
    return counts


def fits(value: Any, schema: Mapping[str, Any]) -> bool | None:
    """Return whether ``value`` fits, or None where the schema leads out of itself, in a circle, or takes too long.

    Raises ValueError: it is no JSON Schema.
    """
    answer = _CHILD.ask([schema, value])
    if isinstance(answer, dict):
        raise ValueError(f"the schema cannot be used: {answer['fault']}")
    return None if answer is None else bool(answer)
