"""Which part of a rendered conversation each answer is: from where generation begins to the end token."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from train.render.faults import RowFault
from train.render.spans import Conversations, Layout, Message


@dataclass(frozen=True)
class Turn:
    """The [start, end) characters of one answer; ``end`` lies after its end token, ``stop`` before it."""

    start: int
    stop: int
    end: int

    @property
    def has_end_token(self) -> bool:
        """True where the template closes the answer with an end token."""
        return self.end > self.stop


@dataclass(frozen=True)
class Located:
    """A rendered conversation whose last answer is known: the messages as the template got them, and where they are."""

    messages: list[dict[str, Any]]
    layout: Layout
    turn: Turn

    @property
    def prompt(self) -> str:
        """The text that stands before the last answer."""
        return self.layout.text[: self.turn.start]

    @property
    def answer(self) -> str:
        """The last answer with its end token."""
        return self.layout.text[self.turn.start : self.turn.end]


class Turns:
    """Finds the answers of a conversation; knows the end tokens and whether the template opens an answer by itself."""

    def __init__(
        self, conversations: Conversations, end_tokens: Collection[str], special_tokens: Sequence[str]
    ) -> None:
        self.conversations = conversations
        asked, answered = {"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}
        self.has_opening = conversations.render([asked], None) != conversations.render([asked], None, is_prompt=True)
        layout = conversations.layout([asked, answered], None)
        assert layout.contents[1] is not None
        tail = layout.text[layout.contents[1][1] :].lstrip()
        closing = next((token for token in special_tokens if tail.startswith(token)), None)
        self.end_tokens = sorted({*end_tokens, *([closing] if closing else [])}, key=len, reverse=True)
        self.closing = closing

    def opening(self, messages: Sequence[Message], tools: Any, layout: Layout, turn: int) -> str:
        """Return the text that stands before answer ``turn`` when it is generated."""
        if self.has_opening:
            return self.conversations.render(messages[:turn], tools, is_prompt=True)
        place = layout.contents[turn]
        if place is None:
            raise RowFault("the chat template has no opening of an answer, and this answer has no text")
        return layout.text[: place[0]]

    def find(
        self, messages: Sequence[Message], tools: Any, layout: Layout, turn: int, *, is_last: bool,
        opening: str | None = None,
    ) -> Turn:  # fmt: skip
        """Return answer ``turn``; raises RowFault where what is trained would not be what is generated.

        ``opening`` is what stands before it when it is generated, where that is known.
        """
        opening = self.opening(messages, tools, layout, turn) if opening is None else opening
        place = layout.contents[turn]
        if layout.text.startswith(opening) and (place is None or len(opening) <= place[1]):
            start = len(opening)
        elif is_last or place is None:
            raise RowFault(
                "the chat template opens an answer in another way when it generates than when it trains"
                " (add_generation_prompt is no prefix of the whole)"
            )
        else:
            # Some templates shorten the history (Qwen3 drops reasoning); the answer itself is still trained.
            start = place[0]
        stop = (
            place[1]
            if place is not None and not messages[turn].get("tool_calls")
            else self._stop(messages, tools, layout, turn)
        )
        return Turn(start, stop, self._end(layout.text, stop))

    def _stop(self, messages: Sequence[Message], tools: Any, layout: Layout, turn: int) -> int:
        """The end of an answer that is more than its content (tool calls): before the last end token of that turn."""
        so_far = self.conversations.render(messages[: turn + 1], tools)
        if not layout.text.startswith(so_far):
            raise RowFault("the chat template rewrites an answer with tool calls once more messages follow")
        stop = len(so_far.rstrip())
        for token in self.end_tokens:
            if so_far.endswith(token, 0, stop):
                return stop - len(token)
        return stop

    def _end(self, text: str, stop: int) -> int:
        rest = len(text) - len(text[stop:].lstrip())
        for token in self.end_tokens:
            if text.startswith(token, rest):
                return rest + len(token)
        return stop
