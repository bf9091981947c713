"""Preferences, in pairs and one by one: recognised, so that an answer to avoid is not trained as one to give."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from curate.base.record import Json
from curate.formats.importers import foreign_form
from curate.formats.importers._foreign import DIGITS, VERDICTS, is_filled, map_option, spelled_value
from curate.formats.importers.mapping import guess

_VERDICT_COLUMNS = ("label", "kto_tag")
_COMPLETIONS = ("completion", "response", "output", "answer", "messages", "conversations")
_PAIR = ("chosen", "rejected")


def _paired(row: dict[str, Json]) -> tuple[str, ...]:
    return tuple(name for name in _PAIR if is_filled(row.get(name)))


def _has_completion(row: dict[str, Json]) -> bool:
    return any(is_filled(row.get(name)) for name in _COMPLETIONS)


def _unpaired(row: dict[str, Json]) -> tuple[str, ...]:
    if not _has_completion(row):
        return ()
    return tuple(name for name in _VERDICT_COLUMNS if is_filled(row.get(name)) and spelled_value(row[name]) in VERDICTS)


def _numbered(rows: Sequence[dict[str, Json]]) -> tuple[str, ...]:
    """Return the verdict columns that hold 0 and 1 and nothing else; one row alone does not show it."""
    good = [row for row in rows if _has_completion(row)]
    return tuple(
        name for name in _VERDICT_COLUMNS if {spelled_value(row[name]) for row in good if name in row} == DIGITS
    )


@foreign_form(
    "preference-pairs",
    may_show=lambda names: any(name in names for name in _PAIR),
    fields=_paired,
    samples=[
        {"prompt": "Say hi.", "chosen": "Hello.", "rejected": "Go away."},
        {"instruction": "Say hi.", "output": "Hello.", "rejected": "Go away."},
    ],
)
def advise_pairs(rows: Sequence[dict[str, Json]]) -> str:
    """preference pairs, which cannot be trained on yet: 'chosen' is the better answer and 'rejected' the worse."""
    first = next(row for row in rows if _paired(row))
    mapping = guess([{key: value for key, value in row.items() if key not in _PAIR} for row in rows])
    names = ",".join(name for name in _PAIR if any(is_filled(row.get(name)) for row in rows))
    if "output" in mapping or "messages" in first or "conversations" in first:
        return f"To train on the answers and only store the preferences, add: --to-meta {names}"
    chosen, prompt = first.get("chosen"), mapping.get("instruction", "")
    if isinstance(chosen, list) and len(chosen) == 2 and isinstance(chosen[1], dict):
        pair = {"instruction": prompt or "/chosen/0/content", "output": "/chosen/1/content"}
    elif isinstance(chosen, str) and prompt:
        pair = {"instruction": prompt, "output": "chosen"}
    else:
        return 'Write each chosen conversation as a row of its own: {"messages": [...]}.'
    return f"To train on the chosen answers and only store the others, add: {map_option(pair)} --to-meta rejected"


@foreign_form(
    "unpaired-preferences",
    may_show=lambda names: any(name in names for name in _VERDICT_COLUMNS),
    fields=_unpaired,
    all_fields=_numbered,
    samples=[
        {"prompt": "Say hi.", "completion": "Hello.", "label": True},
        {"prompt": "Say hi.", "completion": "Go away.", "label": False},
    ],
)
def advise_unpaired(rows: Sequence[dict[str, Json]]) -> str:
    """answers with a verdict on each (as for KTO), which cannot be trained on yet: some are answers to avoid."""
    column = next(name for name in _VERDICT_COLUMNS if any(name in row for row in rows))
    values = {spelled_value(row[column]) for row in rows if is_filled(row.get(column))}
    good = next((word for word in ("true", "yes", "good", "accept", "correct", "1") if word in values), "VALUE")
    return (
        f"To take the answers that were found good, add: --only {shlex.quote(f'{column}={good}')}. "
        f"The others are counted and left out. To take all of them as good answers: --to-meta {column}."
    )
