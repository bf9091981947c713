"""Preferences: pairs of a chosen and a rejected answer, several answers with ratings, and one answer with a verdict.

The forms are those of TRL, LLaMA-Factory, OpenAI, and sets such as UltraFeedback and HH-RLHF.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer, share
from curate.formats.importers._reading import (
    DIGITS,
    answer_of,
    is_filled,
    json_name,
    question_of,
    read_messages,
    spelled_value,
    take_common,
    take_tools,
)
from curate.formats.importers.sharegpt import read_turns

_PROMPTS = ("prompt", "instruction", "question", "query", "messages", "conversations")
COMPLETIONS = ("completion", "response", "output", "answer", "messages", "conversations")
VERDICT_COLUMNS = ("label", "kto_tag")
_LISTS = ("completions", "responses", "answers")
_SAID = ("content", "response", "text", "completion", "answer")
_RATINGS = ("rating", "overall_score", "score")
_GOOD, _BAD = frozenset({"true", "1", "good", "yes", "accept"}), frozenset({"false", "0", "bad", "no", "reject"})
_HH_START = "\n\nHuman:"
_HH_MARK = re.compile(r"\n\n(Human|Assistant): ?")

_ASK = {"role": "user", "content": "Say hi."}


def turns_of(value: Json, name: str) -> list[dict[str, Json]]:
    """Return an answer or a conversation as messages: text, one message or several, by role or by from.

    Raises:
        RowError: it is none of these.
    """
    if isinstance(value, str):
        if value.startswith(_HH_START):
            parts = _HH_MARK.split(value)[1:]
            roles = ["user" if who == "Human" else "assistant" for who in parts[::2]]
            return [{"role": role, "content": text.strip()} for role, text in zip(roles, parts[1::2], strict=True)]
        return [{"role": "assistant", "content": value}]
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list) or not turns:
        raise RowError(f"{name!r} is {json_name(value)}, not text or messages")
    is_by_role = all(isinstance(turn, dict) and "role" in turn for turn in turns)
    return read_messages(turns, name)[0] if is_by_role else read_turns(turns)[0]


def _prompt_fields(row: dict[str, Json], prefix: Sequence[dict[str, Json]]) -> tuple[dict[str, Json], list[str]]:
    """Return what is asked, as a line has it, and the fields that say it: ``prefix`` where both answers begin with it.

    Raises:
        RowError: nothing is asked.
    """
    name = _prompt(row)
    value, names = row.get(name), [name, *(key for key in ("input", "system") if not is_filled(row.get(key)))]
    if prefix:
        # What stands beside is the same once more, or goes with what else there is.
        is_same = value == prefix or any(value == turn["content"] for turn in prefix)
        return question_of(prefix), names if is_same else names[1:]
    if not name:
        raise RowError(f"none of {', '.join(_PROMPTS)} says what was asked")
    if isinstance(value, str) and not value.startswith(_HH_START):
        entry = row.get("input")
        if name == "instruction" and isinstance(entry, str) and entry:
            value, names = f"{value}\n\n{entry}", [*names, "input"]
        messages = [{"role": "user", "content": value}]
    else:
        messages = turns_of(value, name)
    # HH-RLHF ends a prompt with the mark of the answer.
    if messages[-1] == {"role": "assistant", "content": ""}:
        messages.pop()
    if isinstance(system := row.get("system"), str) and system:
        messages, names = [{"role": "system", "content": system}, *messages], [*names, "system"]
    return question_of(messages), names


def _line(row: dict[str, Json], used: Sequence[str], content: dict[str, Json]) -> ConvertedRow:
    """Return the row as a line of ``content``, which the fields ``used`` say; tools and what all lines have join it."""
    line, extra = take_common(row, (*used, "tools"))
    take_tools(row, line, extra)
    return ConvertedRow("preference", line | content, extra)


def _is_answer(value: Json) -> bool:
    return is_filled(value) and isinstance(value, str | list | dict)


def _is_pair(row: dict[str, Json]) -> bool:
    return _is_answer(row.get("chosen")) and _is_answer(row.get("rejected")) and not is_filled(row.get("output"))


@importer(
    "preference",
    fits=_is_pair,
    samples=[
        {"prompt": "Say hi.", "chosen": "Hello.", "rejected": "Go away."},
        {"prompt": [_ASK], "chosen": [{"role": "assistant", "content": "Hello."}],
         "rejected": [{"role": "assistant", "content": "Go away."}], "score_chosen": 8.5},
        {"chosen": [_ASK, {"role": "assistant", "content": "Hello."}],
         "rejected": [_ASK, {"role": "assistant", "content": "Go away."}]},
        {"conversations": [{"from": "human", "value": "Say hi."}], "chosen": {"from": "gpt", "value": "Hello."},
         "rejected": {"from": "gpt", "value": "Go away."}},
        {"chosen": "\n\nHuman: Say hi.\n\nAssistant: Hello.", "rejected": "\n\nHuman: Say hi.\n\nAssistant: Go away."},
    ],
)  # fmt: skip
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Pairs of a chosen and a rejected answer, as TRL, LLaMA-Factory and HH-RLHF have them."""
    return _pair_line(row)


