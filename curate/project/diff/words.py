"""What changed in a text, word by word: as one text with its changes marked, or as two beside one another."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import groupby, islice, pairwise
from operator import itemgetter
from typing import Literal

from curate.base.record import Json
from curate.project.diff.compare import FieldChange, VersionRecord, longest_rise

# Scripts without blanks (Thai to Khmer, kana, Han) are compared by characters.
_UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|\s+|[^\w\s]")
# Longer texts would take seconds: what stands between their common start and end counts as replaced.
_MOST_WORDS = 3000
_AROUND = 8

Piece = tuple[str, str]
"""What happened ("same", "removed", "added", "whole", "cut") and the text; of what is cut, how many characters."""

Mark = Literal["same", "changed", "cut"]
MOST_READ = 50_000
"""Characters of a text that are compared: of longer ones only the beginning, and how much is left out is told."""

Side = list[tuple[Mark, str]]
"""What of a text the other has too, what it has not, and "1,234 characters" where something is left out."""

_RUN = re.compile(r"\S+")
# Characters of both texts from which they are compared piece by piece, between words that each has once in a row.
_LONG = 6000
# Words for each different one from which a long text goes round in circles: comparing two of them takes seconds.
_LOOPING = 50


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


def sides_of(before: str, after: str, limit: int) -> tuple[Side, Side]:
    """Return both texts with the words marked that differ, each whole if it has at most ``limit`` characters.

    Of a longer one, long stretches that both share are cut to the words around the changes, and what comes after
    ``limit`` is left out; each cut is told by its number of characters.
    """
    pieces = _pieces(before[:MOST_READ], after[:MOST_READ])
    return (
        list(_side(pieces, "removed", limit, len(before) - MOST_READ)),
        list(_side(pieces, "added", limit, len(after) - MOST_READ)),
    )


def _side(pieces: list[Piece], own: str, limit: int, num_unread: int) -> Iterator[tuple[Mark, str]]:
    runs = groupby((piece for piece in pieces if piece[0] in ("same", own) and piece[1]), key=itemgetter(0))
    mine = [(what, "".join(text for _, text in run)) for what, run in runs]
    size = sum(len(text) for _, text in mine)
    if size > limit and len(mine) == 1:
        # With nothing else to look at, the beginning says the most.
        mine = [(mine[0][0], mine[0][1][:limit]), ("cut", f"{size - limit:,} characters")]
    elif size > limit or num_unread > 0:
        mine = list(shortened(mine, limit))
    for what, text in mine:
        yield "changed" if what == own else "cut" if what == "cut" else "same", text
    if num_unread > 0:
        yield "cut", f"{num_unread:,} characters that were not compared"


def _pieces(before: str, after: str) -> list[Piece]:
    pieces: list[Piece] = []
    for left, right in _aligned(before, after):
        if left == right:
            pieces.append(("same", left))
        elif _is_looping(left) and _is_looping(right):
            pieces += [("removed", left), ("added", right)]
        else:
            pieces += word_changes(left, right)
    return pieces


def _aligned(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Yield both texts in pieces that belong together; they part where two words stand that each has once in a row.

    Of such places those count that stand in the same order in both: Bram Cohen's patience diff.
    """
    if len(before) + len(after) < _LONG:
        yield before, after
        return
    left, right = _unique_pairs(before), _unique_pairs(after)
    pairs = [(start, right[words]) for words, start in left.items() if words in right]
    begin, other_begin = 0, 0
    for start, other_start in (pairs[index] for index in longest_rise([second for _, second in pairs])):
        yield before[begin:start], after[other_begin:other_start]
        begin, other_begin = start, other_start
    yield before[begin:], after[other_begin:]


def _unique_pairs(text: str) -> dict[tuple[str, str], int]:
    """Return, in order, each two words that follow one another once in ``text``, and where the first of them is."""
    spans = [(match.group(), match.start()) for match in _RUN.finditer(text)]
    pairs = [((word, after), start) for (word, start), (after, _) in pairwise(spans)]
    counts = Counter(words for words, _ in pairs)
    return {words: start for words, start in pairs if counts[words] == 1}


def _is_looping(text: str) -> bool:
    words = _RUN.findall(text)
    return len(words) > _LOOPING * len(set(words))
