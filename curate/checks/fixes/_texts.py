"""Which strings of a line are texts that a model learns from, and a chain of fixes over one text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from curate.base.record import Json
from curate.checks.fixes._registry import Fix
from curate.jsonl import pointer_of
from curate.schema.view import View, at

_MOST_ROUNDS = 8


class TrainedText(NamedTuple):
    """One string that a model learns from."""

    parts: tuple[str, ...]
    text: str
    is_document: bool

    @property
    def pointer(self) -> str:
        """Where it stands, as a JSON pointer."""
        return pointer_of(self.parts)


def texts(value: Mapping[str, Json], view: View) -> Iterator[TrainedText]:
    """Yield the system text, prompt, completion, raw text, and the content of every message of a valid line.

    Ids, categories, labels, splits, metadata, tools and the arguments of tool calls are names and data, not prose: a
    blank in them can be what tells two of them apart.
    """
    for path in (*view.prompt, *(view.paths[name] for name in ("system", "completion", "text") if name in view.paths)):
        if isinstance(text := at(value, path), str):
            yield TrainedText(tuple(path), text, path == view.paths.get("text"))
    path = view.paths.get("messages", [])
    messages = at(value, path) if path else None
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, Mapping) else None
        base = (*path, str(number), "content")
        if isinstance(content, str):
            yield TrainedText(base, content, False)
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield TrainedText((*base, str(index), "text"), part["text"], False)


def fixed_text(text: TrainedText, fixes: Sequence[Fix]) -> tuple[str, tuple[str, ...]]:
    """Return a text with all fixes made and the names of those that changed it, in order.

    What one fix leaves may be work for another, so they take turns until none has anything to do: fixing twice is
    fixing once. A text that does not come to rest, which no fix of ours brings about, stays as it was.
    """
    now = text.text
    names: dict[str, None] = {}
    for _ in range(_MOST_ROUNDS):
        before = now
        for fix in fixes:
            if fix.in_documents or not text.is_document:
                after = fix.apply(now)
                if after != now:
                    now = after
                    names[fix.name] = None
        if now == before:
            return now, tuple(names)
    return text.text, ()


def with_texts(value: Json, changes: Sequence[tuple[TrainedText, str]]) -> Json:
    """Return a copy of ``value`` that holds new texts; what does not change is shared with the old one."""
    copy = dict(value)
    for text, new in changes:
        holder: Json = copy
        for part in text.parts[:-1]:
            key: Json = int(part) if isinstance(holder, list) else part
            inner = holder[key]
            inner = dict(inner) if isinstance(inner, Mapping) else list(inner)
            holder[key] = inner
            holder = inner
        last = text.parts[-1]
        holder[int(last) if isinstance(holder, list) else last] = new
    return copy
