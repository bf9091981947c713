"""What the importers share: the fields that all formats have, messages in OpenAI form, and words that judge a row."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from itertools import takewhile
from typing import Any, get_args

from curate.base.record import MOST_WEIGHT, SPLITS, TRACES, Json, Kind, json_type
from curate.formats.importers import RowError
from curate.jsonl import JsonFault, parts_of, strict_loads
from curate.schema.view import at

_NUMBER = re.compile(r"\d{1,4}(?:\.\d+)?", re.ASCII)
_SPLITS = dict(zip(SPLITS, SPLITS, strict=True)) | dict.fromkeys(("valid", "val", "dev"), "validation")
_SPLIT = re.compile(rf"(?:^|[^a-z])({'|'.join(_SPLITS)})(?:[^a-z]|$)")
_OWN = frozenset({"id", "kind", "category", "cluster", "messages", "tools", "text", "source"})
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
    "deny", "denied", "drop", "discard", "no", "n", "false", "f", "fail", "failed", "invalid", "down", "lose",
    "ignore", "ignored", "skip", "skipped",
}  # fmt: skip
VERDICTS = JUDGEMENTS | BAD | {
    "keep", "yes", "y", "true", "t", "ok", "okay", "pass", "passed", "right", "valid", "up", "win", "tie",
}  # fmt: skip
DIGITS = frozenset({"0", "1"})
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# Parts of content that are no text, or not where they stand.
_PARTS = (
    "image", "image_url", "input_image", "input_audio", "audio", "video", "file", "document", "tool_use", "tool_result",
    "thinking", "redacted_thinking", "reference", "refusal",
)  # fmt: skip
_KNOWN = ("role", "content", "name", "tool_calls", "tool_call_id")
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


def is_own(row: dict[str, Json]) -> bool:
    """Whether ``row`` is of a dataset that we exported; its messages alone would pass for another format."""
    return row.keys() >= _OWN and row["kind"] in get_args(Kind)


def take_common(
    row: dict[str, Json], used: Collection[str], *, has_our_names: bool = True
) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return the line's shared fields that ``row`` names, and what is left of it beside ``used``."""
    # An id that is not text, a category that is not text and a split of another name are read as nearly as they can be;
    # the original stays in what is left over. ``has_our_names``: the format names its fields as a line does, so that
    # ``weight``, ``labels`` and ``x-ignore`` mean what they mean there; in a table of any columns a weight may be a
    # parcel's.
    line: dict[str, Json] = {}
    extra = {key: value for key, value in row.items() if key not in used}
    identity = extra.get("id")
    if isinstance(identity, str) and identity:
        line["id"] = extra.pop("id")
    elif isinstance(identity, int) and not isinstance(identity, bool):
        line["id"] = str(identity)
    if isinstance(extra.get("category"), str) and extra["category"]:
        line["category"] = extra.pop("category")
    split = extra.get("split")
    if isinstance(split, str) and split.lower() in _SPLITS:
        line["split"] = _SPLITS[split.lower()]
        if split in SPLITS:
            extra.pop("split")
    if has_our_names:
        _take_marks(line, extra)
    meta = extra.get("meta")
    if isinstance(meta, dict) and meta and "extra" not in meta:
        line["meta"] = extra.pop("meta")
    return line, extra


def _take_marks(line: dict[str, Json], extra: dict[str, Json]) -> None:
    """Move what decides how a record counts and is checked to the line, where it is what a line's field may be."""
    weight = extra.get("weight")
    if isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight <= MOST_WEIGHT:
        line["weight"] = extra.pop("weight")
    elif isinstance(weight, str) and _NUMBER.fullmatch(weight.strip()) and float(weight) <= MOST_WEIGHT:
        # A table has no numbers; the text stays in what is left over.
        line["weight"] = float(weight)
    if isinstance(extra.get("labels"), dict):
        line["labels"] = extra.pop("labels")
    ignored = extra.get("x-ignore")
    codes = ignored if isinstance(ignored, list) else []
    if codes and all(isinstance(code, str) and code for code in codes) and len(set(codes)) == len(codes):
        line["x-ignore"] = extra.pop("x-ignore")


def text_of(row: dict[str, Json], key: str) -> str:
    """Return the text under ``key``.

    Raises:
        RowError: there is no text.
    """
    value = row.get(key)
    if not isinstance(value, str):
        raise RowError(f"{key!r} is {json_name(value)}, not text" if key in row else f"{key!r} is missing")
    return value


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
    return next((name for name in ("messages", "prompt") if is_messages(row.get(name))), "")


def reference_of(row: Mapping[str, Json]) -> str:
    """Return the field with the answer that a grader compares with, where the messages end with what is asked."""
    talk = talk_of(row)
    if not talk or "completion" in row or row[talk][-1]["role"] not in ("user", "tool"):
        return ""
    return next((name for name in _REFERENCES if is_filled(row.get(name))), "")


