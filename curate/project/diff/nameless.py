"""Records without an id that were edited, found again by their place: an edit is no deletion and addition."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence

import orjson

from curate.base.record import strings_of

_WORD = re.compile(r"\w+")
_AT_LEAST = 0.5
"""Share of the words of both that both must have, where they have no text of their own in common."""
_LONG = 12
"""Characters from which a text is one that a record can be known by."""
_AHEAD = 20
"""How many deleted neighbours an addition is compared with."""


def recognise(base: Mapping[str, bytes], side: Mapping[str, bytes], named: Container[str]) -> dict[str, str]:
    """Return which records of ``side`` are edits of which in ``base``, both lines by name; those ``named`` are not.

    An edit is what stands in the place of a record that is gone, between the same neighbours, and resembles it.
    """
    gaps = [(gone, come) for gone, come in _gaps(base, side, named) if gone]
    if not gaps:
        return {}
    known = Counter(text for raw in base.values() for text in _texts(raw) if len(text) >= _LONG)
    return {new: old for gone, come in gaps for new, old in _pairs(gone, come, base, side, known)}


def _gaps(
    base: Mapping[str, bytes], side: Mapping[str, bytes], named: Container[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield what nameless records are gone and have come between each two neighbours that are still in order."""
    names = list(base)
    positions = {name: position for position, name in enumerate(names)}
    neighbours = _in_order([positions[name] for name in side if name in positions])
    last = -1
    come: list[str] = []
    for name, position in [*((name, positions.get(name, -1)) for name in side), ("", len(names))]:
        if position < 0 and name not in named:
            come.append(name)
        if position in neighbours or position == len(names):
            if come:
                yield (
                    [skipped for skipped in names[last + 1 : position] if skipped not in side and skipped not in named],
                    come,
                )
                come = []
            last = position


def _in_order(positions: Sequence[int]) -> set[int]:
    """Return the most of ``positions``, which differ, that stand in rising order: all but those that were moved.

    By patience sorting (Fredman, On computing the length of longest increasing subsequences, 1975).
    """
    ends: list[int] = []
    before: dict[int, int] = {}
    for position in positions:
        pile = bisect_left(ends, position)
        before[position] = ends[pile - 1] if pile else -1
        ends[pile : pile + 1] = [position]
    rising: set[int] = set()
    position = ends[-1] if ends else -1
    while position >= 0:
        rising.add(position)
        position = before[position]
    return rising


def _pairs(
    gone: list[str], come: list[str], base: Mapping[str, bytes], side: Mapping[str, bytes], known: Counter[str]
) -> Iterator[tuple[str, str]]:
    texts = {name: _texts(base[name]) for name in gone}
    for new in come:
        own = _texts(side[new])
        scores = [_likeness(own, texts[old], known) for old in gone[:_AHEAD]]
        best = max(scores, default=0.0)
        if best >= _AT_LEAST:
            index = scores.index(best)
            yield new, gone[index]
            # In order, as edits leave it: what was passed over was deleted.
            del gone[: index + 1]


def _likeness(own: set[str], theirs: set[str], known: Counter[str]) -> float:
    """Return the share of common words (Jaccard), and 1 more for a long text that no other record of the base has."""
    words, others = ({word for text in texts for word in _WORD.findall(text)} for texts in (own, theirs))
    shared = len(words & others) / max(1, len(words | others))
    return shared + any(len(text) >= _LONG and known[text] == 1 for text in own & theirs)


def _texts(raw: bytes) -> set[str]:
    return set(strings_of(orjson.loads(raw)))
