"""Traces of reasoning beside an answer: recognised, so that a reasoning set is not trained as a plain one."""

from __future__ import annotations

from collections.abc import Sequence

from curate.base.record import Json
from curate.formats.importers import foreign_form
from curate.formats.importers._reading import is_filled

_NAMES = ("reasoning_content", "reasoning", "thinking")
_TURNS = ("messages", "conversations", "prompt", "completion")


def _fields(rows: Sequence[dict[str, Json]]) -> set[str]:
    talks = [row[key] for row in rows for key in _TURNS if isinstance(row.get(key), list)]
    parts = [*rows, *(turn for talk in talks for turn in talk if isinstance(turn, dict))]
    return {name for name in _NAMES for part in parts if name in part and is_filled(part[name])}


@foreign_form(
    "reasoning",
    signs=(*_NAMES, *_TURNS),
    fields=_fields,
    samples=[
        {"question": "2 + 2?", "reasoning": "Two and two.", "answer": "It is 4."},
        {"messages": [{"role": "user", "content": "2 + 2?"},
                      {"role": "assistant", "content": "It is 4.", "reasoning_content": "Two and two."}]},
    ],
)  # fmt: skip
def advise(rows: Sequence[dict[str, Json]]) -> str:
    """traces of reasoning, which cannot be trained on yet: without them the answers alone would be learnt."""
    names = ",".join(sorted(_fields(rows)))
    return f"To train on the answers and only store the reasoning, add: --to-meta {names}"