def read_messages(value: Json, key: str = "messages") -> tuple[list[dict[str, Json]], bool]:
    """Return the messages of a row, and whether they hold all that the row says.

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
        if not isinstance(given, dict):
            raise RowError(f"{where} is {json_name(given)}, not an object")
        if given.get("role") not in ROLES:
            raise RowError(f"{where} has no role of {', '.join(ROLES)}")
        turn = _as_tools(given, f"call_{number}", f"call_{number - 1}")
        message = {name: turn[name] for name in _KNOWN if name in turn}
        message |= training_marks(turn, where, is_answer=turn["role"] == "assistant")
        trace = reasoning_of(turn, where, is_answer=turn["role"] == "assistant")
        if isinstance(message.get("content"), list):
            thoughts, parts = _thoughts_apart(message["content"], where)
            if thoughts and (trace or turn["role"] != "assistant"):
                raise RowError(f"{where} has thinking in its content, and more reasoning or no answer beside it")
            trace = trace or thoughts
            message["content"] = _joined(parts, where)
        message |= {TRACES[0]: trace} if trace else {}
        content = message.setdefault("content", None)
        if content is None and not message.get("tool_calls"):
            raise RowError(f"{where} has no content{', but a refusal' if turn.get('refusal') else ''}")
        if content is not None and not isinstance(content, str):
            raise RowError(f"the content of {where} is {json_name(content)}, not text")
        for name in ("name", "tool_call_id", "tool_calls"):
            if name in message and not message[name]:
                del message[name]
        if "tool_calls" in message and not isinstance(message["tool_calls"], list):
            raise RowError(f"the tool calls of {where} are {json_name(message['tool_calls'])}, not a list")
        if "tool_calls" in message:
            message["tool_calls"] = [_call(call, where) for call in message["tool_calls"]]
        is_exact = is_exact and message == _renamed(given, trace)
        messages.append(message)
    return messages, is_exact


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
    traces = [(name, turn[name]) for name in TRACES if is_filled(turn.get(name))]
    for name, trace in traces:
        if not isinstance(trace, str):
            raise RowError(f"{name!r} of {where} is {json_name(trace)}, not text")
        if not is_answer:
            raise RowError(f"{where} has {name!r}, and only answers have reasoning")
        if trace != traces[0][1]:
            raise RowError(f"{traces[0][0]!r} and {name!r} of {where} differ")
    return str(traces[0][1]) if traces else ""


def _renamed(turn: dict[str, Json], trace: str) -> dict[str, Json]:
    """Return a turn with its reasoning under the name that a line has for it, and without an empty one."""
    if turn.keys().isdisjoint(TRACES):
        return turn
    rest = {key: value for key, value in turn.items() if key not in TRACES}
    return rest | ({TRACES[0]: trace} if trace else {})


def training_marks(turn: dict[str, Json], where: str, *, is_answer: bool) -> dict[str, Json]:
    """Return ``train`` and ``weight`` of a turn as a line's message has them; the weight 1, its default, is left out.

    Raises:
        RowError: a flag that means nothing, or that asks for the training of a turn that is no answer.
    """
    # No turn but an answer is ever trained, so that there a flag which says so is left out too.
    train, weight = turn.get("train"), turn.get("weight")
    if train is not None and not isinstance(train, bool):
        raise RowError(f"'train' of {where} is {json_name(train)}, not true or false")
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if weight is not None and not (is_number and 0 <= weight <= MOST_WEIGHT):
        raise RowError(f"'weight' of {where} is no number from 0 to {MOST_WEIGHT:,}")
    if not is_answer:
        if train or weight not in (None, 0, 1):
            raise RowError(f"{where} is marked for training, and only answers are trained")
        return {}
    marks: dict[str, Json] = {} if train is None else {"train": train}
    return marks | ({} if weight in (None, 1) else {"weight": weight})


def read_tools(value: Json) -> tuple[list[dict[str, Json]], bool]:
    """Return tool definitions in OpenAI form, and whether they hold all that ``value`` says.

    A JSON string is parsed; a bare function gets its wrapper.

    Raises:
        RowError: not a list of tool definitions.
    """
    is_exact = isinstance(value, list)
    if isinstance(value, str):
        try:
            value = strict_loads(value.encode()) if value.strip() else []
        except JsonFault as error:
            raise RowError("'tools' is text that is not JSON") from error
    if value is None:
        return [], False
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError("'tools' is not a list of objects")
    wrapped = []
    for tool in value:
        # What Anthropic calls otherwise.
        function = {"parameters": tool.get("input_schema")} | (
            tool["function"] if isinstance(tool.get("function"), dict) else tool
        )
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise RowError("a tool has no name")
        known = {
            name: function[name]
            for name, kind in _FUNCTION.items()
            if isinstance(function.get(name), kind) and name in function
        }
        wrapped.append({"type": "function", "function": known})
        is_exact = is_exact and wrapped[-1] == tool
    return wrapped, is_exact and bool(wrapped)


def take_tools(row: dict[str, Json], line: dict[str, Json], extra: dict[str, Json]) -> None:
    """Put the tools of a row on the line, and what they say beyond that in what is left over."""
    name = "functions" if not row.get("tools") and row.get("functions") else "tools"
    if name in row:
        tools, is_exact = read_tools(row[name])
        line |= {"tools": tools} if tools else {}
        extra |= {} if is_exact else {name: row[name]}


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


def _call(call: Json, where: str) -> dict[str, Json]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"{where} has a tool call without a function name")
    if not isinstance(function.get("arguments"), str | dict):
        raise RowError(f"{where} has a tool call whose arguments are neither text nor an object")
    known = {name: call[name] for name in ("id", "type") if isinstance(call.get(name), str)}
    return known | {"function": {"name": function["name"], "arguments": function["arguments"]}}
