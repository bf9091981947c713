"""What no guess may take for text to train: one of two answers, answers that were judged, and columns of reasoning."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from curate.base.record import TRACES, Json
from curate.formats.importers import ForeignForm
from curate.formats.importers._reading import DIGITS, VERDICTS, is_filled, map_option, spelled_value
from curate.formats.importers.mapping import guess
from curate.formats.importers.preference import COMPLETIONS, VERDICT_COLUMNS

_PAIR = ("chosen", "rejected")
_TURNS = ("messages", "conversations")
Rows = Sequence[dict[str, Json]]


def _filled(rows: Rows, names: Sequence[str]) -> set[str]:
    return {name for row in rows for name in names if is_filled(row.get(name))}


def _paired(rows: Rows) -> set[str]:
    return _filled(rows, _PAIR)


def _keep_all(form: str) -> str:
    return f"To keep all answers, make a workspace of them: curate init DIR FILE --format {form}. "


def _advise_pairs(rows: Rows) -> str:
    keeps = _keep_all("preference") if _paired(rows) == {*_PAIR} else ""
    mapping = guess([{key: value for key, value in row.items() if key not in _PAIR} for row in rows])
    if "output" in mapping or _filled(rows, _TURNS):
        names = ",".join(name for name in _PAIR if name in _paired(rows))
        return f"{keeps}To train on the answers and only store the preferences, add: --to-meta {names}"
    # Of two conversations no map makes a prompt and an answer.
    if not any(isinstance(row.get("chosen"), str) for row in rows) or "instruction" not in mapping:
        return f"{keeps}Its exports for fine-tuning take the chosen one."
    option = map_option({"instruction": mapping["instruction"], "output": "chosen"})
    return f"{keeps}To train on the chosen answers and only store the others, add: {option} --to-meta rejected"


def _verdict_fields(rows: Rows) -> set[str]:
    answered = [row for row in rows if _filled([row], COMPLETIONS)]
    values = {name: [spelled_value(row[name]) for row in answered if name in row] for name in VERDICT_COLUMNS}
    return {name for name, given in values.items() if VERDICTS & {*given} or _are_digits(given)}


def _are_digits(values: Sequence[str]) -> bool:
    # 0 and 1 are verdicts too where they are most of what is said, which one row alone does not show.
    return {*values} >= DIGITS and 2 * sum(value in DIGITS for value in values) > len(values)


def _advise_verdicts(rows: Rows) -> str:
    column = next(name for name in VERDICT_COLUMNS if any(name in row for row in rows))
    values = {spelled_value(row[column]) for row in rows if is_filled(row.get(column))}
    good = next((word for word in ("true", "yes", "good", "accept", "correct", "1") if word in values), "VALUE")
    return (
        f"{_keep_all('liked')}To take the answers that were found good, add: --only {shlex.quote(f'{column}={good}')}. "
        f"The others are counted and left out. To take all of them as good answers: --to-meta {column}."
    )


def _reasoned(rows: Rows) -> set[str]:
    return _filled(rows, TRACES)


def _advise_reasoned(rows: Rows) -> str:
    names = sorted(_reasoned(rows))
    only_store = f"To train on the answers and only store the reasoning, add: --to-meta {','.join(names)}"
    if _filled(rows, _TURNS):
        return f"{only_store}. To train it, write it as reasoning_content of the assistant's message."
    pair = {name: column for name, column in guess(rows).items() if name in ("instruction", "input", "output")}
    return f"To train it before the answers, add: {map_option(pair | {'reasoning': names[0]})}. {only_store}"


FORMS = (
    ForeignForm(
        "preference-pairs",
        "preference pairs, which this workspace or format has no place for: of two answers one is the better.",
        _PAIR, _paired, _advise_pairs, ("preference", "rated", "openai-preference", "dataset"),
    ),
    ForeignForm(
        "unpaired-preferences",
        "answers with a verdict on each (as for KTO), which this workspace or format has no place for: some are bad.",
        VERDICT_COLUMNS, _verdict_fields, _advise_verdicts, ("liked", "dataset"),
    ),
    ForeignForm(
        "reasoning",
        "a column of reasoning, which may be what stands before the answers or what somebody thought of them.",
        TRACES, _reasoned, _advise_reasoned,
    ),
)  # fmt: skip
