"""What the importers share: the fields that all formats have, messages in OpenAI form, and words that judge a row."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, get_args

from curate.base.record import MOST_WEIGHT, SPLITS, TRACES, Json, Kind, json_type, thought
from curate.formats.importers import ConvertedRow, RowError
from curate.jsonl import JsonFault, parts_of, strict_loads
from curate.schema.view import at

_NUMBER = re.compile(r"\d{1,4}(?:\.\d+)?", re.ASCII)
_SPLITS = dict(zip(SPLITS, SPLITS, strict=True)) | dict.fromkeys(("valid", "val", "dev"), "validation")
_SPLIT = re.compile(rf"(?:^|[^a-z])({'|'.join(_SPLITS)})(?:[^a-z]|$)")
# What `take_common` takes as nearly as it can be read.
SHARED_FIELDS = frozenset({"id", "category", "split", "weight"})
_EXPORT_FIELDS = frozenset({"id", "kind", "category", "cluster", "messages", "tools", "text", "source"})
# Words that say what somebody thought of a row; as answers to be trained they are rare. The first mean nothing else.
_BAD = frozenset({
    "reject", "rejected", "bad", "incorrect", "wrong", "dislike", "disliked", "thumbs_down", "downvote", "👎",
    "deleted", "draft", "discarded", "fail", "failed",
})  # fmt: skip
JUDGEMENTS = _BAD | {
    "accept",
    "accepted",
    "pass",
    "passed",
    "approve",
    "approved",
    "good",
    "correct",
    "like",
    "liked",
    "thumbs_up",
    "upvote",
    "👍",
}
BAD = _BAD | {
    "deny", "denied", "drop", "discard", "no", "n", "false", "f", "invalid", "down", "lose",
    "ignore", "ignored", "skip", "skipped",
}  # fmt: skip
VERDICTS = JUDGEMENTS | BAD | {
    "keep", "yes", "y", "true", "t", "ok", "okay", "right", "valid", "up", "win", "tie",
}  # fmt: skip
DIGITS = frozenset({"0", "1"})
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# Parts of content that are no text, or not where they stand.
_PARTS = (
    "image", "image_url", "input_image", "input_audio", "audio", "video", "file", "document", "tool_use", "tool_result",
    "thinking", "redacted_thinking", "reference", "refusal",
)  # fmt: skip
_REFERENCES = ("reference_answer", "reference", "ground_truth", "solution", "answer")
_FUNCTION: dict[str, type[Any] | tuple[type[Any], ...]] = {
    "name": str,
    "description": str,
    "parameters": dict,
    "strict": (bool, type(None)),
    "response": dict,
}
_WORDS = {"object": "an object", "array": "a list", "string": "text", "boolean": "true or false", "number": "a number"}


def split_of(name: str) -> str:
    """Return the split that the name of a file or part says, "" where it says none."""
    match = _SPLIT.search(name.lower())
    return _SPLITS[match.group(1)] if match else ""


def is_our_export(row: dict[str, Json]) -> bool:
    """Whether ``row`` is of a dataset that we exported; its messages alone would pass for another format."""
    return row.keys() >= _EXPORT_FIELDS and row["kind"] in get_args(Kind)


def take_common(
    row: dict[str, Json], used: Collection[str], *, has_our_names: bool = True
) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return the line's shared fields that ``row`` names, and what is left of it beside ``used``."""
    # An id that is not text, a split of another name and a weight in a table are read as nearly as they can be; the
    # original stays in what is left over. ``has_our_names``: the format names its fields as a line does, so that
    # ``weight``, ``labels`` and ``x-ignore`` mean what they mean there; in a table of any columns a weight may be a
    # parcel's.
    line: dict[str, Json] = {}
    extra = {key: value for key, value in row.items() if key not in used}
    for name, read in _COMMON.items():
        taken = read(extra.get(name)) if has_our_names or name not in _MARKS else None
        if taken is not None:
            line[name] = taken
            if taken == extra[name]:
                extra.pop(name)
    return line, extra


