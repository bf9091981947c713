"""What no guess may take for text to train: one of two answers, answers that were judged, and columns of reasoning."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.base.record import TRACES, Json
from curate.formats.importers import ForeignForm
from curate.formats.importers._reading import (
    BAD,
    DIGITS,
    JUDGEMENTS,
    VERDICTS,
    is_filled,
    map_option,
    spelled_at,
    spelled_value,
)
from curate.formats.importers.mapping import guess, plain_name
from curate.formats.importers.preference import VERDICT_COLUMNS
from curate.jsonl import pointer_of

_PAIR = ("chosen", "rejected")
_PARENTS = ("parent_id", "parent_message_id", "reply_to")
_TURNS = ("messages", "conversations")
_TEXTS = ("instruction", "input", "output")
_TALKS = (*_TURNS, "prompt", "completion", "scores", "ratings", "feedback")
# What a model said of itself, and descriptions.
_NO_VERDICTS = frozenset({"tools", "tool_calls", "suggestions", "predictions", "vectors"})
# Words in the names of columns that judge answers, and the values of such: few, and words or small numbers.
_JUDGES = frozenset({
    "thumb", "thumbs", "vote", "votes", "verdict", "rating", "rated", "score", "stars", "helpful", "helpfulness",
    "correct", "correctness", "preferred", "quality", "accepted", "approved", "judgement", "judgment", "grade",
    "feedback", "liked", "good", "scores", "ratings",
})  # fmt: skip
# Those of which yes says that an answer is bad.
_BLAMES = frozenset({"deleted", "discarded", "rejected", "bad", "spam", "flagged", "hidden"})
_SHORT = re.compile(r"(?:\d|10)(?:\.[05]0*)?|-1|(?:[^\d\s]|\d ?[^\d\s.,])(?:.{0,18}\D)?|\d/\d+")
_SCORE = re.compile(r"\d{1,3}(?:\.\d+)?|-1")
_MOST_KINDS = 21
_CORRECTED = re.compile(r"(corrected|revised|edited|improved|final|fixed)_(answer|output|response|completion)")
Rows = Sequence[dict[str, Json]]


def _filled(rows: Rows, names: Sequence[str]) -> set[str]:
    return {name for row in rows for name in names if is_filled(row.get(name))}


def _paired(rows: Rows) -> set[str]:
    return {name for row in rows for name in _filled([row], _PAIR) if spelled_value(row[name]) not in VERDICTS}


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
    mapping = guess(rows)
    if "output" not in mapping and not _filled(rows, _TURNS):
        return {}
    texts = {mapping.get(field) for field in _TEXTS}
    beside = {name for row in rows for name in names_beside(row) if name.removeprefix("/").split("/")[0] not in texts}
    return {name: given for name, given in _values(rows).items() if name in beside and _is_verdict(name, given)}


def names_beside(row: dict[str, Json]) -> set[str]:
    """Return the columns, and the pointers to what stands beside an answer, in an object or in a turn."""
    return {_named(path) for path in {path for path, _ in _leaves(row)} if _is_beside(path)}


def _is_beside(path: Sequence[str]) -> bool:
    return path.count("*") <= 1 or path[0] in _TALKS


def _named(path: Sequence[str]) -> str:
    return pointer_of(path) if len(path) > 1 else path[0]


def _values(rows: Rows) -> dict[str, list[str]]:
    values: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for row in rows:
        for path, value in _leaves(row):
            values[path].append(spelled_value(value).strip())
    return {_named(path): given for path, given in values.items()}


def _leaves(value: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Json]]:
    """Yield what stands in a row with its path, in which "*" is each of a list."""
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else (("*", part) for part in value)
        for name, part in parts:
            if name not in _NO_VERDICTS:
                yield from _leaves(part, (*path, name))
    elif path and is_filled(value):
        yield path, value


def low_ratings(_path: Path, rows: Rows) -> list[str]:
    """Return how many rows hold a low rating and what leaves them out, for each place where ratings stand."""
    notices = []
    for column, values in _values(rows).items():
        # Numbers are what Argilla's ratings have, whatever they are called.
        is_number = column.endswith(("/*", "/value")) and all(map(str.isdecimal, values))
        low, good = _low_and_good(column, values)
        count = sum(not low.isdisjoint(spelled_at(row, column)) for row in rows)
        if count and (is_number or _is_verdict(column, values)):
            said = f"{count:,} of the {len(rows):,} answers looked at have a low rating and would be trained"
            notices.append(f"{said}; leave them out with --only {shlex.quote(column + good)}")
    return notices


def _low_and_good(column: str, values: Sequence[str]) -> tuple[set[str], str]:
    """Return which of the values say that an answer is bad, and the condition that is met by the others."""
    if not _BLAMES.isdisjoint(_name_of(column).split("_")):
        good = {*values} & ({*BAD, "0"} - JUDGEMENTS)
        return {*values} - good, f"={min(good, default='VALUE')}"
    numbers = {value: float(value) for value in values if _SCORE.fullmatch(value)}
    if not numbers:
        return {*values} & BAD, f"={next((word for word in values if word in VERDICTS - BAD), 'VALUE')}"
    # All of five stars need not be given; where there is nothing over 1, it is good, beside 0 or -1.
    most = max(numbers.values())
    least = 1 if min(numbers.values()) < most == 1 else int(0.4 * max(5, most)) + 1
    return {value for value, number in numbers.items() if number < least}, f"{'' if least == 1 else '>'}={least}"


def _is_verdict(column: str, values: Sequence[str]) -> bool:
    kinds = {*values}
    if _name_of(column) in VERDICT_COLUMNS:
        # 0 and 1 are verdicts too where they are most of what is said, which one row alone does not show.
        are_digits = kinds >= DIGITS and 2 * sum(value in DIGITS for value in values) > len(values)
        return bool(VERDICTS & kinds) or are_digits
    is_short = len(kinds) <= _MOST_KINDS and all(_SHORT.fullmatch(value) for value in kinds)
    is_judge = not (_JUDGES | _BLAMES).isdisjoint(_name_of(column).split("_"))
    return kinds <= JUDGEMENTS or bool(is_short and (is_judge or (kinds & JUDGEMENTS & BAD and "*" not in column)))


def _name_of(column: str) -> str:
    named = [part for part in column.split("/") if part not in ("*", "value")]
    return plain_name((named or [column])[-1])


def _advise_verdicts(rows: Rows) -> str:
    column, values = next(iter(_verdict_values(rows).items()))
    keeps = _keep_all("liked") if column in VERDICT_COLUMNS else ""
    only = shlex.quote(column + _low_and_good(column, values)[1])
    return (
        f"{keeps}To take the answers that were found good, add: --only {only}. "
        f"The others are counted and left out. To take all of them as good answers: --to-meta {shlex.quote(column)}."
    )


def _corrected(rows: Rows) -> set[str]:
    """Return the columns of corrected answers beside another one that would be trained."""
    names = {name for row in rows for name in row if is_filled(row[name]) and _CORRECTED.fullmatch(plain_name(name))}
    return names if guess(rows).get("output", "") not in {"", *names} else set()


def _advise_corrected(rows: Rows) -> str:
    name = min(_corrected(rows))
    pair = {field: column for field, column in guess(rows).items() if field in _TEXTS}
    return (
        f"To train on the corrections, add: {map_option(pair | {'output': name})}. "
        f"To train on the answers as they were: --to-meta {shlex.quote(name)}"
    )


def _reasoned(rows: Rows) -> set[str]:
    return _filled(rows, TRACES)


def _advise_reasoned(rows: Rows) -> str:
    names = sorted(_reasoned(rows))
    only_store = f"To train on the answers and only store the reasoning, add: --to-meta {','.join(names)}"
    if _filled(rows, _TURNS):
        return f"{only_store}. To train it, write it as reasoning_content of the assistant's message."
    pair = {name: column for name, column in guess(rows).items() if name in _TEXTS}
    return f"To train it before the answers, add: {map_option(pair | {'reasoning': names[0]})}. {only_store}"


FORMS = (
    ForeignForm(
        "preference-pairs",
        "preference pairs, which this workspace or format has no place for: of two answers one is the better.",
        _paired, _advise_pairs, ("preference", "rated", "openai-preference", "dataset"),
    ),
    ForeignForm(
        "unpaired-preferences",
        "answers with a verdict on each (as for KTO), which this workspace or format has no place for: some are bad.",
        _verdict_values, _advise_verdicts, ("liked", "dataset", "preference", "rated", "openai-preference"),
        ("prodigy",),
    ),
    ForeignForm(
        "flat-tree",
        "messages that name the one before, so that each row is a turn of a talk; whole trees and talks are read.",
        lambda rows: _filled(rows, _PARENTS),
        lambda rows: f"To read each row by itself, add: --to-meta {','.join(sorted(_filled(rows, _PARENTS)))}",
    ),
    ForeignForm(
        "corrections",
        "answers and, in another column, what somebody made of them: which of the two is to be trained.",
        _corrected, _advise_corrected,
    ),
    ForeignForm(
        "reasoning",
        "a column of reasoning, which may be what stands before the answers or what somebody thought of them.",
        _reasoned, _advise_reasoned,
    ),
)  # fmt: skip
