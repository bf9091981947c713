"""A chat template that renders in a child process, tried on short conversations before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from train.errors import TrainError
from train.render import template as template_module
from train.render.template import CHILD_SECONDS
from train.worker import Worker

# The child ends itself by its CPU time; this is for one that waits instead, also on a machine that is very busy.
_MOST_SECONDS = 24 * CHILD_SECONDS
_ASKED = {"role": "user", "content": "probe question"}
_ANSWERED = {"role": "assistant", "content": "probe answer"}
_TOLD = {"role": "system", "content": "probe system"}
_PROBES: list[tuple[list[dict[str, Any]], bool]] = [
    ([_ASKED], True),
    ([_TOLD, _ASKED, _ANSWERED], False),
    ([_ASKED, _ANSWERED, _ASKED, _ANSWERED], False),
]


class RenderFault(Exception):  # noqa: N818 - a template's answer as often as a fault
    """A conversation has no text; ``is_refusal`` where the template says so itself (raise_exception)."""

    def __init__(self, reason: str, *, is_refusal: bool) -> None:
        super().__init__(reason)
        self.is_refusal = is_refusal


class SafeTemplate:
    """A chat template in a child of its own, with little memory and time, started again where it died."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self.num_deaths = 0
        """How often a conversation took too long or ended the child, which on another day it may not."""
        self.has_generation = "endgeneration" in source
        greeting = {"template": source, "tokens": dict(tokens)}
        self._worker = Worker([template_module.__file__], greeting=greeting, seconds=_MOST_SECONDS)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        *,
        is_prompt: bool,
        has_marks: bool = False,
    ) -> str:
        """Return the text; ``is_prompt`` asks for the opening of the next answer, ``has_marks`` for generation marks.

        Raises RenderFault.
        """
        answer = self._worker.ask(
            {"messages": messages, "tools": tools, "is_prompt": is_prompt, "has_marks": has_marks}
        )
        if answer is None:
            self.num_deaths += 1
            raise RenderFault(
                f"it needs more than {CHILD_SECONDS} seconds, or ended the process that rendered it", is_refusal=False
            )
        if "text" not in answer:
            raise RenderFault(str(answer.get("refused", answer.get("fault"))), is_refusal="refused" in answer)
        return str(answer["text"])

    def render_many(self, requests: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
        """Return for each conversation its text, openings and marks (see `template`), or None: ask for that one alone.

        ``requests`` have messages, tools, openings (turns) and has_marks. Where the child dies of one, all are None.
        """
        answer = self._worker.ask({"many": requests})
        if answer is None or "many" not in answer:
            return [None] * len(requests)
        return list(answer["many"])


def safe_template(source: str, tokens: Mapping[str, str]) -> SafeTemplate:
    """Return the template after it rendered short conversations in its child and lived.

    Raises TrainError "E922 bad-template" where it breaks out, fails, takes over 5 s or too much memory, or leaves out
    what a user or the assistant said.
    """
    return _tried(source, tuple(sorted(tokens.items())))


@lru_cache(maxsize=8)
def _tried(source: str, tokens: tuple[tuple[str, str], ...]) -> SafeTemplate:
    template = SafeTemplate(source, dict(tokens))
    try:
        first = template.render([_ASKED, _ANSWERED], None, is_prompt=False)
    except RenderFault as fault:
        raise _bad(
            "it refuses the conversation of one question and one answer" if fault.is_refusal else str(fault)
        ) from None
    for message in (_ASKED, _ANSWERED):
        if message["content"] not in first:
            raise _bad(f"it leaves out what the {message['role']} says")
    if first.index(_ASKED["content"]) > first.index(_ANSWERED["content"]):
        raise _bad("it changes the order of the messages")
    for messages, is_prompt in _PROBES:
        try:
            template.render(messages, None, is_prompt=is_prompt)
        except RenderFault as fault:
            # A template may say that it knows no system message; it may not fail.
            if not fault.is_refusal:
                raise _bad(str(fault)) from None
    return template


def _bad(what: str) -> TrainError:
    return TrainError(
        "E922 bad-template", f"the chat template of the base model is refused: {what}",
        "mend chat_template in the model's folder, or take another base",
    )  # fmt: skip
