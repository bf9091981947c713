"""Whether an answer calls the right tools with the right arguments, whatever form the calls are written in."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from train.evaluate.metrics import Scores, metric
from train.evaluate.metrics.json_schema import NotJsonError, strict_loads

_FIND = '{"name": "find", "arguments": {"city": "Paris", "n": 2}}'
_HELP = '{"name": "help", "arguments": {}}'
_RIGHT = {"match": 1.0, "names": 1.0, "parsed": 1.0}
_OTHER = {"match": 0.0, "names": 1.0, "parsed": 1.0}
_NONE = {"match": 0.0, "names": 0.0, "parsed": 0.0}
# The end of a call may stand in a text of its JSON, and quotes in XML are mere text.
_TAGGED = re.compile(
    r'<tool_call>(\s*<function=.*?|(?:"(?:[^"\\]|\\.)*+(?:"|\Z)|(?!</tool_call>)[^"])*+)(?:</tool_call>|\Z)', re.DOTALL
)
# Control tokens are mostly gone from what was generated, so what they open is read without them too.
_SIGNS = re.compile(r"\A(?:[\s;,]|\[TOOL_CALLS\]|<\|python_tag\|>|<\|tool_calls?\|>|```(?:json)?)+")
_XML_CALL = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_XML_ARGUMENT = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_NAMED = re.compile(r"([A-Za-z_][\w.-]*)\s*(?:\[ARGS\]\s*)?(?=\{)")


class _Call(NamedTuple):
    """A call; of one in XML every argument is text, whose type only the expected value can tell."""

    name: str
    arguments: Mapping[str, Any]
    is_text: bool = False


@metric(
    "tool_calls",
    primary="match",
    kind="calls",
    cases=[
        (_FIND, _FIND, _RIGHT),
        (f"<tool_call>\n{_FIND}\n</tool_call>", _FIND, _RIGHT),
        (f"Let me look.\n<tool_call>{_FIND}</tool_call>", f"<tool_call>\n{_FIND}\n</tool_call>", _RIGHT),
        ('{"name": "find", "parameters": {"n": 2.0, "city": "Paris"}}', _FIND, _RIGHT),
        (f"[TOOL_CALLS] [{_FIND}]", _FIND, _RIGHT),
        ('[TOOL_CALLS]find[ARGS]{"city": "Paris", "n": 2}', _FIND, _RIGHT),
        ('{"type": "function", "function": {"name": "find", "arguments": "{\\"city\\":\\"Paris\\",\\"n\\":2}"}}', _FIND,
         _RIGHT),
        ("<tool_call>\n<function=find>\n<parameter=city>\nParis\n</parameter>\n<parameter=n>\n2\n</parameter>\n"
         "</function>\n</tool_call>", _FIND, _RIGHT),
        (f"<tool_call>{_HELP}</tool_call>\n<tool_call>{_FIND}</tool_call>", f"[{_FIND}, {_HELP}]", _RIGHT),
        (_FIND, f"[{_FIND}, {_FIND}]", _OTHER | {"names": 0.0}),
        ('{"name": "find", "arguments": {"city": "paris", "n": 2}}', _FIND, _OTHER),
        ('{"name": "find", "arguments": {"city": "Paris", "n": true}}', _FIND, _OTHER),
        ('{"name": "find", "arguments": {"city": "Paris"}}', _FIND, _OTHER),
        (_HELP, _FIND, _OTHER | {"names": 0.0}),
        ("", _FIND, _NONE),
        ("It is in Paris.", _FIND, _NONE),
        (f"<tool_call>{_FIND[:-3]}</tool_call>", _FIND, _NONE),
        (_FIND, "It is in Paris.", {}),
        ("", "", {}),
        # The record's own calls decide, where the evaluation passes them.
        (_FIND, f"Well. {_FIND}", {}, {"calls": [{"name": "find", "arguments": {"city": "Paris", "n": 2}}]}),
        ("", f"<tool_call>{_HELP}</tool_call>", _NONE, {"calls": [{"name": "help", "arguments": "{}"}]}),
    ],
)  # fmt: skip
def tool_calls(completion: str, reference: str, *, calls: Sequence[Mapping[str, Any]] = ()) -> Scores:
    """``match``: the completion makes the calls of the reference, all of them and no others, in any order.

    Names must be equal, and arguments as JSON values: 2 is 2.0, true is not 1, texts to the letter. ``names`` asks for
    the names alone, and ``parsed`` says whether a call could be read at all. Read are JSON objects and lists of calls
    with "name" and "arguments" or "parameters", bare, in <tool_call> tags, behind [TOOL_CALLS] or <|python_tag|>, and
    the XML of <function=name>. The evaluation gives the record's own ``calls``. A reference without a call, or in a
    form that is not read, leaves the record unscored.
    """
    expected = _read(reference)
    if calls:
        own = [call for call in map(_call_of, calls) if call is not None]
        # Calls in a form that cannot be read would score 0 for every model.
        expected = own if _is_same(expected, own) else []
    if not expected:
        return {}
    actual = _read(completion)
    return {
        "match": float(_is_same(actual, expected)),
        "names": float(Counter(call.name for call in actual) == Counter(call.name for call in expected)),
        "parsed": float(bool(actual)),
    }


def _read(text: str) -> list[_Call]:
    """Return the calls that a text makes; none where one of them cannot be read."""
    # Calls in no tags may hold one in a text.
    calls = _json_calls(text)
    for part in [] if calls else _TAGGED.findall(text) or [text]:
        calls_of_part = _json_calls(part) or [
            _Call(name, dict(_XML_ARGUMENT.findall(body)), is_text=True) for name, body in _XML_CALL.findall(part)
        ]
        if not calls_of_part:
            return []
        calls += calls_of_part
    return calls


def _json_calls(text: str) -> list[_Call]:
    """The calls of a text that is JSON values and nothing else, or names with the objects of their arguments."""
    calls: list[_Call] = []
    while text := _SIGNS.sub("", text):
        name = _NAMED.match(text)
        if name:
            text = text[name.end() :]
        value, text = _first_value(text)
        values = value if isinstance(value, list) else [value]
        some = [_Call(name[1], value)] if name and isinstance(value, dict) else [_call_of(item) for item in values]
        calls += [call for call in some if call is not None]
        if not some or None in some:
            return []
    return calls


def _first_value(text: str) -> tuple[Any, str]:
    """The strict JSON value that a text begins with, and what follows it; None and nothing where there is none."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
        return strict_loads(text[:end]), text[end:]
    except (ValueError, RecursionError):
        return None, ""