def _id(value: Json) -> str | None:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _text(value: Json) -> str | None:
    return value or None if isinstance(value, str) else None


def _weight(value: Json) -> float | None:
    if isinstance(value, str):
        # A table has no numbers.
        value = float(value) if _NUMBER.fullmatch(value.strip()) else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= MOST_WEIGHT else None


def _codes(value: Json) -> Json:
    codes = as_list(value)
    return codes if codes and all(map(_text, codes)) and len(set(codes)) == len(codes) else None


# What a row may have that a line has, too: what it says where it can be read.
_COMMON: dict[str, Callable[[Json], Json]] = {
    "id": _id,
    "category": _text,
    "split": lambda value: _SPLITS.get(value.lower()) if isinstance(value, str) else None,
    "weight": _weight,
    "labels": lambda value: value if isinstance(value, dict) else None,
    "x-ignore": _codes,
    "meta": lambda value: value if isinstance(value, dict) and value and "extra" not in value else None,
}
# What decides how a record counts and is checked.
_MARKS = ("weight", "labels", "x-ignore")


def drafted(
    kind: Kind, row: dict[str, Json], said: Mapping[str, Json], columns: Mapping[str, str],
    originals: Mapping[str, Json] | None = None, *, has_our_names: bool = True,
    spell_tools: Callable[[list[dict[str, Json]]], Json] = list,
) -> ConvertedRow:  # fmt: skip
    """Return a record of ``kind`` with the fields ``said``; whether they are well-formed is what its schema judges.

    ``columns`` names the fields that columns of the row became. Of ``tools`` what ``spell_tools`` makes of them does
    not say is kept, and so are the ``originals``.

    Raises:
        RowError: the tools are no list of tools.
    """
    line, extra = take_common(row, columns, has_our_names=has_our_names)
    name = "functions" if not row.get("tools") and row.get("functions") else "tools"
    if "tools" in columns and name in row:
        tools = read_tools(row[name])
        line |= {"tools": tools} if tools else {}
        extra |= {} if tools and row[name] == spell_tools(tools) else {name: row[name]}
    return ConvertedRow(kind, line | dict(said), extra | dict(originals or {}), columns=columns)


def json_name(value: Json) -> str:
    """Return what kind of JSON value this is, in words for a message."""
    return _WORDS.get(json_type(value), "null")


def rendered(value: Json) -> str:
    """Return the usual spelling of a JSON value in a text field: one line, characters as they are."""
    return json.dumps(value, ensure_ascii=False)


def value_at(row: Mapping[str, Json], column: str) -> Json:
    """Return what a column holds, or what stands at a JSON pointer; None where nothing does.

    Where "*" stands in the pointer for each of a list, it is a list of what stands there.
    """
    if column in row or not column.startswith("/"):
        return row.get(column)
    parts = parts_of(column)
    if "*" not in parts:
        return at(row, parts)
    found: list[Json] = [row]
    for part in parts:
        found = [one for value in found for one in (as_list(value) if part == "*" else [at(value, [part])])]
    return [one for one in found if is_filled(one)] or None


def spelled_at(row: Mapping[str, Json], column: str) -> list[str]:
    """Return the different values at a column or a pointer as they are compared, one or, in a list, several."""
    value = value_at(row, column)
    return list(dict.fromkeys(map(spelled_value, value if isinstance(value, list) and "/*" in column else [value])))


def spelled_value(value: Json) -> str:
    """Return a value as it is compared and counted: small letters, ``true`` for a boolean, ``null`` for nothing."""
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).lower()


def is_filled(value: Json) -> bool:
    """Whether a field says anything."""
    return value is not None and value not in ("", [], {})


def first_of(row: Mapping[str, Json], names: Iterable[str], fits: Callable[[Json], bool] = is_filled) -> str:
    """Return the first of ``names`` whose value ``fits``, "" where none does."""
    return next((name for name in names if fits(row.get(name))), "")