def _pair_line(row: dict[str, Json]) -> ConvertedRow:
    chosen, rejected = turns_of(row.get("chosen"), "chosen"), turns_of(row.get("rejected"), "rejected")
    num_shared = 0
    if chosen[0]["role"] != "assistant":
        num_shared = next(
            (number for number, pair in enumerate(zip(chosen, rejected, strict=False)) if pair[0] != pair[1]),
            min(len(chosen), len(rejected)) - 1,
        )
        if not num_shared:
            raise RowError("'chosen' and 'rejected' are conversations that do not begin alike")
    asked, used = _prompt_fields(row, chosen[:num_shared])
    pair = {"chosen": answer_of(chosen[num_shared:]), "rejected": answer_of(rejected[num_shared:])}
    return _line(row, (*used, *pair), asked | pair)


def _verdict(row: dict[str, Json]) -> str:
    return next((name for name in VERDICT_COLUMNS if spelled_value(row.get(name)) in _GOOD | _BAD), "")


def _prompt(row: dict[str, Json]) -> str:
    return next((name for name in _PROMPTS if is_filled(row.get(name))), "")


def _completion(row: dict[str, Json]) -> str:
    return next((name for name in COMPLETIONS if _is_answer(row.get(name))), "")


def _recognise_liked(rows: Sequence[dict[str, Json]]) -> float:
    values = {spelled_value(row[name]) for row in rows if (name := _verdict(row))}
    # A column of 0 and 1 is a verdict where both are there; one of 1 alone may be anything.
    if values <= DIGITS and values != DIGITS:
        return 0.0
    return share(rows, lambda row: bool(_verdict(row) and _completion(row) and _prompt(row)))


@importer(
    "liked",
    recognise=_recognise_liked,
    samples=[
        {"prompt": "Say hi.", "completion": "Hello.", "label": True},
        {"prompt": [_ASK], "completion": [{"role": "assistant", "content": "Go away."}], "label": False},
        {"messages": [_ASK, {"role": "assistant", "content": "Hello."}], "kto_tag": True},
    ],
)
def read_liked(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Answers with a verdict on each, as KTO trains on them: prompt, completion and label."""
    verdict, name = _verdict(row), _completion(row)
    if not verdict or not name:
        raise RowError("it has no answer with a verdict of true or false")
    turns, before = turns_of(row[name], name), list[dict[str, Json]]()
    if name in _PROMPTS:
        # The last turn of a conversation is what was judged.
        before, turns = turns[:-1], turns[-1:]
    if turns[-1]["role"] != "assistant" or (name in _PROMPTS and not before):
        raise RowError(f"{name!r} does not end with a question and an answer")
    asked, used = _prompt_fields(row, before)
    judged = {"completion": answer_of(turns), "liked": spelled_value(row[verdict]) in _GOOD}
    return _line(row, (*used, name, verdict), asked | judged)


def _rated_list(row: dict[str, Json]) -> str:
    for name in _LISTS:
        items = row.get(name)
        if isinstance(items, list) and len(items) > 1 and all(map(_is_rated, items)):
            return name
    return ""


def _is_rated(item: Json) -> bool:
    return isinstance(item, dict) and bool(_named(item, _SAID, str)) and bool(_named(item, _RATINGS, int | float))


def _named(item: dict[str, Json], names: Sequence[str], kind: Any) -> str:
    values = ((name, item.get(name)) for name in names)
    return next((name for name, value in values if isinstance(value, kind) and not isinstance(value, bool)), "")


@importer(
    "rated",
    fits=lambda row: bool(_rated_list(row)),
    samples=[
        {"instruction": "Say hi.", "completions": [{"model": "a", "response": "Hello.", "overall_score": 4.5},
                                                   {"model": "b", "response": "Go away.", "overall_score": 1}]},
    ],
)  # fmt: skip
def read_rated(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Several answers to one prompt, each with a rating, as UltraFeedback has them."""
    if not (name := _rated_list(row)):
        raise RowError(f"none of {', '.join(_LISTS)} is a list of answers with ratings")
    answers: list[Json] = []
    more: list[Json] = []
    for item in row[name]:
        said, rating = _named(item, _SAID, str), _named(item, _RATINGS, int | float)
        answer = {"content": item[said], "rating": item[rating]}
        answers.append(answer | ({"model": item["model"]} if isinstance(item.get("model"), str) else {}))
        more.append({key: value for key, value in item.items() if key not in (said, rating, "model")})
    asked, used = _prompt_fields(row, ())
    draft = _line(row, (*used, name), asked | {"answers": answers})
    return ConvertedRow(draft.kind, draft.line, draft.extra | ({name: more} if any(more) else {}))


_OPENAI = {"preferred_output": "chosen", "non_preferred_output": "rejected"}


def _is_openai(row: dict[str, Json]) -> bool:
    return isinstance(row.get("input"), dict) and is_filled(row.get("preferred_output"))


@importer(
    "openai-preference",
    fits=_is_openai,
    samples=[
        {"input": {"messages": [_ASK], "tools": [], "parallel_tool_calls": True},
         "preferred_output": [{"role": "assistant", "content": "Hello."}],
         "non_preferred_output": [{"role": "assistant", "content": "Go away."}]},
    ],
)  # fmt: skip
def read_openai(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """OpenAI preference rows: input, preferred_output and non_preferred_output."""
    asked = row.get("input")
    if not isinstance(asked, dict):
        raise RowError(f"'input' is {json_name(asked)}, not an object")
    rest = {_OPENAI.get(key, key): value for key, value in row.items() if key != "input"}
    more = {key: value for key, value in asked.items() if key not in ("messages", "tools") and is_filled(value)}
    tools = {"tools": asked["tools"]} if is_filled(asked.get("tools")) else {}
    draft = _pair_line({**rest, **tools, "messages": asked.get("messages")})
    return ConvertedRow(draft.kind, draft.line, draft.extra | ({"input": more} if more else {}))
