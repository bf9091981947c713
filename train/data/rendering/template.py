"""Chat templates in Jinja's immutable sandbox, in a child with little memory and time; conversation.py is its parent.

The child (`python -I template.py`, a JSON object a line in both directions) exists because the sandbox stops code but
not work: `'a' * 10**10` kills the process that renders it. Nothing of `train` is imported here, so it starts at once.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CHILD_BYTES, CHILD_SECONDS = 768 << 20, 5
# A template's own text, and how often it may write what it was given (refused later with a better reason).
MOST_CHARACTERS, MOST_COPIES = 4 << 20, 4
_FAULTS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks what the assistant writes, which is seen without it."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that Jinja reads

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


class _Sandbox(ImmutableSandboxedEnvironment):
    def unsafe_undefined(self, obj: object, attribute: str) -> NoReturn:
        """Refuse at once; Jinja's own answer is an undefined value, which prints as nothing."""
        raise SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__!r} object is unsafe.")


class ChatTemplate:
    """A compiled template with the words that chat templates expect (raise_exception, tojson), but no clock or dice."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.tokens = dict(tokens)
        self.sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        # The same conversation must always become the same tokens. An undefined name may stand in a template unnoticed.
        del self.sandbox.filters["random"]
        self.sandbox.globals |= {"raise_exception": _raise, "lipsum": _no_dice}
        self.sandbox.filters["tojson"] = _to_json
        self.compiled = self.sandbox.from_string(source)

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None, is_prompt: bool) -> str:
        """Return the text; ``is_prompt`` asks for an answer's opening too."""
        return self.compiled.render(
            messages=messages, tools=tools, documents=None, add_generation_prompt=is_prompt, **self.tokens
        )


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _no_dice(*_: Any, **__: Any) -> NoReturn:
    raise SecurityError("a chat template draws no random words")


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    # Not Jinja's own filter, which escapes < > & for HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _child() -> int:
    """Compile the first line's template, then render the requests of a line, until the parent closes the pipe."""
    # A template can ask for any amount with a product of strings; the system says no before the machine swaps.
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
    template: ChatTemplate | None = None
    for line in sys.stdin:
        # A clock in Python would never be request: a template may stay inside one operator for hours.
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1 + CHILD_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        answer: Any = {}
        try:
            request = json.loads(line)
            if template is None:
                template = ChatTemplate(request["template"], request["tokens"])
            else:
                answer = [_rendered(template, *one) for one in request]
        except MemoryError:
            # Of one conversation it is a fault; of many it may be that they are many.
            answer = {"fault": "it takes more memory than a template may"}
        except _FAULTS as error:
            answer = {"fault": _sentence(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


def _rendered(
    template: ChatTemplate, messages: list[Any], tools: Any, is_prompt: bool, turn: int | None
) -> dict[str, Any]:
    """Return {"text", "start"}; {"refused": why} where the template says no itself, {"fault": why} where it fails.

    The start is the number of characters before a ``turn`` that is generated, -1 where they do not begin the text.
    """
    start = -1
    try:
        text = template.render(messages, tools, is_prompt)
        if turn is not None and text.startswith(opening := template.render(messages[:turn], tools, True)):
            start = len(opening)
    except _FAULTS as error:
        # Jinja's own errors are of derived types.
        return {"refused": str(error)[:500]} if type(error) is TemplateError else {"fault": _sentence(error)}
    if len(text) > MOST_CHARACTERS:
        size = len(json.dumps([messages, tools]))
        if len(text) > MOST_CHARACTERS + MOST_COPIES * size:
            return {"fault": f"ValueError: a conversation of {size:,} characters becomes {len(text):,}"}
    return {"text": text, "start": start}


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


if __name__ == "__main__":
    sys.exit(_child())