def as_list(value: Json) -> list[Json]:
    """Return a list as it is, and nothing of what is none."""
    return value if isinstance(value, list) else []


def map_option(mapping: Mapping[str, str]) -> str:
    """Return ``--map`` for a command line, with placeholders for a question or an answer that nobody can tell."""
    whole = {"instruction": "COLUMN", "output": "COLUMN"} | dict(mapping)
    return f"--map {shlex.quote(','.join(f'{name}={column}' for name, column in whole.items()))}"


def is_messages(value: Json) -> bool:
    """Whether ``value`` looks like a conversation in OpenAI form."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(message, dict) and message.get("role") in ROLES for message in value)
    )


def talk_of(row: Mapping[str, Json]) -> str:
    """Return the field that holds messages, "" where none does."""
    return first_of(row, ("messages", "prompt"), is_messages)


def reference_of(row: Mapping[str, Json]) -> str:
    """Return the field with the answer that a grader compares with, where the messages end with what is asked."""
    talk = talk_of(row)
    if not talk or "completion" in row or row[talk][-1]["role"] not in ("user", "tool"):
        return ""
    return first_of(row, _REFERENCES)


def read_messages(value: Json, key: str = "messages") -> tuple[list[dict[str, Json]], dict[str, Json]]:
    """Return the messages of a row, and ``value`` by its ``key`` where they do not hold all that it says.

    Raises:
        RowError: a message that cannot be read, with its number.
    """
    # Content in text parts is joined as it is, without a separator, which is how chat templates write such parts; keys
    # that a line's message has no place for (such as ``refusal``) are left out, and the caller then keeps the original.
    if not isinstance(value, list) or not value:
        raise RowError(f"{key!r} is not a list of messages")
    messages, is_exact = [], True
    for number, given in enumerate(value, start=1):
        where = f"message {number} of {key!r}"
        if not isinstance(given, dict) or given.get("role") not in ROLES:
            raise RowError(f"{where} has no role of {', '.join(ROLES)}")
        turn = _as_tools(given, f"call_{number}", f"call_{number - 1}")
        is_answer, content = turn["role"] == "assistant", turn.get("content")
        trace = reasoning_of(turn, where, is_answer=is_answer)
        if isinstance(content, list):
            thoughts, parts = _thoughts_apart(content, where)
            if thoughts and (trace or not is_answer):
                raise RowError(f"{where} has thinking in its content, and more reasoning or no answer beside it")
            trace, content = trace or thoughts, _joined(parts, where)
        if content is None and not turn.get("tool_calls"):
            raise RowError(f"{where} has no content{', but a refusal' if turn.get('refusal') else ''}")
        message = {"role": turn["role"], "content": content}
        message |= {name: turn[name] for name in ("name", "tool_call_id") if turn.get(name)}
        if calls := turn.get("tool_calls"):
            message["tool_calls"] = [_call(call) for call in calls] if isinstance(calls, list) else calls
        message |= training_marks(turn, where, is_answer=is_answer) | ({TRACES[0]: trace} if trace else {})
        is_exact = is_exact and message == _renamed(given, trace)
        messages.append(message)
    return messages, {} if is_exact else {key: value}


def _as_tools(turn: dict[str, Json], call: str, before: str) -> dict[str, Json]:
    """Return a turn with a call of a function, or what the one ``before`` gave, as tools have it, which came later."""
    if turn["role"] == "function":
        return turn | {"role": "tool", "tool_call_id": before}
    if is_filled(function := turn.get("function_call")):
        made = {"id": call, "type": "function", "function": function}
        return turn | {"tool_calls": [*as_list(turn.get("tool_calls")), made]}
    return turn


def answer_of(turns: Sequence[dict[str, Json]]) -> Json:
    """Return the turns of an answer as a preference has them: text where they are one message of text."""
    is_text = len(turns) == 1 and turns[0].keys() == {"role", "content"} and isinstance(turns[0]["content"], str)
    return turns[0]["content"] if is_text else list(turns)


def question_of(messages: Sequence[dict[str, Json]]) -> dict[str, Json]:
    """Return the turns before an answer as a preference has them: a prompt where they are one, also with a system.

    Raises:
        RowError: there is no turn.
    """
    if not messages:
        raise RowError("nothing is asked")
    has_system = messages[0]["role"] == "system" and len(messages) == 2
    if messages[-1].keys() == {"role", "content"} and [turn["role"] for turn in messages[has_system:]] == ["user"]:
        return ({"system": messages[0]["content"]} if has_system else {}) | {"prompt": messages[-1]["content"]}
    return {"messages": list(messages)}


def reasoning_of(turn: dict[str, Json], where: str, *, is_answer: bool) -> str:
    """Return the reasoning of a turn, whichever of its names it has; "" without any.

    Raises:
        RowError: it is no text, a turn has two that differ, or the turn is no answer.
    """
    traces = [turn[name] for name in TRACES if is_filled(turn.get(name))]
    if traces and not (is_answer and isinstance(traces[0], str) and traces.count(traces[0]) == len(traces)):
        raise RowError(f"{where} has reasoning that is no text, differs, or belongs to no answer")
    return traces[0] if traces else ""


def _renamed(turn: dict[str, Json], trace: str) -> dict[str, Json]:
    """Return a turn with its reasoning under the name that a line has for it, and without an empty one."""
    if turn.keys().isdisjoint(TRACES):
        return turn
    rest = {key: value for key, value in turn.items() if key not in TRACES}
    return rest | ({TRACES[0]: trace} if trace else {})


def training_marks(turn: dict[str, Json], where: str, *, is_answer: bool) -> dict[str, Json]:
    """Return ``train`` and ``weight`` of a turn as a line's message has them; the weight 1, its default, is left out.

    Raises:
        RowError: a flag asks for the training of a turn that is no answer.
    """
    # No turn but an answer is ever trained, so that there a flag which says so is left out too.
    marks = {name: turn[name] for name in ("train", "weight") if turn.get(name) is not None}
    if marks.get("weight") == 1 and marks["weight"] is not True:
        del marks["weight"]
    if not is_answer and any(value is not False and value != 0 for value in marks.values()):
        raise RowError(f"{where} is marked for training, and only answers are trained")
    return marks if is_answer else {}


def read_tools(value: Json) -> list[dict[str, Json]]:
    """Return tool definitions in OpenAI form; JSON text is parsed, and a bare function gets its wrapper.

    Raises:
        RowError: not a list of tool definitions.
    """
    if isinstance(value, str):
        try:
            value = strict_loads(value.encode()) if value.strip() else []
        except JsonFault as error:
            raise RowError("'tools' is text that is not JSON") from error
    if not isinstance(value, list | None) or not all(isinstance(tool, dict) for tool in value or ()):
        raise RowError("'tools' is not a list of objects")
    wrapped = []
    for tool in value or ():
        # What Anthropic calls otherwise.
        inner = tool.get("function")
        function = {"parameters": tool.get("input_schema")} | (inner if isinstance(inner, dict) else tool)
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise RowError("a tool has no name")
        named = ((name, function[name]) for name in _FUNCTION if name in function)
        known = {name: part for name, part in named if isinstance(part, _FUNCTION[name])}
        wrapped.append({"type": "function", "function": known})
    return wrapped


def _thoughts_apart(parts: list[Json], where: str) -> tuple[str, list[Json]]:
    """Return the text of the thinking blocks that content begins with, and the parts behind them.

    Anthropic has text in such a block, Mistral parts of text.
    """
    blocks = list(takewhile(lambda part: isinstance(part, dict) and part.get("type") == "thinking", parts))
    thoughts: list[Json] = []
    for block in blocks:
        said = block.get("thinking")
        thoughts += said if isinstance(said, list) else [{"type": "text", "text": said}]
    return _joined(thoughts, where), parts[len(blocks) :]


def _joined(parts: list[Json], where: str) -> str:
    texts = []
    for part in parts:
        # The parts of Bedrock have no type.
        if not isinstance(part, dict) or part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else None
            what = kind if kind in _PARTS else "an image or sound"
            raise RowError(
                f"{where} holds something that is not text ({what}); only text, after thinking, is trained on"
            )
        texts.append(part["text"])
    return "".join(texts)


def _call(call: Json) -> Json:
    """Return a call with what a line's call has a place for."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return call
    known = {name: call[name] for name in ("id", "type") if isinstance(call.get(name), str)}
    return known | {"function": {name: function[name] for name in ("name", "arguments") if name in function}}


