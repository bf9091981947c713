"""Preferences, columns of reasoning, annotations of other tools: recognised, so that no wrong thing is trained."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from curate.base.record import TRACES, Json
from curate.formats.importers import foreign_form
from curate.formats.importers._reading import DIGITS, VERDICTS, is_filled, map_option, spelled_value
from curate.formats.importers.mapping import guess

_VERDICT_COLUMNS = ("label", "kto_tag")
_COMPLETIONS = ("completion", "response", "output", "answer", "messages", "conversations")
_PAIR = ("chosen", "rejected")


def _paired(rows: Sequence[dict[str, Json]]) -> set[str]:
    return {name for row in rows for name in _PAIR if is_filled(row.get(name))}


def _unpaired(rows: Sequence[dict[str, Json]]) -> set[str]:
    answered = [row for row in rows if any(is_filled(row.get(name)) for name in _COMPLETIONS)]
    fields = set()
    for name in _VERDICT_COLUMNS:
        values = {spelled_value(row[name]) for row in answered if name in row}
        # 0 and 1 and nothing else are verdicts too, which one row alone does not show.
        if values & VERDICTS or values == DIGITS:
            fields.add(name)
    return fields


@foreign_form(
    "preference-pairs",
    signs=_PAIR,
    fields=_paired,
    read_by=("preference", "rated", "openai-preference", "dataset"),
    samples=[
        {"prompt": "Say hi.", "chosen": "Hello.", "rejected": "Go away."},
        {"instruction": "Say hi.", "output": "Hello.", "rejected": "Go away."},
    ],
)
def advise_pairs(rows: Sequence[dict[str, Json]]) -> str:
    """preference pairs, which this workspace or format has no place for: of two answers one is the better."""
    first = next(row for row in rows if _paired([row]))
    mapping = guess([{key: value for key, value in row.items() if key not in _PAIR} for row in rows])
    keeps = "A workspace of its own takes both answers: `curate init`. "
    names = ",".join(name for name in _PAIR if any(is_filled(row.get(name)) for row in rows))
    if "output" in mapping or "messages" in first or "conversations" in first:
        return f"{keeps}To train on the answers and only store the preferences, add: --to-meta {names}"
    chosen, prompt = first.get("chosen"), mapping.get("instruction", "")
    if isinstance(chosen, list) and len(chosen) == 2 and isinstance(chosen[1], dict):
        pair = {"instruction": prompt or "/chosen/0/content", "output": "/chosen/1/content"}
    elif isinstance(chosen, str) and prompt:
        pair = {"instruction": prompt, "output": "chosen"}
    else:
        return 'Write each chosen conversation as a row of its own: {"messages": [...]}.'
    return (
        f"{keeps}To train on the chosen answers and only store the others, add: {map_option(pair)} --to-meta rejected"
    )


@foreign_form(
    "unpaired-preferences",
    signs=_VERDICT_COLUMNS,
    fields=_unpaired,
    read_by=("liked", "dataset"),
    samples=[
        {"prompt": "Say hi.", "completion": "Hello.", "label": True},
        {"prompt": "Say hi.", "completion": "Go away.", "label": False},
    ],
)
def advise_unpaired(rows: Sequence[dict[str, Json]]) -> str:
    """answers with a verdict on each (as for KTO), which this workspace or format has no place for: some are bad."""
    column = next(name for name in _VERDICT_COLUMNS if any(name in row for row in rows))
    values = {spelled_value(row[column]) for row in rows if is_filled(row.get(column))}
    good = next((word for word in ("true", "yes", "good", "accept", "correct", "1") if word in values), "VALUE")
    return (
        "A workspace of its own takes them with their verdicts: `curate init`. "
        f"To take the answers that were found good, add: --only {shlex.quote(f'{column}={good}')}. "
        f"The others are counted and left out. To take all of them as good answers: --to-meta {column}."
    )


_TURNS = ("messages", "conversations")


def _fields(rows: Sequence[dict[str, Json]]) -> set[str]:
    return {name for name in TRACES for row in rows if is_filled(row.get(name))}


@foreign_form(
    "reasoning",
    signs=TRACES,
    fields=_fields,
    samples=[
        {"question": "2 + 2?", "reasoning": "Two and two.", "answer": "It is 4."},
        {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is 4."}],
         "reasoning": "Two and two."},
    ],
)  # fmt: skip
def advise(rows: Sequence[dict[str, Json]]) -> str:
    """a column of reasoning, which may be what stands before the answers or what somebody thought of them."""
    names = sorted(_fields(rows))
    only_store = f"To train on the answers and only store the reasoning, add: --to-meta {','.join(names)}"
    if any(key in row for row in rows for key in _TURNS):
        return f"{only_store}. To train it, write it as reasoning_content of the assistant's message."
    pair = {name: column for name, column in guess(rows).items() if name in ("instruction", "input", "output")}
    return f"To train it before the answers, add: {map_option(pair | {'reasoning': names[0]})}. {only_store}"
