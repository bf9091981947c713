"""Talks in one text, with marks such as "### Human:" and "### Assistant:" before each turn."""

from __future__ import annotations

import re
from collections.abc import Mapping

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer
from curate.formats.importers._reading import take_common, text_of

_ROLES = {
    "human": "user", "user": "user", "instruction": "user", "question": "user", "prompter": "user",
    "assistant": "assistant", "response": "assistant", "answer": "assistant", "gpt": "assistant", "bot": "assistant",
    "system": "system",
}  # fmt: skip
# At the beginning of a line; "Human:" without more is too common in plain text.
_NAMED = rf"(?:#{{2,4}} ?({'|'.join(_ROLES)}) ?:|<\|({'|'.join(_ROLES)})\|>|<\|im_start\|>({'|'.join(_ROLES)})\n)[ \t]*"
_MARK = re.compile(rf"^[ \t]*{_NAMED}", re.IGNORECASE | re.MULTILINE)
# A talk in one line, which no line end divides.
_INLINE = re.compile(rf"(?:^|(?<=\s)){_NAMED}", re.IGNORECASE)
_END = "<|im_end|>"
_NAMES = ("text", "conversation", "dialogue")


def _column(row: dict[str, Json]) -> str:
    return next((name for name in _NAMES if isinstance(row.get(name), str)), "")


def marks_in(text: str) -> list[re.Match[str]]:
    """Return the marks of a talk that is written out in one text; empty for a text without both sides."""
    for pattern in (_MARK, _INLINE):
        marks = list(pattern.finditer(text))
        if {_role(mark) for mark in marks} >= {"user", "assistant"}:
            return marks
    return []


def _role(mark: re.Match[str]) -> str:
    return _ROLES[(mark[1] or mark[2] or mark[3]).lower()]


@importer(
    "human-assistant",
    fits=lambda row: bool(marks_in(row.get(_column(row)) or "")),
    samples=[
        {"text": "### Human: Say hi.\n### Assistant: Hello.\n### Human: Again.\n### Assistant: Hello again."},
        {"text": "### Instruction:\nSay hi.\n\n### Response:\nHello."},
        {"text": "<|system|>\nBe brief.\n<|user|>\nSay hi.\n<|assistant|>\nHello."},
    ],
)
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Texts of turns marked "### Human:" and "### Assistant:" (also Instruction and Response, <|user|>), as talks."""
    name = _column(row)
    text = text_of(row, name or "text")
    marks = marks_in(text)
    if not marks or text[: marks[0].start()].strip():
        raise RowError(f"{name!r} does not begin with a mark such as '### Human:'")
    messages: list[Json] = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        content = text[mark.end() : following.start() if following else len(text)].strip().removesuffix(_END).strip()
        if not content:
            raise RowError(f"turn {len(messages) + 1} of {name!r} is empty")
        messages.append({"role": _role(mark), "content": content})
    line, extra = take_common(row, (name,))
    return ConvertedRow("chat", line | {"messages": messages}, extra)
