"""Preferences: pairs of a chosen and a rejected answer, several answers with ratings, and one answer with a verdict.

The forms are those of TRL, LLaMA-Factory, OpenAI, and sets such as UltraFeedback and HH-RLHF.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer, share
from curate.formats.importers._reading import (
    DIGITS,
    answer_of,
    as_list,
    drafted,
    first_of,
    is_filled,
    json_name,
    question_of,
    spelled_value,
    turns_of,
)

_PROMPTS = ("prompt", "instruction", "question", "query", "messages", "conversations")
COMPLETIONS = ("completion", "response", "output", "answer", "messages", "conversations")
VERDICT_COLUMNS = ("label", "kto_tag")
_LISTS = ("completions", "responses", "answers")
_SAID = ("content", "response", "text", "completion", "answer")
_RATINGS = ("rating", "overall_score", "score")
_GOOD, _BAD = frozenset({"true", "1", "good", "yes", "accept"}), frozenset({"false", "0", "bad", "no", "reject"})
_TOOLS = {"tools": "tools"}
_ASK = {"role": "user", "content": "Say hi."}


def _prompt_fields(row: dict[str, Json], prefix: Sequence[dict[str, Json]]) -> tuple[dict[str, Json], dict[str, str]]:
    """Return what is asked, as a line has it, and the columns that say it: ``prefix`` where both answers begin with it.

    Raises:
        RowError: nothing is asked.
    """
    name = first_of(row, _PROMPTS)
    value, columns = row.get(name), {key: key for key in ("input", "system") if not is_filled(row.get(key))}
    if prefix:
        # What stands beside is the same once more, or goes with what else there is.
        is_same = value == prefix or any(value == turn["content"] for turn in prefix)
        return question_of(prefix), columns | ({name: "prompt"} if is_same else {})
    if not name:
        raise RowError(f"none of {', '.join(_PROMPTS)} says what was asked")
    columns[name] = "prompt"
    messages = turns_of(value, name)
    if len(messages) == 1 and value == messages[0]["content"]:
        # One text is what the user says.
        entry = row.get("input")
        if name == "instruction" and isinstance(entry, str) and entry:
            value, columns = f"{value}\n\n{entry}", {**columns, "input": "prompt"}
        messages = [{"role": "user", "content": value}]
    # HH-RLHF ends a prompt with the mark of the answer.
    if messages[-1] == {"role": "assistant", "content": ""}:
        messages.pop()
    if isinstance(system := row.get("system"), str) and system:
        messages, columns = [{"role": "system", "content": system}, *messages], {**columns, "system": "system"}
    return question_of(messages), columns


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
def read(row: dict[str, Json]) -> ConvertedRow:
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
    prompt, columns = _prompt_fields(row, chosen[:num_shared])
    pair = {"chosen": answer_of(chosen[num_shared:]), "rejected": answer_of(rejected[num_shared:])}
    before = "prompt and " if num_shared else ""
    return drafted(
        "preference", row, prompt | pair, {**columns, **_TOOLS, **{name: f"{before}{name} answer" for name in pair}}
    )


def _verdict(row: dict[str, Json]) -> str:
    return first_of(row, VERDICT_COLUMNS, lambda value: spelled_value(value) in _GOOD | _BAD)


def _recognise_liked(rows: Sequence[dict[str, Json]]) -> float:
    values = {spelled_value(row[name]) for row in rows if (name := _verdict(row))}
    # A column of 0 and 1 is a verdict where both are there; one of 1 alone may be anything.
    if values <= DIGITS and values != DIGITS:
        return 0.0
    return share(
        rows, lambda row: bool(_verdict(row) and first_of(row, COMPLETIONS, _is_answer) and first_of(row, _PROMPTS))
    )


@importer(
    "liked",
    recognise=_recognise_liked,
    samples=[
        {"prompt": "Say hi.", "completion": "Hello.", "label": True},
        {"prompt": [_ASK], "completion": [{"role": "assistant", "content": "Go away."}], "label": False},
        {"messages": [_ASK, {"role": "assistant", "content": "Hello."}], "kto_tag": True},
    ],
)
def read_liked(row: dict[str, Json]) -> ConvertedRow:
    """Answers with a verdict on each, as KTO trains on them: prompt, completion and label."""
    verdict, name = _verdict(row), first_of(row, COMPLETIONS, _is_answer)
    if not verdict or not name:
        raise RowError("it has no answer with a verdict of true or false")
    turns, before = turns_of(row[name], name), list[dict[str, Json]]()
    if name in _PROMPTS:
        # The last turn of a conversation is what was judged.
        before, turns = turns[:-1], turns[-1:]
    if turns[-1]["role"] != "assistant" or (name in _PROMPTS and not before):
        raise RowError(f"{name!r} does not end with a question and an answer")
    prompt, columns = _prompt_fields(row, before)
    judged = {"completion": answer_of(turns), "liked": spelled_value(row[verdict]) in _GOOD}
    said = "prompt and completion" if before else "completion"
    return drafted("preference", row, prompt | judged, {**columns, **_TOOLS, name: said, verdict: "liked"})


def _rated_list(row: dict[str, Json]) -> str:
    return first_of(row, _LISTS, lambda items: len(as_list(items)) > 1 and all(map(_is_rated, items)))


def _is_rated(item: Json) -> bool:
    return isinstance(item, dict) and bool(_named(item, _SAID, str)) and bool(_named(item, _RATINGS, int | float))


def _named(item: dict[str, Json], names: Sequence[str], kind: Any) -> str:
    return first_of(item, names, lambda value: isinstance(value, kind) and not isinstance(value, bool))


@importer(
    "rated",
    fits=lambda row: bool(_rated_list(row)),
    samples=[
        {"instruction": "Say hi.", "completions": [{"model": "a", "response": "Hello.", "overall_score": 4.5},
                                                   {"model": "b", "response": "Go away.", "overall_score": 1}]},
    ],
)  # fmt: skip
def read_rated(row: dict[str, Json]) -> ConvertedRow:
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
    prompt, columns = _prompt_fields(row, ())
    originals = {name: more} if any(more) else {}
    return drafted("preference", row, prompt | {"answers": answers}, {**columns, **_TOOLS, name: "answers"}, originals)


_OPENAI = {"preferred_output": "chosen", "non_preferred_output": "rejected"}


@importer(
    "openai-preference",
    fits=lambda row: isinstance(row.get("input"), dict) and is_filled(row.get("preferred_output")),
    samples=[
        {"input": {"messages": [_ASK], "tools": [], "parallel_tool_calls": True},
         "preferred_output": [{"role": "assistant", "content": "Hello."}],
         "non_preferred_output": [{"role": "assistant", "content": "Go away."}]},
    ],
)  # fmt: skip
def read_openai(row: dict[str, Json]) -> ConvertedRow:
    """OpenAI preference rows: input, preferred_output and non_preferred_output."""
    source = row.get("input")
    if not isinstance(source, dict):
        raise RowError(f"'input' is {json_name(source)}, not an object")
    rest = {_OPENAI.get(key, key): value for key, value in row.items() if key != "input"}
    more = {key: value for key, value in source.items() if key not in ("messages", "tools") and is_filled(value)}
    tools = {"tools": source["tools"]} if is_filled(source.get("tools")) else {}
    draft = _pair_line({**rest, **tools, "messages": source.get("messages")})
    columns = {**_OPENAI, "input": "prompt"}
    return replace(draft, extra=draft.extra | ({"input": more} if more else {}), columns=columns)
