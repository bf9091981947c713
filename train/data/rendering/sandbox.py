"""A chat template that renders in a child process, tried on short conversations before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from train.base.errors import TrainError
from train.base.worker import Worker
from train.data.rendering import template as template_module
from train.data.rendering.messages import RowFault
from train.data.rendering.template import CHILD_SECONDS

# The child ends itself by its CPU time; this is for one that waits instead, also on a machine that is very busy.
_MOST_SECONDS = 24 * CHILD_SECONDS
_DIED = {"fault": f"it needs more than {CHILD_SECONDS} seconds, or ended the process that rendered it"}
_SYSTEM, _USER, _ASSISTANT = (
    {"role": role, "content": f"probe {word}"}
    for role, word in (("system", "system"), ("user", "question"), ("assistant", "answer"))
)


def request(
    messages: Sequence[Mapping[str, Any]], tools: Any = None, openings: Sequence[int] = (),
    endings: Sequence[int] = (), *, has_marks: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Return what to ask a template for: the text of a conversation, of each turn of ``openings`` what stands before it
    when it is generated, of each of ``endings`` the text as far as that turn, and the generation blocks.
    """
    return {"messages": messages, "tools": tools, "openings": openings, "endings": endings, "has_marks": has_marks}


class RenderFault(RowFault):
    """A conversation has no text; ``is_refusal`` where the template says so itself (raise_exception)."""

    def __init__(self, detail: str, *, is_refusal: bool) -> None:
        super().__init__(f"the chat template refuses the conversation: {detail[:200]}")
        self.detail, self.is_refusal = detail, is_refusal


class Rendering:
    """What the template answered to a request; asking for a text that there is not raises its RenderFault."""

    def __init__(self, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        self._request, self._answer = request, answer

    @property
    def text(self) -> str:
        """The whole conversation."""
        return self._part(self._answer["text"])

    def opening(self, turn: int) -> str:
        """Return what stands before a turn when it is generated."""
        return self._part(self._answer["openings"][self._request["openings"].index(turn)])

    def ending(self, turn: int) -> str:
        """Return the text as far as a turn."""
        return self._part(self._answer["endings"][self._request["endings"].index(turn)])

    @property
    def marks(self) -> list[tuple[int, int]]:
        """The [start, end) of each generation block; none where the template has none."""
        marks = self._answer["marks"]
        if isinstance(marks, dict):
            self._part(marks)
        return [(start, end) for start, end in marks]

    def _part(self, answer: str | int | dict[str, str]) -> str:
        if isinstance(answer, dict):
            raise RenderFault(answer.get("refused", answer.get("fault", "")), is_refusal="refused" in answer)
        return self.text[:answer] if isinstance(answer, int) else answer


class SafeTemplate:
    """A chat template in a child of its own, with little memory and time, started again where it died."""

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self.num_deaths = 0
        """How often a conversation took too long or ended the child, which on another day it may not."""
        self.has_generation = "endgeneration" in source
        greeting = {"template": source, "tokens": dict(tokens)}
        self._worker = Worker([template_module.__file__], greeting=greeting, seconds=_MOST_SECONDS)

    def render(self, requests: Sequence[Mapping[str, Any]]) -> list[Rendering]:
        """Return the rendering of each `request`. Where the child dies of a batch, each request is tried alone."""
        if not requests:
            return []
        answer = self._worker.ask({"conversations": requests})
        if answer is not None and "conversations" in answer:
            return [Rendering(*pair) for pair in zip(requests, answer["conversations"], strict=True)]
        if len(requests) > 1:
            return [self.render([query])[0] for query in requests]
        self.num_deaths += answer is None
        fault = _DIED if answer is None else answer
        num_openings, num_endings = len(requests[0]["openings"]), len(requests[0]["endings"])
        whole = {"text": fault, "openings": [fault] * num_openings, "endings": [fault] * num_endings, "marks": fault}
        return [Rendering(requests[0], whole)]


def safe_template(source: str, tokens: Mapping[str, str]) -> SafeTemplate:
    """Return the template after it rendered short conversations in its child and lived.

    Raises TrainError "E922 bad-template" where it breaks out, fails, takes over 5 s or too much memory, or leaves out
    what a user or the assistant said.
    """
    return _try_template(source, tuple(sorted(tokens.items())))


@lru_cache(maxsize=8)
def _try_template(source: str, tokens: tuple[tuple[str, str], ...]) -> SafeTemplate:
    template = SafeTemplate(source, dict(tokens))
    try:
        text = template.render([request([_USER, _ASSISTANT])])[0].text
    except RenderFault as fault:
        raise _bad(
            "it refuses the conversation of one question and one answer" if fault.is_refusal else fault.detail
        ) from None
    for message in (_USER, _ASSISTANT):
        if message["content"] not in text:
            raise _bad(f"it leaves out what the {message['role']} says")
    if text.index(_USER["content"]) > text.index(_ASSISTANT["content"]):
        raise _bad("it changes the order of the messages")
    for probe in (
        request([_USER], openings=[1]), request([_SYSTEM, _USER, _ASSISTANT]), request([_USER, _ASSISTANT] * 2)
    ):  # fmt: skip
        rendering = template.render([probe])[0]
        try:
            _ = rendering.opening(1) if probe["openings"] else rendering.text
        except RenderFault as fault:
            # A template may say that it knows no system message; it may not fail.
            if not fault.is_refusal:
                raise _bad(fault.detail) from None
    return template


def _bad(what: str) -> TrainError:
    return TrainError(
        "E922 bad-template", f"the chat template of the base model is refused: {what}",
        "mend chat_template in the model's folder, or take another base",
    )  # fmt: skip
