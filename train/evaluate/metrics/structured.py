"""Structured answers: JSON and its schema, calls of tools, and the contract of a category."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from train.base.process import Worker
from train.base.strict_json import MOST_LEVELS, depth, levels, unique_members
from train.evaluate.metrics import Scores, metric, normalise

# In a child, since a pattern or a tower of references in a schema can take longer than the universe has. An empty
# registry: a reference to the network or to a file is refused instead of fetched.
_PROGRAM = """
import json, re, sys
import jsonschema, referencing
from referencing.exceptions import Unresolvable
compiled = {}
for line in sys.stdin:
    rule, value = json.loads(line)
    name = json.dumps(rule, sort_keys=True)
    try:
        if isinstance(rule, str):
            answer = [match[0] for match in re.finditer(rule, value) if match[0]]
        else:
            if name not in compiled:
                kind = jsonschema.validators.validator_for(rule, default=jsonschema.Draft202012Validator)
                kind.check_schema(rule)
                compiled[name] = kind(rule, registry=referencing.Registry())
            answer = compiled[name].is_valid(value)
    except (Unresolvable, RecursionError):
        answer = None
    except Exception as error:
        answer = {"fault": str(getattr(error, "message", error))[:300]}
    sys.stdout.write(json.dumps(answer) + "\\n")
    sys.stdout.flush()
