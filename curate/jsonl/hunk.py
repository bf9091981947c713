"""A changed line as people see it: a hunk of a unified diff, with what cannot be seen made visible."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from curate.base.console import one_line, spelled, visible
from curate.jsonl.faults import JsonFault
from curate.jsonl.rewrite import LineChange
from curate.jsonl.splice import common_ends
from curate.jsonl.strict import strict_loads
from curate.jsonl.walker import Walker

_CONTEXT_CHARS = 48
"""Characters of an unchanged stretch that are shown at either side of a change."""
_PICTURES = str.maketrans({" ": "␠", "\t": "␉"})

Part = tuple[str, str]
"""A stretch of a line before and after, the same text twice where it does not change."""


def hunk(change: LineChange, new_line: int, hide: Callable[[str], str]) -> list[str]:
    """Return the lines of the hunk; ``new_line`` is the line's number in the new file.

    Long stretches that do not change are cut. ``hide`` gets each string value, and what lies
    between them, and returns what of it may be shown.
    What changes is shown with combining marks and odd blanks by number, and blanks alone as pictures.
    """
    parts = list(_cut(_joined(_parts(change, hide))))
    num_new = "" if change.after else ",0"
    about = f" {', '.join(change.about)}" if change.about else ""
    lines = [f"@@ -{change.line} +{new_line if change.after else new_line - 1}{num_new} @@{about}"]
    lines.append("-" + "".join(visible(old) if old == new else _striking(old) for old, new in parts))
    if change.after:
        lines.append("+" + "".join(visible(new) if old == new else _striking(new) for old, new in parts))
    return lines


def diff_of(changes: Iterable[tuple[Path, LineChange]], hide: Callable[[str], str]) -> Iterator[str]:
    """Yield the lines of a unified diff of changes that come file by file; see `hunk` for what is shown of each."""
    last, shift = None, 0
    for path, change in changes:
        if path != last:
            name = one_line(spelled(str(path)))
            yield f"--- {name}"
            yield f"+++ {name}"
            last, shift = path, 0
        yield from hunk(change, change.line + shift, hide)
        shift -= not change.after


def _parts(change: LineChange, hide: Callable[[str], str]) -> Iterator[Part]:
    old = _pieces(change.before.removesuffix(b"\n"), hide)
    new = _pieces(change.after.removesuffix(b"\n"), hide)
    if len(old) != len(new):
        old, new = ["".join(old)], ["".join(new)]
    for before, after in zip(old, new, strict=True):
        yield from _apart(before, after)


def _pieces(raw: bytes, hide: Callable[[str], str]) -> list[str]:
    """Return a line as pieces: its strings in turn with the bytes between them; one piece where it is not JSON.

    Keys and numbers can be sensitive too, so every piece goes through ``hide``.
    """
    pieces, offset = [], 0
    for start, end in _spans(raw):
        pieces += [hide(_text(raw[offset:start])), _render_string(raw[start:end], hide)]
        offset = end
    return [*pieces, hide(_text(raw[offset:]))]


def _spans(raw: bytes) -> list[tuple[int, int]]:
    """Return where the strings of a line are, none where it is not JSON."""
    body = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        strict_loads(body)
    except JsonFault:
        return []
    shift = len(raw) - len(body)
    return [(start + shift, end + shift) for _, start, end in Walker(body).strings()]


def _apart(old: str, new: str) -> Iterator[Part]:
    """Yield what two texts begin with alike, where they differ, and what they end with alike."""
    head, tail = common_ends(old, new)
    yield old[:head], new[:head]
    yield old[head : len(old) - tail], new[head : len(new) - tail]
    yield old[len(old) - tail :], new[len(new) - tail :]


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Join stretches that do not change."""
    same = ""
    for old, new in parts:
        if old == new:
            same += old
        else:
            yield same, same
            yield old, new
            same = ""
    yield same, same


def _cut(parts: Iterator[Part]) -> Iterator[Part]:
    """Shorten the stretches that do not change, at the start and the end of the line from one side only."""
    whole = list(parts)
    for index, (old, new) in enumerate(whole):
        if old == new and len(old) > 3 * _CONTEXT_CHARS:
            head = "" if index == 0 else old[:_CONTEXT_CHARS]
            tail = "" if index == len(whole) - 1 else old[-_CONTEXT_CHARS:]
            yield f"{head}…{tail}", f"{head}…{tail}"
        else:
            yield old, new


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _render_string(token: bytes, hide: Callable[[str], str]) -> str:
    return json.dumps(hide(json.loads(token)), ensure_ascii=False)


def _striking(text: str) -> str:
    if text and not text.strip():
        text = text.translate(_PICTURES)
    return "".join(_numbered(character) for character in text)


def _numbered(character: str) -> str:
    is_odd_blank = character.isspace() and character > "\x7f"
    # Marks hide in the letter before them, and some letters have a twin that looks the same.
    if is_odd_blank or unicodedata.category(character)[0] == "M" or not unicodedata.is_normalized("NFC", character):
        return f"<U+{ord(character):04X}>"
    return visible(character)
