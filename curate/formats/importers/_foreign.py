"""What no guess may take for text to train: one of two answers, answers that were judged, and columns of reasoning."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Sequence

from curate.base.record import TRACES, Json
from curate.formats.importers import ForeignForm
from curate.formats.importers._reading import DIGITS, JUDGEMENTS, VERDICTS, is_filled, map_option, spelled_value
from curate.formats.importers.mapping import guess, plain_name
from curate.formats.importers.preference import VERDICT_COLUMNS
from curate.jsonl import pointer_of

_PAIR = ("chosen", "rejected")
_PARENTS = ("parent_id", "parent_message_id", "reply_to")
_TURNS = ("messages", "conversations")
# Words in the names of columns that judge answers, and the values of such: few, and words or small numbers.
_JUDGES = frozenset({
    "thumb", "thumbs", "vote", "votes", "verdict", "rating", "rated", "score", "stars", "helpful", "helpfulness",
    "correct", "correctness", "preferred", "quality", "accepted", "approved", "judgement", "judgment", "grade",
    "feedback", "liked", "good",
})  # fmt: skip
_SHORT = re.compile(r"(?:\d|10)(?:\.[05]0*)?|-1|[^\d\s](?:.{0,18}\D)?")
_MOST_KINDS = 21
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


def _verdict_values(rows: Rows) -> dict[str, list[str]]:
    """Return by column, and by pointer into an object beside the answers, the values of those that judge answers."""
    values: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        inner = ((pointer_of((name, key)), part) for name, value in row.items() if isinstance(value, dict)
                 for key, part in value.items())  # fmt: skip
        for name, value in (*row.items(), *inner):
            if is_filled(value) and not isinstance(value, list | dict):
                values[name].append(spelled_value(value).strip())
    answer = guess(rows).get("output", "")
    if not answer and not _filled(rows, _TURNS):
        return {}
    return {name: given for name, given in values.items() if name != answer and _is_verdict(name, given)}


def _is_verdict(column: str, values: Sequence[str]) -> bool:
    name, kinds = plain_name(column.rsplit("/", 1)[-1]), {*values}
    if name in VERDICT_COLUMNS:
        # 0 and 1 are verdicts too where they are most of what is said, which one row alone does not show.
        are_digits = kinds >= DIGITS and 2 * sum(value in DIGITS for value in values) > len(values)
        return bool(VERDICTS & kinds) or are_digits
    is_short = len(kinds) <= _MOST_KINDS and all(_SHORT.fullmatch(value) for value in kinds)
    return kinds <= JUDGEMENTS or (is_short and not _JUDGES.isdisjoint(name.split("_")))


def _advise_verdicts(rows: Rows) -> str:
    column, values = next(iter(_verdict_values(rows).items()))
    words = ("true", "yes", "good", "accept", "correct", "thumbs_up", "up", "👍", "1")
    good = next((word for word in words if word in values), "VALUE")
    good = max(values, key=lambda value: (len(value), value)) if all(map(str.isdecimal, values)) else good
    keeps = _keep_all("liked") if column in VERDICT_COLUMNS else ""
    return (
        f"{keeps}To take the answers that were found good, add: --only {shlex.quote(f'{column}={good}')}. "
        f"The others are counted and left out. To take all of them as good answers: --to-meta {shlex.quote(column)}."
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
        ("",), _verdict_values, _advise_verdicts, ("liked", "dataset", "preference", "rated", "openai-preference"),
        ("prodigy",),
    ),
    ForeignForm(
        "flat-tree",
        "messages that name the one before, so that each row is a turn of a talk; whole trees and talks are read.",
        _PARENTS, lambda rows: _filled(rows, _PARENTS),
        lambda rows: f"To read each row by itself, add: --to-meta {','.join(sorted(_filled(rows, _PARENTS)))}",
    ),
    ForeignForm(
        "reasoning",
        "a column of reasoning, which may be what stands before the answers or what somebody thought of them.",
        TRACES, _reasoned, _advise_reasoned,
    ),
)  # fmt: skip
