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
from jinja2.exceptions import SecurityError, TemplateRuntimeError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CHILD_BYTES, CHILD_SECONDS = 768 << 20, 5
# A template's own text, and how often it may write what it was given (refused later with a better reason).
MOST_CHARACTERS, MOST_COPIES = 4 << 20, 4
_FAULTS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks what the assistant writes."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that Jinja reads

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller: Any) -> str:
        text, sandbox = str(caller()), self.environment
        assert isinstance(sandbox, _Sandbox)
        sandbox.blocks.append((sandbox.num_written, text))
        return text


class _Sandbox(ImmutableSandboxedEnvironment):
    num_written = 0
    blocks: list[tuple[int, str]]

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

    def render(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None, *, is_prompt: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """Return the text and the [start, end) of each generation block; ``is_prompt`` asks for an answer's opening.

        There are no blocks where the place of one is not sure, as inside a macro.
        """
        sandbox, parts = self.sandbox, list[str]()
        sandbox.num_written, sandbox.blocks = 0, []
        for part in self.compiled.generate(
            messages=messages, tools=tools, documents=None, add_generation_prompt=is_prompt, **self.tokens
        ):
            parts.append(part)
            sandbox.num_written += len(part)
        text = "".join(parts)
        is_sure = all(text.startswith(block, start) for start, block in sandbox.blocks)
        return text, [(start, start + len(block)) for start, block in sandbox.blocks] if is_sure else []


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
    """Compile the first line's template, then render the conversations of a line, until the parent closes the pipe."""
    # A template can ask for any amount with a product of strings; the system says no before the machine swaps.
    resource.setrlimit(resource.RLIMIT_AS, (CHILD_BYTES, CHILD_BYTES))
    template: ChatTemplate | None = None
    for line in sys.stdin:
        # A clock in Python would never be asked: a template may stay inside one operator for hours.
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1 + CHILD_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        try:
            request = json.loads(line)
            if template is None:
                template = ChatTemplate(request["template"], request["tokens"])
                answer: dict[str, Any] = {}
            else:
                answer = {"conversations": [_rendering(template, **one) for one in request["conversations"]]}
        except MemoryError:
            # Of one conversation it is a fault; of many it may be that they are many.
            answer = {"fault": "it takes more memory than a template may"}
        except _FAULTS as error:
            answer = {"fault": _sentence(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


def _rendering(
    template: ChatTemplate, messages: list[Any], tools: Any, openings: list[int], endings: list[int]
) -> dict[str, Any]:
    """Return the text of a conversation, for each turn of ``openings`` what stands before it when it is generated, for
    each of ``endings`` the text as far as that turn, and the generation blocks.

    A number stands for so many characters of the text, {"refused": why} or {"fault": why} for one that there is not.
    """
    text, blocks = _text(template, messages, tools)

    def part(stop: int, *, is_prompt: bool) -> Any:
        # Nearly always a beginning of the text, of which its length says all, so that the pipe carries little.
        own, _ = _text(template, messages[:stop], tools, is_prompt=is_prompt)
        return len(own) if isinstance(text, str) and isinstance(own, str) and text.startswith(own) else own

    return {
        "text": text, "blocks": blocks,
        "openings": [part(turn, is_prompt=True) for turn in openings],
        "endings": [part(turn + 1, is_prompt=False) for turn in endings],
    }  # fmt: skip


def _text(template: ChatTemplate, messages: Any, tools: Any, *, is_prompt: bool = False) -> tuple[Any, Any]:
    try:
        text, blocks = template.render(messages, tools, is_prompt=is_prompt)
    except (SecurityError, TemplateRuntimeError, TemplateSyntaxError) as error:
        return {"fault": _sentence(error)}, []
    except TemplateError as error:
        return {"refused": str(error)[:500]}, []
    except _FAULTS as error:
        return {"fault": _sentence(error)}, []
    if len(text) > MOST_CHARACTERS:
        size = len(json.dumps([messages, tools]))
        if len(text) > MOST_CHARACTERS + MOST_COPIES * size:
            return {"fault": f"ValueError: a conversation of {size:,} characters becomes {len(text):,}"}, []
    return text, blocks


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


if __name__ == "__main__":
    sys.exit(_child())
