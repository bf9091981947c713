"""Render chat templates in Jinja's immutable sandbox; as a program, do so in a child with little memory and time.

The child (`python -I template.py`, a JSON request on stdin) exists because the sandbox stops code but not work:
`'a' * 10**10` kills the process that renders it. Nothing of `train` is imported here, so the child starts at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Noncharacters: no exchangeable text contains them, so they can stand for the ends of a {% generation %} block.
MARK_START, MARK_END = "\ufdd0", "\ufdd1"
CHILD_BYTES, CHILD_SECONDS, MOST_CHARACTERS = 768 << 20, 5, 4 << 20


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that Jinja reads

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller: Any) -> str:
        text = str(caller())
        return f"{MARK_START}{text}{MARK_END}" if getattr(self.environment, "has_marks", False) else text


class _Sandbox(ImmutableSandboxedEnvironment):
    has_marks = False


class ChatTemplate:
    """A compiled template with the words that chat templates expect (raise_exception, tojson), but without a clock."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self.tokens = dict(tokens)
        self.has_generation = "endgeneration" in source
        self.sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.sandbox.globals["raise_exception"] = _raise
        self.sandbox.filters["tojson"] = _to_json
        self.compiled = self.sandbox.from_string(source)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        *,
        is_prompt: bool,
        has_marks: bool = False,
    ) -> str:
        """Return the text; ``is_prompt`` asks for the opening of the next answer, ``has_marks`` for generation
        marks.
        """
        self.sandbox.has_marks = has_marks
        return self.compiled.render(
            messages=messages, tools=tools, documents=None, add_generation_prompt=is_prompt, **self.tokens
        )


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # Not Jinja's own filter, which escapes < > & for HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _child() -> int:
    """Render a request's conversations; the answer is {"texts": [...]} where null is a template's own refusal."""
    import resource

    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CHILD_SECONDS, CHILD_SECONDS))
    try:
        template = ChatTemplate(request["template"], request["tokens"])
        texts = [_one(template, messages, is_prompt) for messages, is_prompt in request["conversations"]]
        answer: dict[str, Any] = {"texts": texts}
    except MemoryError:
        answer = {"fault": "it takes more memory than a template may"}
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        answer = {"fault": f"{type(error).__name__}: {error}"[:500]}
    sys.stdout.write(json.dumps(answer))
    return 0


def _one(template: ChatTemplate, messages: list[dict[str, Any]], is_prompt: bool) -> str | None:
    from jinja2.exceptions import SecurityError, TemplateRuntimeError, TemplateSyntaxError

    try:
        text = template.render(messages, None, is_prompt=is_prompt)
    except (SecurityError, TemplateRuntimeError, TemplateSyntaxError):
        raise
    except TemplateError:
        return None
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"a short conversation becomes {len(text):,} characters")
    return text


if __name__ == "__main__":
    sys.exit(_child())
