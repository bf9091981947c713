"""Regular expressions that people type: what they cost, and what a line must have for one to match a text in it."""

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
# Flags that change how all else is read, and characters that are spelled in several ways.
_UNREAD = re.compile(r"\(\?(?!:|P?<)|\\[pPxuU]")
# What JSON may spell in another way than as itself.
_ESCAPED = re.compile(r'["\\/\x00-\x1f]')
# Lines that may have a text without showing it: a letter is spelled by its number (K and s are also the Kelvin sign and
# the long s, in any case), or a text is put together of several, as those of calls and of content in parts are.
_JOINED = r'"tool_calls"|"content"\s*:\s*\['
_HIDDEN_ASCII, _HIDDEN = rf"\\u(?:00[2-7]|212[aA]|017[fF])|{_JOINED}", rf"\\u|{_JOINED}"


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


def required_text(pattern: str) -> str:
    """Return a text that is in all that ``pattern``, which is fit, matches; "" where none is known."""
    if _UNREAD.search(pattern):
        return ""
    texts, depth, offset = [""], 0, 0
    while offset < len(pattern):
        character = pattern[offset]
        if character == "|" and not depth:
            return ""
        # What is repeated once or more may be so no time at all: "ab+*".
        if character in "*?{" or (character == "+" and pattern.startswith(("*", "?", "{"), offset + 1)):
            texts[-1] = texts[-1][:-1]
        if depth or character in "\\[](){}.^$*?+|":
            texts.append("")
        else:
            texts[-1] += character
        depth += (character == "(") - (character == ")")
        if character == "[":
            offset = _after_class(pattern, offset)
        elif character == "{":
            offset = pattern.find("}", offset) + 1 or len(pattern)
        else:
            offset += 2 if character == "\\" else 1
    return max(texts, key=len)


def line_pattern(text: str, is_any_case: bool) -> str:
    """Return an expression that matches each line of JSON with a record whose prompt or completion has ``text``.

    It matches others as well; "" where it would match all.
    """
    part = max(_ESCAPED.split(text), key=len)
    hidden = _HIDDEN_ASCII if part.isascii() else _HIDDEN
    return f"(?{'i' if is_any_case else ''}:{pl.escape_regex(part)})|{hidden}" if part else ""