def _call_of(value: Any) -> _Call | None:
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    arguments: Any = next((value[key] for key in ("arguments", "parameters") if value.get(key) is not None), {})
    if isinstance(arguments, str):
        try:
            arguments = strict_loads(arguments)
        except NotJsonError:
            return None
    return _Call(value["name"], arguments) if isinstance(arguments, Mapping) else None


def _is_same(ours: Sequence[_Call], theirs: Sequence[_Call]) -> bool:
    """Whether two lists hold the same calls, in any order."""
    # One by one, since arguments are unhashable and 2 equals 2.0; there are never many calls.
    left = list(theirs)
    for call in ours:
        twin = next((number for number, other in enumerate(left) if _is_equal_call(call, other)), None)
        if twin is None:
            return False
        del left[twin]
    return not left


def _is_equal_call(ours: _Call, theirs: _Call) -> bool:
    is_text = ours.is_text != theirs.is_text
    return (
        ours.name == theirs.name
        and ours.arguments.keys() == theirs.arguments.keys()
        and all(_is_equal(ours.arguments[key], theirs.arguments[key], is_text=is_text) for key in ours.arguments)
    )


def _is_equal(ours: Any, theirs: Any, *, is_text: bool) -> bool:
    """Whether two JSON values are equal; with ``is_text`` one of them may be the text that the other is written as."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_is_equal(ours[k], theirs[k], is_text=False) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(
            _is_equal(a, b, is_text=False) for a, b in zip(ours, theirs, strict=True)
        )
    if isinstance(ours, bool) is isinstance(theirs, bool) and ours == theirs:
        return True
    if not is_text or isinstance(ours, str) is isinstance(theirs, str):
        return False
    text, value = (ours, theirs) if isinstance(ours, str) else (theirs, ours)
    if text in ("True", "False", "None"):
        # As Python prints them, and so some templates do.
        return text == repr(value)
    try:
        return _is_equal(strict_loads(text), value, is_text=False)
    except NotJsonError:
        return False
