"""Two texts beside one another, each with the words marked that the other has not."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

from curate.project.diff.words import Piece, shortened, word_changes

Mark = Literal["same", "changed", "cut"]
MOST_READ = 50_000
"""Characters of a text that are compared: of longer ones only the beginning, and how much is left out is told."""

Side = list[tuple[Mark, str]]
"""What of a text the other has too, what it has not, and "1,234 characters" where something is left out."""

_WORD = re.compile(r"\S+")
_LONG = 6000
"""Characters of both texts from which they are compared piece by piece, between words that each has once in a row."""
_LOOPING = 50
"""Words for each different one from which a long text goes round in circles: comparing two of them takes seconds."""


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
    mine = _joined([piece for piece in pieces if piece[0] in ("same", own)])
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
    left, right = _once(before), _once(after)
    pairs = [(start, right[words]) for words, start in left.items() if words in right]
    begin, other_begin = 0, 0
    for start, other_start in _rising(pairs):
        yield before[begin:start], after[other_begin:other_start]
        begin, other_begin = start, other_start
    yield before[begin:], after[other_begin:]


def _once(text: str) -> dict[tuple[str, str], int]:
    """Return, in order, each two words that follow one another once in ``text``, and where the first of them is."""
    spans = [(match.group(), match.start()) for match in _WORD.finditer(text)]
    pairs = [((word, after), start) for (word, start), (after, _) in pairwise(spans)]
    counts = Counter(words for words, _ in pairs)
    return {words: start for words, start in pairs if counts[words] == 1}


def _rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest run of ``pairs``, which rise in the first number, that rise in the second one too."""
    ends: list[int] = []
    last: list[int] = []
    before: list[int] = []
    for number, (_, second) in enumerate(pairs):
        at = bisect_left(ends, second)
        before.append(last[at - 1] if at else -1)
        ends[at : at + 1] = [second]
        last[at : at + 1] = [number]
    run = []
    number = last[-1] if last else -1
    while number >= 0:
        run.append(pairs[number])
        number = before[number]
    return run[::-1]


def _is_looping(text: str) -> bool:
    words = _WORD.findall(text)
    return len(words) > _LOOPING * len(set(words))


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Join neighbours of one kind."""
    joined: list[Piece] = []
    for what, text in pieces:
        if joined and joined[-1][0] == what:
            joined[-1] = (what, joined[-1][1] + text)
        elif text:
            joined.append((what, text))
    return joined
