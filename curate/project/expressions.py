"""Regular expressions that people type, and what they cost."""

from __future__ import annotations

import re

import polars as pl

from curate.base.console import one_line

# Places that a match may have to remember at once: each takes its time with each character of the text.
MOST_WEIGHT = 1000
_COUNTED = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")
_CODE_POINT = re.compile(r"\\[pPxuU]\{[^}]*\}")
_GROUP = re.compile(r"\((?:\?(?:P?<\w+>|[a-zA-Z-]*:?))?")
_ERROR = re.compile(r"^(?:regex )?error: (?!regex parse error)(.*)$", re.MULTILINE)


def unfit(pattern: str) -> str | None:
    """Return why ``pattern`` cannot be used, None where it can."""
    # The engine takes time in proportion to the text and to the size of the expression once counted repetitions are
    # written out; it refuses those that are huge, and this those that would take minutes.
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        match = _ERROR.search(str(error))
        return one_line(match.group(1).rstrip(".") if match else "it is none", 200)
    total = weight(pattern)
    if total > MOST_WEIGHT:
        return f"its repetitions come to {total:,} places, more than {MOST_WEIGHT:,}"
    return None


def weight(pattern: str) -> int:
    """Return about how many places ``pattern`` has once its counted repetitions are written out."""
    sums, last = [0], 0
    offset = 0
    while offset < len(pattern):
        character = pattern[offset]
        counted = _COUNTED.match(pattern, offset)
        if counted:
            low, high = counted.groups()
            times = max(1, int(high or low))
            sums[-1] += last * (times - 1)
            last *= times
            offset = counted.end()
            continue
        if character == "\\":
            escape = _CODE_POINT.match(pattern, offset)
            offset = escape.end() if escape else offset + 2
            last = 1
        elif character == "[":
            offset, last = _after_class(pattern, offset), 1
        elif character == "(":
            sums.append(0)
            offset, last = _GROUP.match(pattern, offset).end(), 0  # type: ignore[union-attr]
            continue
        elif character == ")" and len(sums) > 1:
            offset, last = offset + 1, sums.pop()
        else:
            offset, last = offset + 1, int(character not in "*+?|^$")
        sums[-1] += last
    return sum(sums)


def _after_class(pattern: str, offset: int) -> int:
    """Return where a class in brackets, which may hold others, ends."""
    depth = 0
    while offset < len(pattern):
        character = pattern[offset]
        offset += 2 if character == "\\" else 1
        if character == "[":
            depth += 1
            # A closing bracket that comes first is one of the class.
            offset += len(re.match(r"\^?\]?", pattern[offset:]).group())  # type: ignore[union-attr]
        elif character == "]":
            depth -= 1
            if not depth:
                break
    return offset