# Turns of from and value, and what a turn of the same means by role.
_SHAREGPT = {
    "human": "user", "gpt": "assistant", "system": "system", "observation": "tool", "function_call": "assistant",
}  # fmt: skip
_ALIASES = {
    "user": "human", "assistant": "gpt", "chatgpt": "gpt", "bot": "gpt", "model": "gpt", "tool": "observation",
    "function_response": "observation", "tool_response": "observation", "tool_call": "function_call",
}  # fmt: skip
_HH_START = "\n\nHuman:"
_HH_MARK = re.compile(r"\n\n(Human|Assistant): ?")


def is_turn(turn: Json) -> bool:
    """Whether a value is a turn of ShareGPT."""
    return isinstance(turn, dict) and isinstance(turn.get("from"), str) and "value" in turn


def read_turns(turns: list[Json]) -> tuple[list[dict[str, Json]], bool]:
    """Return turns of from and value as messages, and whether these hold all that the turns say.

    Raises:
        RowError: a turn that cannot be read, with its number.
    """
    messages: list[dict[str, Json]] = []
    is_exact = True
    for number, turn in enumerate(turns, start=1):
        where = f"turn {number}"
        name = _ALIASES.get(turn["from"], turn["from"]) if is_turn(turn) else ""
        if name not in _SHAREGPT or not isinstance(turn["value"], str):
            raise RowError(f"{where} has no text as 'value', or is 'from' neither {', '.join(_SHAREGPT)}")
        is_exact = is_exact and name == turn["from"] and set(turn) <= {"from", "value", TRACES[0]}
        message: dict[str, Json] = {"role": _SHAREGPT[name], "content": turn["value"]}
        if name == "function_call":
            calls, is_call_exact = _written_calls(turn["value"], where)
            is_exact = is_exact and is_call_exact
            message |= {"content": None, "tool_calls": calls}
        is_answer = message["role"] == "assistant"
        if trace := reasoning_of(turn, where, is_answer=is_answer):
            message[TRACES[0]] = trace
            # Our own export says it twice: for trainers, which read the value, and to come back.
            is_exact = is_exact and turn["value"].startswith(thought(trace))
            if name == "gpt":
                message["content"] = turn["value"].removeprefix(thought(trace))
        messages.append(message | training_marks(turn, where, is_answer=is_answer))
    return messages, is_exact


def _written_calls(text: str, where: str) -> tuple[list[dict[str, Json]], bool]:
    """Return the tool calls written in ``text``, and whether their usual spelling is that very text."""
    try:
        value = strict_loads(text.encode())
    except JsonFault as error:
        raise RowError(f"the function call of {where} is not JSON") from error
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) and "name" in call for call in calls):
        raise RowError(f"the function call of {where} has no name")
    usual = [{"name": call["name"], "arguments": call.get("arguments", {})} for call in calls]
    is_exact = rendered(usual[0] if len(usual) == 1 else usual) == text
    return [{"type": "function", "function": function} for function in usual], is_exact


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
