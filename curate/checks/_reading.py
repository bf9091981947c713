"""What checks read of a record: its texts with their JSON pointers, its answers, and how a value may be named."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import NamedTuple, TypeVar

from curate.base.record import Json, Problem, Record

_NOT_TEXT = frozenset({"id", "split", "x-ignore"})
_ANSWER_KEYS = ("output", "chosen", "completion", "answer", "response", "content", "text")
Value = TypeVar("Value")


def _of_latest(function: Callable[[Record], Value]) -> Callable[[Record], Value]:
    """Remember what ``function`` has returned for the latest record: several checks ask for it one after the other."""
    latest: tuple[Record, Value] | None = None

    @wraps(function)
    def remembered(record: Record) -> Value:
        # One slot, replaced whole, so that a second thread can only miss it.
        nonlocal latest
        if (known := latest) is None or known[0] is not record:
            latest = known = (record, function(record))
        return known[1]

    return remembered


@_of_latest
def texts(record: Record) -> tuple[tuple[str, str], ...]:
    """Return every string value of the line as (JSON pointer, text), in the order of the line."""
    # The record's id and split and its list of switched-off checks are left out: they are names, not text.
    return tuple(
        pair
        for key, value in record.data.items()
        if key not in _NOT_TEXT
        for pair in _strings(value, "/" + _token(key))
    )


def _strings(value: Json, pointer: str) -> Iterator[tuple[str, str]]:
    waiting = [(pointer, value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, str):
            yield path, item
        elif isinstance(item, Mapping):
            waiting.extend((f"{path}/{_token(key)}", child) for key, child in reversed(list(item.items())))
        elif isinstance(item, list | tuple):
            waiting.extend((f"{path}/{index}", item[index]) for index in range(len(item) - 1, -1, -1))


def _token(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


class AnswerTurn(NamedTuple):
    """One answer that a model would learn: what was asked right before, and what is answered."""

    record: Record
    message_index: int
    """The message that it is, -1 for the one completion of a record that is no chat."""
    prompt: str
    completion: str
    has_tool_calls: bool = False

    @property
    def pointer(self) -> str:
        """Where it stands in the line; looked up only when asked for, because few answers have anything wrong."""
        if self.message_index < 0:
            return _answer_pointer(self.record, self.completion)
        base = messages_pointer(self.record)
        return f"{base}/{self.message_index}/content" if base else ""


@_of_latest
def turns(record: Record) -> tuple[AnswerTurn, ...]:
    """Return the answers of a record: every assistant message of a chat, the one completion of any other kind.

    Of a preference it is the best answer.
    """
    return tuple(_turns(record))


def _turns(record: Record) -> Iterator[AnswerTurn]:
    if record.kind != "chat":
        # An answer that nobody is to learn, because it was not liked, is left alone.
        if record.messages and record.messages[-1].get("train") is not False:
            yield AnswerTurn(record, -1, record.prompt, record.completion)
        return
    prompt = ""
    for index, message in enumerate(record.messages):
        content = message.get("content")
        content = content if isinstance(content, str) else ""
        if message.get("role") == "user":
            prompt = content
        elif message.get("role") == "assistant":
            yield AnswerTurn(record, index, prompt, content, bool(message.get("tool_calls")))


@_of_latest
def messages_pointer(record: Record) -> str:
    """Return where the conversation stands in the line, "" where the line spells it in another way."""
    for key, value in record.data.items():
        if (
            isinstance(value, list)
            and len(value) == len(record.messages)
            and all(isinstance(v, Mapping) for v in value)
        ):
            return "/" + _token(key)
    return ""


def _answer_pointer(record: Record, text: str) -> str:
    pointers = [pointer for pointer, value in texts(record) if value == text]
    named = [pointer for pointer in pointers if pointer.rsplit("/", 1)[-1] in _ANSWER_KEYS]
    candidates = named or pointers
    return candidates[-1] if named or len(candidates) == 1 else ""


def sensitive(record: Record, find: Callable[[str], Iterable[tuple[str, str]]]) -> Iterator[Problem]:
    """Yield one problem a text and kind of what ``find`` sees in it, as (kind, value) pairs; it names no value."""
    for pointer, text in texts(record):
        for kind, number in Counter(kind for kind, _ in find(text)).items():
            yield Problem(f"contains {kind}{f' and {number - 1} more' if number > 1 else ''}", pointer)


def is_blank(text: str) -> bool:
    """Whether nothing of ``text`` can be seen: white space, controls, zero-width and filler characters only."""
    if text.isascii():
        return not text.strip()
    return all(
        c.isspace() or c in "\u2800\u3164\u115f\u1160\uffa0" or unicodedata.category(c) in ("Cf", "Cc") for c in text
    )
