"""What changed in a text, word by word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import islice

from curate.base.record import Json
from curate.project.diff.compare import FieldChange, VersionRecord

# Scripts without blanks (Thai to Khmer, kana, Han) are compared by characters.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|\s+|[^\w\s]")
_MOST_WORDS = 3000
"""Longer texts would take seconds: what stands between their common start and end counts as replaced."""
_AROUND = 8

Piece = tuple[str, str]
"""What happened ("same", "removed", "added", "whole", "cut") and the text; of what is cut, how many characters."""


def text_of(value: Json) -> str:
    """Return a value as the text that is compared: strings as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def word_changes(before: str, after: str) -> list[Piece]:
    """Return the pieces of which ``before`` (without the added) and ``after`` (without the removed) consist."""
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    pieces: list[Piece] = [("same", before[:start])]
    middle_old, middle_new = (_first_words(text, _MOST_WORDS + 1) for text in (old, new))
    if len(middle_old) + len(middle_new) > _MOST_WORDS:
        pieces += [("removed", old), ("added", new)]
    else:
        matcher = SequenceMatcher(None, middle_old, middle_new, autojunk=False)
        for what, a, b, c, d in matcher.get_opcodes():
            if what == "equal":
                pieces.append(("same", "".join(middle_old[a:b])))
            else:
                pieces += [("removed", "".join(middle_old[a:b])), ("added", "".join(middle_new[c:d]))]
    pieces.append(("same", before[len(before) - end :]))
    return _joined([piece for piece in pieces if piece[1]])


def pieces_of(change: FieldChange) -> list[Piece]:
    """Return what happened to a field's text, word by word."""
    if change.is_new:
        return [("added", text_of(change.after))]
    if change.is_gone:
        return [("removed", text_of(change.before))]
    if isinstance(change.before, str) and isinstance(change.after, str):
        return word_changes(change.before, change.after)
    return [("removed", text_of(change.before)), ("added", text_of(change.after))]


def preview(item: VersionRecord) -> list[tuple[str, str]]:
    """Return the keys of a record's line that say more than its id and category, each with its text."""
    omitted: tuple[Json, ...] = (None, "", [], {}, item.id, item.category)
    return [(key, text_of(value)) for key, value in item.value.items() if value not in omitted]


def shortened(pieces: list[Piece], limit: int) -> Iterator[Piece]:
    """Yield ``pieces`` with long stretches that are the same cut to the words around, and after ``limit`` nothing.

    Each cut is told by its number of characters.
    """
    left = limit
    for index, (what, text) in enumerate(pieces):
        parts = [(what, text)]
        if what == "same":
            parts = list(_context(text, is_first=index == 0, is_last=index == len(pieces) - 1))
        for kind, part in parts:
            if left <= 0:
                rest = sum(len(text) for _, text in pieces[index:])
                yield "cut", f"{rest:,} characters"
                return
            head = part[:left] if kind != "cut" else part
            yield kind, head
            if len(head) < len(part):
                yield "cut", f"{len(part) - len(head):,} characters"
            left -= len(head)


def _context(text: str, *, is_first: bool, is_last: bool) -> Iterator[Piece]:
    head, tail = (0 if is_first else _AROUND), (0 if is_last else _AROUND)
    if len(_first_words(text, head + tail + _AROUND + 1)) <= head + tail + _AROUND:
        yield "same", text
        return
    before = len("".join(_first_words(text, head)))
    after = len(text) - len("".join(_first_words(text[::-1], tail)))
    if head:
        yield "same", text[:before]
    yield "cut", f"{after - before:,} characters"
    if tail:
        yield "same", text[after:]


# Words are runs of one kind of character, so that a text backwards has the same ones backwards. They are looked at one
# by one, because a list of all words takes many times the size of the text.


def _first_words(text: str, number: int) -> list[str]:
    return [word.group() for word in islice(_WORD.finditer(text), number)]


def _common(before: str, after: str) -> int:
    """Return how many characters the words take with which both texts begin."""
    pairs = zip(_WORD.finditer(before), _WORD.finditer(after), strict=False)
    # Where none differs, one text ends with the last word that both have.
    differing = (a.start() for a, b in pairs if a.group() != b.group())
    return next(differing, min(len(before), len(after)))


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Join changes with only a blank between them: words in a row read as one change, the removed before the added."""
    joined: list[Piece] = []
    run = {"removed": "", "added": ""}
    for index, (what, text) in enumerate(pieces):
        if what != "same":
            run[what] += text
        elif any(run.values()) and not text.strip() and index + 1 < len(pieces):
            run = {kind: changed + text for kind, changed in run.items()}
        else:
            joined += [piece for piece in run.items() if piece[1]]
            run = {"removed": "", "added": ""}
            joined.append((what, text))
    return joined + [piece for piece in run.items() if piece[1]]
