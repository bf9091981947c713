"""Where each message's content stands in the rendered text, for any template: by differencing renders.

A template is a black box here. The conversation is rendered once as it is and once with a sentinel word in place of
each content; what surrounds the sentinels is the template's own text, and what the first render has between those
pieces is the content. Where a template rewrites a content (Qwen3 re-indents reasoning), the messages are tried one at
a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.render.faults import RowFault
from train.render.sandbox import RenderFault, SafeTemplate
from train.render.template import MARK_END, MARK_START, marked_spans

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """A rendered conversation: per message the [start, end) of its content in ``text``, or None where it has none."""

    text: str
    contents: list[tuple[int, int] | None]


class Conversations:
    """Renders conversations with one template and knows where the contents are."""

    def __init__(self, template: SafeTemplate) -> None:
        self.template = template
        self.pieces: dict[tuple[tuple[str, bool], ...], list[str]] = {}

    def render(
        self, messages: Sequence[Message], tools: Any, *, is_prompt: bool = False, has_marks: bool = False
    ) -> str:
        """Return the rendered text; raises RowFault where the template refuses the conversation."""
        try:
            return self.template.render(messages, tools, is_prompt=is_prompt, has_marks=has_marks)
        except RenderFault as fault:
            raise RowFault(f"the chat template refuses the conversation: {str(fault)[:200]}") from None

    def layout(self, messages: Sequence[Message], tools: Any) -> Layout:
        """Return the text and the place of each content; raises RowFault where a content is lost or rewritten."""
        text = self.render(messages, tools)
        has_calls = any(message.get("tool_calls") for message in messages)
        pieces = self._pieces(messages, tools, is_plain=not has_calls and tools is None)
        contents = _walk(text, pieces, messages) or [
            self._alone(text, messages, tools, turn) if message["content"] else None
            for turn, message in enumerate(messages)
        ]
        return Layout(text, contents)

    def marked(self, messages: Sequence[Message], tools: Any) -> list[tuple[int, int]] | None:
        """Return the [start, end) of the template's {% generation %} blocks, or None where it has none."""
        if not self.template.has_generation:
            return None
        # As it stands in the conversation, a mark would be taken for the template's.
        spoken = json.dumps([messages, tools], ensure_ascii=False)
        if MARK_START in spoken or MARK_END in spoken:
            return None
        return marked_spans(self.render(messages, tools, has_marks=True))

    def plain_layout(self, text: str, messages: Sequence[Message]) -> Layout | None:
        """Return the layout of a rendered conversation without tools; None where only more renders would tell."""
        contents = _walk(text, self._pieces(messages, None, is_plain=True), messages)
        return None if contents is None else Layout(text, contents)

    def _pieces(self, messages: Sequence[Message], tools: Any, *, is_plain: bool) -> list[str]:
        """The template's own text before, between and after the contents."""
        key = tuple((message["role"], bool(message["content"])) for message in messages)
        if is_plain and key in self.pieces:
            return self.pieces[key]
        word = sentinel(json.dumps([messages, tools], ensure_ascii=False, default=str) + self.template.source)
        stand_ins = [
            {**message, "content": f"{word}{turn:04d}" if message["content"] else message["content"]}
            for turn, message in enumerate(messages)
        ]
        rest, pieces = self.render(stand_ins, tools), []
        for message in stand_ins:
            if message["content"]:
                before, found, rest = rest.partition(message["content"])
                if not found and message["role"] == "tool":
                    raise RowFault("the chat template has no place for what a tool answers")
                if not found or message["content"] in rest:
                    raise RowFault(
                        f"the chat template loses, repeats or reorders what a {message['role']} says",
                        "E922 bad-template",
                    )
                pieces.append(before)
        pieces.append(rest)
        if is_plain:
            self.pieces[key] = pieces
        return pieces

    def _alone(self, text: str, messages: Sequence[Message], tools: Any, turn: int) -> tuple[int, int]:
        """The place of one content, found by replacing it alone; see `says` for what the template may do to it."""
        content = messages[turn]["content"]
        word = sentinel(text + self.template.source)
        changed = [{**m, "content": word} if number == turn else m for number, m in enumerate(messages)]
        before, found, after = self.render(changed, tools).partition(word)
        shared = next(
            (n for n, (a, b) in enumerate(zip(before, text, strict=False)) if a != b), min(len(before), len(text))
        )
        end = len(text) - len(after)
        forms = quoted_forms(messages[turn])
        is_said = says(text[shared:end], content) or any(form in text[shared:end] for form in forms)
        if not (found and text.endswith(after) and is_said):
            raise RowFault(f"the chat template rewrites what the {messages[turn]['role']} says")
        return shared, end


def says(text: str, content: str) -> bool:
    """True where ``text`` has ``content`` in it, white space at its ends and beside a tag such as <think> aside.

    Templates strip contents, and put reasoning on lines of its own. White space anywhere else is the content's: a
    template that squeezes or indents it would teach code without its lines.
    """
    if not (_TAG.search(text) or _TAG.search(content)):
        return content.strip() in text.strip()
    return _beside_tags(content) in _beside_tags(text)


_TAG = re.compile(r"</?\w+>")


def _beside_tags(text: str) -> str:
    return re.sub(r"\s*(</?\w+>)\s*", r"\1", text).strip()


def quoted_forms(message: Message) -> tuple[str, ...]:
    """Return what a tool answers as Llama 3 and gpt-oss write it, inside a string of JSON; nothing for other roles."""
    if message["role"] != "tool":
        return ()
    return tuple(json.dumps(message["content"], ensure_ascii=is_ascii)[1:-1] for is_ascii in (False, True))


def _walk(text: str, pieces: Sequence[str], messages: Sequence[Message]) -> list[tuple[int, int] | None] | None:
    """Lay pieces and contents (as they are, or stripped, as many templates do) over the text; None if they do not
    fit.
    """
    if not text.startswith(pieces[0]):
        return None
    places: list[tuple[int, int] | None] = []
    position, number = len(pieces[0]), 0
    for message in messages:
        content = message["content"]
        if not content:
            places.append(None)
            continue
        number += 1
        after = pieces[number]
        for form in (content, content.strip(), content.lstrip(), content.rstrip(), *quoted_forms(message)):
            if text.startswith(form + after, position):
                places.append((position, position + len(form)))
                position += len(form) + len(after)
                break
        else:
            return None
    return places if position == len(text) else None


def sentinel(taken: str) -> str:
    """Return a plain word that occurs nowhere in ``taken``."""
    number = 0
    while f"qzx{number}y" in taken:
        number += 1
    return f"qzx{number}y"
