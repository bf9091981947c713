"""Chat templates in Jinja's immutable sandbox, in a child with little memory and time; conversation.py is its parent.

The child (`python -I template.py`, a JSON object a line in both directions) exists because the sandbox stops code but
not work: `'a' * 10**10` kills the process that renders it. Nothing of `train` is imported here, so it starts at once.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError, TemplateRuntimeError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Noncharacters: no exchangeable text contains them, so they can stand for the ends of a {% generation %} block.
MARK_START, MARK_END = _MARKS = "\ufdd0", "\ufdd1"
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
        sandbox.num_marked += 1
        return f"{MARK_START}{text}{MARK_END}" if sandbox.has_marks else text


class _Sandbox(ImmutableSandboxedEnvironment):
    has_marks, num_marked = False, 0

    def unsafe_undefined(self, obj: object, attribute: str) -> NoReturn:
        """Refuse at once; Jinja's own answer is an undefined value, which prints as nothing."""
        raise SecurityError(f"access to attribute {attribute!r} of {type(obj).__name__!r} object is unsafe.")


class ChatTemplate:
    """A compiled template with the words that chat templates expect (raise_exception, tojson), but no clock or dice."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.tokens = dict(tokens)
        self.sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        self.sandbox.globals["raise_exception"] = _raise
        self.sandbox.filters["tojson"] = _to_json
        # The same conversation must always become the same tokens.
        del self.sandbox.filters["random"]
        self.sandbox.globals["lipsum"] = _no_dice
        self.compiled = self.sandbox.from_string(source)
        self._are_marks_unseen = _are_marks_unseen(self.sandbox.parse(source))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        *,
        is_prompt: bool,
        has_marks: bool = False,
    ) -> str:
        """Return the text; ``is_prompt`` asks for the next answer's opening, ``has_marks`` for generation marks."""
        self.sandbox.has_marks, self.sandbox.num_marked = has_marks, 0
        return self.compiled.render(
            messages=messages, tools=tools, documents=None, add_generation_prompt=is_prompt, **self.tokens
        )

    def without_marks(self, marked: str) -> str | None:
        """Return what `render` would give without marks where it gave ``marked`` last, None where that is not sure."""
        # One that the conversation has itself, or that the template made otherwise, is one too many.
        if not self._are_marks_unseen or any(marked.count(mark) != self.sandbox.num_marked for mark in _MARKS):
            return None
        return marked.replace(MARK_START, "").replace(MARK_END, "")


def _are_marks_unseen(tree: nodes.Template) -> bool:
    # Whether no code of the template reads what it wrote, as where that is assigned, filtered or a macro's.
    readers = (nodes.AssignBlock, nodes.FilterBlock, nodes.Macro, nodes.Block)
    if any(tree.find_all((*readers, nodes.Include, nodes.Extends))):
        return False
    return not any(any(block.find_all(nodes.CallBlock)) for block in tree.find_all(nodes.CallBlock))


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _no_dice(*_: Any, **__: Any) -> NoReturn:
    # Not removed: an undefined name may stand in a template unnoticed.
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
        _TIME_LIMIT.renew()
        try:
            request = json.loads(line)
            if template is None:
                template = ChatTemplate(request["template"], request["tokens"])
                answer: dict[str, Any] = {}
            else:
                answer = {"conversations": [_rendering(template, talk) for talk in request["conversations"]]}
        except MemoryError:
            # Of one conversation it is a fault; of many it may be that they are many.
            answer = {"fault": "it takes more memory than a template may"}
        except _FAULTS as error:
            answer = {"fault": _sentence(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


def _rendering(template: ChatTemplate, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the text of a conversation, for each turn of ``openings`` what stands before it when it is generated, for
    each of ``endings`` the text as far as that turn, and the generation blocks where ``has_marks`` asks for them.

    A number stands for so many characters of the text, {"refused": why} or {"fault": why} for one that there is not.
    """
    messages, tools = request["messages"], request["tools"]
    marked = _text(template, messages, tools, has_marks=True) if request["has_marks"] else None
    text: Any = template.without_marks(marked) if isinstance(marked, str) else None
    if text is None:
        text = _text(template, messages, tools)

    def part(stop: int, *, is_prompt: bool) -> Any:
        # Nearly always a beginning of the text, of which its length says all, so that the pipe carries little.
        own = _text(template, messages[:stop], tools, is_prompt=is_prompt)
        return len(own) if isinstance(text, str) and isinstance(own, str) and text.startswith(own) else own

    openings = [part(turn, is_prompt=True) for turn in request["openings"]]
    endings = [part(turn + 1, is_prompt=False) for turn in request["endings"]]
    marks: Any = []
    # A mark that the conversation itself has would be taken for the template's.
    if marked is not None and isinstance(text, str) and MARK_START not in text and MARK_END not in text:
        marks = marked_spans(marked) if isinstance(marked, str) else marked
    return {"text": text, "openings": openings, "endings": endings, "marks": marks}


def _text(
    template: ChatTemplate, messages: Any, tools: Any, *, is_prompt: bool = False, has_marks: bool = False
) -> str | dict[str, str]:
    _TIME_LIMIT.renew()
    try:
        text = template.render(messages, tools, is_prompt=is_prompt, has_marks=has_marks)
        if len(text) > MOST_CHARACTERS:
            size = len(json.dumps([messages, tools]))
            if len(text) > MOST_CHARACTERS + MOST_COPIES * size:
                return {"fault": f"ValueError: a conversation of {size:,} characters becomes {len(text):,}"}
    except (SecurityError, TemplateRuntimeError, TemplateSyntaxError) as error:
        return {"fault": _sentence(error)}
    except TemplateError as error:
        return {"refused": str(error)[:500]}
    except _FAULTS as error:
        return {"fault": _sentence(error)}
    return text


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


class _TimeLimit:
    """The CPU time that this process may still use; the system ends it when that is over."""

    # A clock in Python would never be asked: a template may stay inside one operator for hours.

    def __init__(self) -> None:
        self._renewed = -math.inf

    def renew(self) -> None:
        """Let what comes next have CHILD_SECONDS, but for less than a quarter of one: system calls cost time too."""
        if time.monotonic() - self._renewed > 0.25:
            used = resource.getrusage(resource.RUSAGE_SELF)
            limit = int(used.ru_utime + used.ru_stime) + 1 + CHILD_SECONDS
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
            self._renewed = time.monotonic()


_TIME_LIMIT = _TimeLimit()


def marked_spans(text: str) -> list[tuple[int, int]]:
    """Return the [start, end) of each generation block of a text with marks, counted without the marks."""
    spans, start, length = [], 0, 0
    for part in text.split(MARK_START):
        inside, end, outside = part.partition(MARK_END)
        if end:
            start, length = length, length + len(inside)
            spans.append((start, length))
            length += len(outside)
        else:
            length += len(part)
    return spans


if __name__ == "__main__":
    sys.exit(_child())