"""
_CHILD = Worker(["-c", _PROGRAM], handshake=[{}, None], timeout=2.0)


@metric("json_schema", primary="field_f1")
def json_schema(completion: str, reference: str, *, schema: Mapping[str, Any] | None = None) -> Scores:
    """``parse``: it is strict JSON; ``valid``: it fits ``schema``; ``field_f1``: its values are those of the reference.

    One code fence around the JSON is taken off. A field is a path with the value at its end; F1 counts the fields that
    both have. Texts and keys are compared after NFKC and squeezing of white space, 2 equals 2.0, true is not 1. Over 64
    levels are not read. Without a schema, or where it refers to something that is not in it or takes over two seconds,
    there is no ``valid``; a reference that is not JSON leaves ``field_f1`` out, and the record unscored.
    """
    got, right = _values(completion), _values(reference)
    scores = {"parse": float(bool(got))}
    if schema is not None and (is_fit := _ask(schema, next(iter(got), None))) is not None:
        scores["valid"] = float(is_fit and bool(got))
    if right:
        ours, theirs = (Counter(field for value in values for field in _fields(value)) for values in (got, right))
        scores["field_f1"] = 2 * (ours & theirs).total() / (ours.total() + theirs.total())
    return scores


def _values(text: str) -> list[Any]:
    """Return the one value that ``text`` holds as strict JSON; else nothing."""
    # Most chat models put a fence around JSON; it is a habit of form and not of content.
    fenced = re.fullmatch(r'(?s)```(?:[a-zA-Z][^\n{\["]*)?(.*)```', text.strip())
    with suppress(ValueError):
        return [strict_loads(fenced[1] if fenced else text)]
    return []


def strict_loads(text: str) -> Any:
    """Return the one value that ``text`` is, as strict JSON of at most 64 levels.

    Raises ValueError: it is not; numbers beyond the range of a float, repeated keys and NaN included.
    """
    try:
        value = json.loads(text, object_pairs_hook=unique_members)
        # Refuses NaN and Infinity, which 1e999 becomes, too.
        json.dumps(value, allow_nan=False)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if depth(value) > MOST_LEVELS:
        raise ValueError("nested too deeply")
    return value


def _fields(value: Any, path: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Yield each path with the value at its end; an empty object or list is a value of its own."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _fields(inner, (*path, normalise(key) if isinstance(key, str) else key))
    else:
        yield path, _frozen(normalise(value) if isinstance(value, str) else value)


def _frozen(value: Any) -> Any:
    """Return a JSON value as one that can be compared: 2 is 2.0, true is not 1."""
    if isinstance(value, Mapping):
        return frozenset((key, _frozen(inner)) for key, inner in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list) else (isinstance(value, bool), value)


def _ask(rule: str | Mapping[str, Any], value: Any) -> Any:
    """Return whether ``value`` fits a schema, or what a pattern matches in it.

    None where the schema leads out of itself or in a circle, or it takes over two seconds. Raises ValueError: the rule
    is no JSON Schema, or no pattern.
    """
    answer = _CHILD.ask([rule, value])
    if isinstance(answer, dict):
        raise ValueError(f"the {'pattern' if isinstance(rule, str) else 'schema'} cannot be used: {answer['fault']}")
    return answer


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


@metric("tool_calls", primary="match")
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
    if calls := _json_calls(text):
        return calls
    parts = [
        _json_calls(part)
        or [_Call(name, dict(_XML_ARGUMENT.findall(body)), is_text=True) for name, body in _XML_CALL.findall(part)]
        for part in _TAGGED.findall(text) or [text]
    ]
    return [call for part in parts for call in part] if all(parts) else []


def _json_calls(text: str) -> list[_Call]:
    """Return the calls of a text that is JSON values and nothing else, or names with the objects of their arguments."""
    calls: list[_Call | None] = []
    while text := _SIGNS.sub("", text):
        if name := _NAMED.match(text):
            text = text[name.end() :]
        try:
            _, end = json.JSONDecoder().raw_decode(text)
            value, text = strict_loads(text[:end]), text[end:]
        except (ValueError, RecursionError):
            return []
        values = [{"name": name[1], "arguments": value}] if name else value if isinstance(value, list) else [value]
        calls += map(_call_of, values)
    return [call for call in calls if call is not None] if None not in calls else []


def _call_of(value: Any) -> _Call | None:
    if not isinstance(value, Mapping):
        return None
    # Beside the name of a call "function" may be any text.
    call = value["function"] if isinstance(value.get("function"), Mapping) else value
    if not isinstance(call.get("name"), str) or not call["name"]:
        return None
    arguments: Any = next((call[key] for key in ("arguments", "parameters") if call.get(key) is not None), {})
    if isinstance(arguments, str):
        with suppress(ValueError):
            arguments = strict_loads(arguments)
    return _Call(call["name"], arguments) if isinstance(arguments, Mapping) else None


def _is_same(ours: Sequence[_Call], theirs: Sequence[_Call]) -> bool:
    """Return whether two lists hold the same calls, in any order."""
    # One by one, since what text in XML equals hangs on the other side; there are never many calls.
    unmatched = list(theirs)
    for call in ours:
        twin = next((number for number, candidate in enumerate(unmatched) if _is_equal(call, candidate)), None)
        if twin is None:
            return False
        del unmatched[twin]
    return not unmatched


def _is_equal(ours: _Call, theirs: _Call) -> bool:
    if ours.name != theirs.name or ours.arguments.keys() != theirs.arguments.keys():
        return False
    if ours.is_text is theirs.is_text:
        return bool(_frozen(ours.arguments) == _frozen(theirs.arguments))
    text, typed = (ours, theirs) if ours.is_text else (theirs, ours)
    return all(_spells(text.arguments[key], value) for key, value in typed.arguments.items())


def _spells(text: str, value: Any) -> bool:
    # As Python prints them, and so some templates do.
    if isinstance(value, str) or text in ("True", "False", "None"):
        return text == str(value)
    with suppress(ValueError):
        return bool(_frozen(strict_loads(text)) == _frozen(value))
    return False


_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.S)
# The same bounds as curation has for its records, in its check of languages.
_READ, _MIN_LETTERS, _FOREIGN_SHARE = 2000, 20, 0.8


@metric("contract", primary="kept")
def contract(
    completion: str,
    reference: str,
    *,
    schema: Mapping[str, Any] | None = None,
    min_chars: int = 0,
    max_chars: int = 0,
    scripts: Sequence[str] = (),
    citations: str = "",
    at_least: int = 1,
    in_prompt: bool = False,
    prompt: str = "",
) -> Scores:
    """1 for each rule of the category's contract that the completion keeps, and ``kept`` when it keeps all of them.

    ``schema``: the completion, trimmed, is strict JSON that fits it. ``length``: it has ``min_chars`` to ``max_chars``
    characters (0: no limit). ``language``: at least a fifth of its letters, if there are 20, are of ``scripts`` (first
    words of Unicode names). ``citations``: it has ``at_least`` matches of that pattern, and with ``in_prompt`` each
    stands in ``prompt``, the texts before the answer. A rule that cannot be decided in time is left out, and ``kept``
    with it. Without a rule there is no score.
    """
    text = completion.strip()
    verdicts: dict[str, bool | None] = {}
    if schema is not None:
        verdicts["schema"] = _is_structured(text, schema)
    if min_chars or max_chars:
        verdicts["length"] = min_chars <= len(text) <= (max_chars or len(text))
    if scripts:
        verdicts["language"] = _is_written_in(text, scripts)
    if citations:
        verdicts["citations"] = _is_cited(text, citations, at_least, prompt if in_prompt else None)
    scores = {name: float(is_met) for name, is_met in verdicts.items() if is_met is not None}
    if verdicts and len(scores) == len(verdicts):
        scores["kept"] = float(all(verdicts.values()))
    return scores


def _is_structured(text: str, schema: Mapping[str, Any]) -> bool | None:
    try:
        value = strict_loads(text)
        # Curation refuses what other programs would read in another way.
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        # The schema is compiled all the same, so that an unusable one is reported before any training.
        _ask(schema, None)
        return False
    has_large = any(type(node) is int and not -(2**63) <= node < 2**63 for level in levels(value) for node in level)
    return False if has_large else _ask(schema, value)


def _is_written_in(text: str, scripts: Sequence[str]) -> bool:
    # Return whether the letters may be of the language: those of other scripts are less than four in five.
    # Code and addresses are written in ASCII in every language.
    sample = _CODE.sub(" ", text[:_READ])
    names = Counter(unicodedata.name(letter, "?").split(" ", 1)[0] for letter in sample if letter.isalpha())
    names.update({"CJK": names.pop("IDEOGRAPHIC", 0)})
    expected = sum(names[script] for script in scripts)
    return names.total() < _MIN_LETTERS or expected > (1 - _FOREIGN_SHARE) * names.total()


def _is_cited(text: str, pattern: str, at_least: int, source: str | None) -> bool | None:
    matches = _ask(pattern, text)
    if matches is None:
        return None
    return len(matches) >= at_least and (source is None or all(match in source for match in matches))
