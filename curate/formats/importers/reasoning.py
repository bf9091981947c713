"""Traces of reasoning beside an answer: recognised, so that a reasoning set is not trained as a plain one."""

from __future__ import annotations

from collections.abc import Sequence

from curate.base.record import Json
from curate.formats.importers import foreign_form
from curate.formats.importers._foreign import is_filled

_NAMES = ("reasoning_content", "reasoning", "thinking")
_TURNS = ("messages", "conversations", "prompt", "completion")


def _fields(row: dict[str, Json]) -> set[str]:
    names = {name for name in _NAMES if is_filled(row.get(name))}
    for key in _TURNS:
        turns = row.get(key)
        if isinstance(turns, list):
            names.update(
                name for turn in turns if isinstance(turn, dict) for name in _NAMES if is_filled(turn.get(name))
            )
    return names


@foreign_form(
    "reasoning",
    may_show=lambda names: any(name in names for name in (*_NAMES, *_TURNS)),
    fields=_fields,
    samples=[
        {"question": "2 + 2?", "reasoning": "Two and two.", "answer": "It is 4."},
        {"messages": [{"role": "user", "content": "2 + 2?"},
                      {"role": "assistant", "content": "It is 4.", "reasoning_content": "Two and two."}]},
    ],
)  # fmt: skip
def advise(rows: Sequence[dict[str, Json]]) -> str:
    """traces of reasoning, which cannot be trained on yet: without them the answers alone would be learnt."""
    names = ",".join(sorted({name for row in rows for name in _fields(row)}))
    return f"To train on the answers and only store the reasoning, add: --to-meta {names}"
