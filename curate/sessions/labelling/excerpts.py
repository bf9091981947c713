"""What annotators read of a record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from curate.base.record import Json, Record, canonical
from curate.schema.view import REASONING, prompt_messages, said_in, spoken_turns

_MOST_TEXT = 20_000  # Characters of one text that are shown; how many more there are is said.


def turns_of(record: Record, sides: Sequence[str] = ()) -> Iterator[tuple[str, str, int]]:
    """Yield who speaks, in capitals, what they say, and how many characters more are not shown.

    The category, the labels and the split are left out: they may come from somebody else's answer. ``sides`` are
    "chosen" and "rejected" in the order in which the best and the worst answer of a preference are shown, as A and B.
    """
    turns = list(spoken_turns(record))
    if sides and len(record.answers) > 1:
        pair = (record.answers[0], record.answers[-1])
        turns = list(said_in(prompt_messages(record)))
        for letter, answer in zip("AB", pair if sides[0] == "chosen" else reversed(pair), strict=True):
            turns += [(who if who == REASONING else f"answer {letter}", text) for who, text in said_in(answer.messages)]
    for who, text in turns:
        yield who.upper(), text[:_MOST_TEXT], max(0, len(text) - _MOST_TEXT)
    if record.tools:
        names = ", ".join(str(tool.get("function", {}).get("name", "")) for tool in record.tools)
        yield "TOOLS", names[:_MOST_TEXT], max(0, len(names) - _MOST_TEXT)


def spelled_value(value: Json) -> str:
    """Return an answer as people read it; it is data, and not yet safe for a terminal."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(map(spelled_value, value))
    return canonical(value).decode()
