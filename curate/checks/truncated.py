"""Answers that stop before they end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from curate.base.record import Problem, Record
from curate.checks import check, turns
from curate.schema.settings import Settings

_FENCE = re.compile(r"^ {0,3}(?:[-*>\d.]+ +)*(`{3,}|~{3,})", re.M)
_JSON_START = re.compile(r'\s*(?:\{\s*"|\[\s*[{\["])')
_JSON_MARK = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}"]', re.S)
_MIN_WORDS = 8
# Words that no English sentence ends with; prepositions are left out, because sentences do end with them.
_NEVER_LAST = re.compile(
    r"\s(?:the|an|and|or|my|your|our|their|its|whose|because|than|into|although|whereas|nor|if|unless|including"
    r"|will be|such as|due to|as well as|has been|have been|is a|was a|are a|with a|of a|in a|for a|to a|by a)\Z"
)
_DANGLING = re.compile(r"(?:[,،、，]|(?<![:;=8xX][-'^o])(?<![:;=8xX])[(\[{“])\Z")
_SIGNS = (
    re.compile("```|~~~"),
    re.compile(r"\A" + _JSON_START.pattern),
    re.compile(_NEVER_LAST.pattern.removesuffix(r"\Z") + r"\s*\Z"),
    re.compile(r"[,،、，(\[{“]\s*\Z"),
)


@check(
    "Q203",
    "truncated",
    severity="warning",
    signs=_SIGNS,
    good=[
        {"instruction": "Add 2 and 3.", "output": "5"},
        {"instruction": "Name two colours.", "output": "red, green"},
        {"instruction": "Show it.", "output": "```python\nprint(1)\n```"},
        {"instruction": "As JSON.", "output": '{"order": 7, "items": ["cup", "plate"]}'},
        {
            "instruction": "Write a letter.",
            "output": "Dear Ana,\nyour parcel is on its way to you now.\nKind regards from us all,",
        },
        {"instruction": "Which interval?", "output": "[0, 1)"},
        {"instruction": "What did he look at?", "output": "It was the tall house that all of us had been looking at"},
        {"instruction": "How are you?", "output": "I am not so well today, to be honest with you all :("},
    ],
    bad=[
        {"instruction": "Show it.", "output": "Here you are:\n```python\nprint(1)\n"},
        {"instruction": "As JSON.", "output": '{"order": 7, "items": ["cup", "pla'},
        {"instruction": "As JSON.", "output": '[{"order": 7}, {"order": 8}'},
        {"instruction": "Why?", "output": "The parcel was late on Monday because the driver had to wait for the"},
        {"instruction": "Why?", "output": "The parcel was late on Monday, the driver had to wait for the key,"},
    ],
)
def truncated(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report an answer that breaks off: an open code fence, unfinished JSON, or a sentence without its end.

    Answers cut at a token limit teach the model to stop anywhere. Write the rest or drop the record. Only clear signs
    count: a missing full stop alone is style.
    """
    for turn in turns(record):
        sign = _sign(turn.completion)
        if sign and not turn.has_tool_calls:
            yield Problem(sign, turn.pointer)


def _sign(text: str) -> str:
    if ("```" in text or "~~~" in text) and _has_open_fence(text):
        return "the completion ends inside a code fence"
    if _JSON_START.match(text):
        return "the completion is JSON that breaks off" if _is_open_json(text) else ""
    end = text[-200:].rstrip()
    # Only the last line counts: a letter may end with the line "Looking forward to seeing you,".
    if (
        not (_NEVER_LAST.search(end[-20:]) or _DANGLING.search(end[-4:]))
        or len(end.rsplit("\n", 1)[-1].split()) < _MIN_WORDS
    ):
        # Chinese and Japanese have no blanks between words; their commas are signs enough.
        return "the completion ends with a comma" if end.endswith(("、", "，")) and len(text) > _MIN_WORDS else ""
    last = end[-1] if _DANGLING.search(end[-4:]) else end.split()[-1]
    return f"the completion ends in the middle of a sentence, with {last!r}"


def _has_open_fence(text: str) -> bool:
    opened = ""
    for match in _FENCE.finditer(text):
        mark = match.group(1)
        if not opened:
            opened = mark
        elif mark[0] == opened[0] and len(mark) >= len(opened):
            opened = ""
    return bool(opened)


def _is_open_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        depth = 0
        for match in _JSON_MARK.finditer(text):
            mark = match.group()
            if mark == '"':
                return True
            if mark in "[{":
                depth += 1
            elif mark in "]}":
                depth -= 1
        return depth > 0
    return False
