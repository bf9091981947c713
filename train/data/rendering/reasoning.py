"""Reasoning before an answer: where a template writes it, which of it is trained, and where a completion leaves it.

Nothing here knows any template: what it writes before and after reasoning is seen by rendering a word in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import escape

from train.data.dataset import TRACES, RowFault, trace_of
from train.data.messages import prepare_messages
from train.data.rendering.conversation import QUESTION, Conversation, Conversations, Layout, Span, Turn, sentinel


@dataclass(frozen=True)
class ReasoningMarks:
    """What a template writes around reasoning, without white space; ``is_open`` where its prompt has begun it."""

    opening: str
    closing: str
    is_open: bool

    def split(self, ids: Sequence[int], decode: Callable[..., str]) -> tuple[str, str | None]:
        """Return the answer of generated ``ids``, and the reasoning before it, None where there is none.

        ``decode(ids, has_control=...)`` gives their text. Reasoning that does not end has an empty answer.
        """
        low = self.length(ids, decode)
        if low is None:
            return decode(ids, has_control=False), None
        trace, _, rest = self._begun(ids[:low], decode).partition(self.closing)
        return (rest + decode(ids[low:], has_control=False)).lstrip(), trace.strip()

    def length(self, ids: Sequence[int], decode: Callable[..., str]) -> int | None:
        """Return how many of generated ``ids`` are reasoning with its end, None where there is none."""
        text = decode(ids, has_control=True)
        is_begun = self.is_open or text.lstrip().startswith(self.opening)
        if not is_begun or not (self.opening or self.is_open or self.closing in text):
            return None
        # The fewest ids whose text has the end of the reasoning; more of them never lose it.
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.closing in self._begun(ids[:middle], decode) else (middle + 1, high)
        return low

    def answer_in(self, content: str) -> str:
        """Return the content of an answer without the reasoning that it begins with, as completions are parted too."""
        text = content.lstrip()
        is_begun = self.closing in text and text.startswith(self.opening)
        return text.partition(self.closing)[2].lstrip() if is_begun else content

    def _begun(self, ids: Sequence[int], decode: Callable[..., str]) -> str:
        text: str = decode(ids, has_control=True)
        return text.lstrip().removeprefix(self.opening)


def find_marks(conversations: Conversations) -> ReasoningMarks | None:
    """Return what the template writes around reasoning; None where it writes none, or nothing between it and the
    answer, so that nobody could tell them apart.
    """
    source = conversations.template.source
    if not any(name in source for name in TRACES):
        return None
    word = sentinel(source)
    reasoned = prepare_messages([QUESTION[0], {**QUESTION[1], "reasoning_content": word}], source)
    try:
        opening = conversations.opening(QUESTION[:1])
        text, plain = conversations.render(reasoned), conversations.render(QUESTION)
    except RowFault:
        return None
    before, separator, after = text.removeprefix(opening).partition(word)
    closing = after.partition(QUESTION[1]["content"])[0].strip()
    if not separator or not text.startswith(opening) or not closing:
        return None
    is_direct = plain.removeprefix(opening).lstrip().startswith(QUESTION[1]["content"])
    return ReasoningMarks(before.strip(), closing, not before.strip() and not is_direct)


def trace_span(
    layout: Layout, messages: Sequence[Mapping[str, Any]], turn: int, marks: ReasoningMarks | None
) -> Span | None:
    """Return where the reasoning of a message stands in the text, None where it is not between its marks before the
    content.
    """
    contents, own = layout.contents, layout.contents[turn]
    start = next((span[1] for span in reversed(contents[:turn]) if span is not None), 0)
    after = [own] if own else contents[turn + 1 :]
    stop = next((span[0] for span in after if span is not None), len(layout.text))
    text = layout.text[start:stop]
    # A short one may stand elsewhere too, so it counts only where its marks are around it.
    for closing in re.finditer(re.escape(marks.closing), text) if marks else ():
        before = text[: closing.start()].rstrip()
        for form in spellings(trace_of(messages[turn])):
            begin = len(before) - len(form)
            if before.endswith(form) and text[:begin].rstrip().endswith(marks.opening if marks else ""):
                return start + begin, start + len(before)
    return None


def trained_turns(
    talk: Conversation, marks: ReasoningMarks | None, trained: Collection[int], *, is_masked: bool
) -> list[Turn]:
    """Return where what is trained of each answer stands: with its reasoning, or where that ``is_masked`` without.

    Raises RowFault where the reasoning of one of the ``trained`` stands elsewhere, or its end cannot be told.
    """
    turns = list(talk.turns)
    for number, (answer, turn) in enumerate(zip(talk.answers, talk.turns, strict=True)):
        if answer not in trained or not trace_of(talk.messages[answer]):
            continue
        if marks is None:
            raise RowFault("the chat template writes no mark between reasoning and answer")
        span, content = trace_span(talk.layout, talk.messages, answer, marks), talk.layout.contents[answer]
        if span is None or span[0] < turn.start or span[1] > turn.stop:
            raise RowFault("the chat template writes reasoning at another place than before its answer")
        if is_masked:
            start = content[0] if content else _after(talk.layout.text, span[1], marks.closing)
            turns[number] = turn._replace(start=start)
    return turns


def _after(text: str, end: int, closing: str) -> int:
    """Return where what follows reasoning that ends at ``end`` begins: after its closing mark, where that is there."""
    rest = text[end:].lstrip()
    rest = rest.removeprefix(closing).lstrip() if rest.startswith(closing) else text[end:]
    return len(text) - len(rest)


def spellings(value: Any) -> Iterator[str]:
    """Yield how templates write a key or a leaf: as it is, in JSON (once or twice), in HTML, as Python prints it."""
    if not isinstance(value, str):
        yield json.dumps(value)
        yield repr(value)
        return
    plain = value.strip()
    yield plain
    for is_ascii in (False, True):
        inside = json.dumps(plain, ensure_ascii=is_ascii)[1:-1]
        yield inside
        yield json.dumps(inside, ensure_ascii=is_ascii)[1:-1]
    yield str(escape(plain))
    yield repr(plain)[1:-1]
