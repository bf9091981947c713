"""Go's text/template as far as a Modelfile of ours uses it, read from its documentation and not from our writer.

Text stands for itself; {{- trims white space before it and -}} after it; there are if, else if, else, range, end,
variables, string literals, fields of the dot, eq and and.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_ACTION = re.compile(r'{{(-(?=\s))?\s*((?:"(?:[^"\\]|\\.)*"|[^"}])*?)\s*((?<=\s)-)?}}', re.DOTALL)
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|:=|=|[()]|[$.]?\w*')


@dataclass
class _Block:
    """A branch or loop: alternatives of (condition, nodes); a loop has one."""

    kind: str
    arms: list[tuple[str, list[Any]]] = field(default_factory=list)


def render(source: str, messages: Sequence[Mapping[str, str]]) -> str:
    """Return what Go makes of the template for ``messages``, which are .Messages with .Role and .Content."""
    dot = {"Messages": [{"Role": one["role"], "Content": one["content"]} for one in messages]}
    return "".join(_run(_parse(source), dot, {}))


def _parse(source: str) -> list[Any]:
    root: list[Any] = []
    nodes, open_blocks, position, is_trimming = root, [], 0, False
    for action in _ACTION.finditer(source):
        text = source[position : action.start()]
        text = text.lstrip() if is_trimming else text
        nodes.append(text.rstrip() if action[1] else text)
        position, is_trimming, words = action.end(), bool(action[3]), action[2]
        if words.startswith(("if ", "range ")):
            kind, _, condition = words.partition(" ")
            open_blocks.append((_Block(kind, [(condition, [])]), nodes))
            nodes.append(open_blocks[-1][0])
            nodes = open_blocks[-1][0].arms[-1][1]
        elif words == "else" or words.startswith("else if "):
            open_blocks[-1][0].arms.append((words.removeprefix("else").strip().removeprefix("if ") or "true", []))
            nodes = open_blocks[-1][0].arms[-1][1]
        elif words == "end":
            nodes = open_blocks.pop()[1]
        else:
            nodes.append((words,))
    assert not open_blocks, "a block is not closed"
    rest = source[position:]
    assert "{{" not in rest, rest
    root.append(rest.lstrip() if is_trimming else rest)
    return root


def _run(nodes: list[Any], dot: Any, names: dict[str, Any]) -> list[str]:
    made: list[str] = []
    for node in nodes:
        if isinstance(node, str):
            made.append(node)
        elif isinstance(node, tuple):
            made.append(_action(node[0], dot, names))
        elif node.kind == "range":
            for one in _value(node.arms[0][0], dot, names):
                made += _run(node.arms[0][1], one, names)
        else:
            arm = next((inner for condition, inner in node.arms if _value(condition, dot, names)), [])
            made += _run(arm, dot, names)
    return made


def _action(words: str, dot: Any, names: dict[str, Any]) -> str:
    if (found := re.match(r"(\$\w+)\s*(:?=)\s*(.*)", words, re.DOTALL)) is not None:
        assert found[2] == ":=" or found[1] in names, "an assignment to what was not declared"
        names[found[1]] = _value(found[3], dot, names)
        return ""
    return str(_value(words, dot, names))


def _value(words: str, dot: Any, names: dict[str, Any]) -> Any:
    tokens = [word for word in _WORD.findall(words) if word]
    value, rest = _call(tokens, dot, names)
    assert not rest, rest
    return value


def _call(tokens: list[str], dot: Any, names: dict[str, Any]) -> tuple[Any, list[str]]:
    if tokens[0] not in ("eq", "and"):
        return _term(tokens, dot, names)
    name, rest, given = tokens[0], tokens[1:], []
    while rest and rest[0] != ")":
        value, rest = _term(rest, dot, names)
        given.append(value)
    return (given[0] == given[1] if name == "eq" else all(given)), rest


def _term(tokens: list[str], dot: Any, names: dict[str, Any]) -> tuple[Any, list[str]]:
    first, rest = tokens[0], tokens[1:]
    if first == "(":
        value, rest = _call(rest, dot, names)
        assert rest[0] == ")"
        return value, rest[1:]
    if first.startswith('"'):
        # The escapes that JSON and Go's interpreted strings share.
        return json.loads(first), rest
    if first.startswith("$"):
        return names[first], rest
    if first == "true":
        return True, rest
    return dot[first.removeprefix(".")], rest
