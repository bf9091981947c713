"""Formats of JSON lines, and LLaMA-Factory: each is a function that returns a row as a line of the format has it.

Of answers with ratings the best and the worst are the pair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import orjson

from curate.base.record import TRACES, Json, thought, trace_of
from curate.base.storage import write_atomic
from curate.formats.exporters import CannotExpressError, ExportRow, ExportRun, exporter, write_files, write_lines
from curate.formats.exporters._rows import (
    PAIR,
    Message,
    content_text,
    conversation_of,
    instruction_and_input,
    messages_of,
    parted,
    plain_turns,
    preference_pair,
    prompt_and_answers,
    tools_of,
    weighed_messages,
    with_arguments_as_object,
    with_arguments_as_text,
)

_TURNS = ("name", "tool_call_id", "developer")
_TRL = (*_TURNS, TRACES[0])


def _write_alpaca(export: ExportRun) -> list[Path]:
    rows = chain.from_iterable(export.rows_by_split.values())
    if any(sum(message["role"] == "assistant" for message in row["messages"] or ()) > 1 for row in rows):
        export.notes.append("Some rows have history: trainers that read it learn those earlier answers too.")
    return write_lines(export)


@exporter("alpaca", write=_write_alpaca, keeps=("input",))
def _alpaca(row: ExportRow) -> dict[str, Json]:
    """Alpaca JSON lines; earlier turns go to history, rows with tools stay out."""
    if row["tools"]:
        raise CannotExpressError("the format has no tools")
    system, turns = plain_turns(messages_of(row))
    instruction, entry = instruction_and_input(row, turns[-1][0])
    result: dict[str, Json] = {"instruction": instruction, "input": entry, "output": turns[-1][1]}
    if row.get("line") and "input" not in row["line"]:
        del result["input"]
    if system:
        result["system"] = system
    if len(turns) > 1:
        result["history"] = [list(turn) for turn in turns[:-1]]
    return result


_NAMES = {"system": "system", "developer": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


@exporter("sharegpt", keeps=(TRACES[0],))
def _sharegpt(row: ExportRow) -> dict[str, Json]:
    """ShareGPT JSON lines: conversations, and tools as JSON text; reasoning stands before the answer, in <think>."""
    result: dict[str, Json] = {"conversations": [_turn(message) for message in messages_of(row)]}
    if row["tools"]:
        result["tools"] = json.dumps([tool["function"] for tool in row["tools"]], ensure_ascii=False)
    return result


def _turn(message: Message) -> dict[str, str]:
    # Arguments as text inside JSON text would be read as one string, and encoded twice by the trainer.
    calls = with_arguments_as_object(message).get("tool_calls")
    trace = trace_of(message)
    if not calls:
        # Trainers read the value alone; the field is there to come back.
        text = content_text(message)
        said = {"value": thought(trace) + text, TRACES[0]: trace}
        return {"from": _NAMES[message["role"]]} | (said if trace else {"value": text})
    if trace:
        raise CannotExpressError("an assistant message both reasons and calls tools")
    if message.get("content"):
        raise CannotExpressError("an assistant message both speaks and calls tools")
    spelled = [{"name": call["function"]["name"], "arguments": call["function"]["arguments"]} for call in calls]
    return {
        "from": "function_call",
        "value": json.dumps(spelled[0] if len(spelled) == 1 else spelled, ensure_ascii=False),
    }


@exporter("openai", keeps=_TURNS)
def openai(row: ExportRow) -> dict[str, Json]:
    """OpenAI chat JSON lines: messages and tools; raw text and conversations without a last answer stay out.

    Reasoning is left out and counted, because OpenAI refuses messages with other fields; trl-conversational has it.
    """
    messages = []
    for message, weight in weighed_messages(row):
        if weight not in (0, 1):
            raise CannotExpressError("an answer has a weight other than 0 and 1, which OpenAI refuses")
        messages.append(_openai_message(message) | ({} if weight else {"weight": 0}))
    parted(messages)
    return {"messages": messages} | tools_of(row)


def _openai_message(message: Message) -> dict[str, Json]:
    return {key: value for key, value in with_arguments_as_text(message).items() if key != TRACES[0]}


@exporter("trl", keeps=_TRL)
def _pair(row: ExportRow) -> dict[str, Json]:
    """TRL prompt-completion rows as lists of messages, with tools; raw text goes to files of its own below text/."""
    if row["messages"] is None:
        return {"text": row["text"]}
    prompt, answer = parted(conversation_of(messages_of(row)))
    return {"prompt": prompt, "completion": [answer]} | tools_of(row)


@exporter("trl-conversational", keeps=_TRL)
def _conversation(row: ExportRow) -> dict[str, Json]:
    """TRL conversational rows: messages and tools, with the arguments of tool calls as objects."""
    if row["messages"] is None:
        return {"text": row["text"]}
    return {"messages": conversation_of(messages_of(row))} | tools_of(row)


@exporter("trl-text")
def _texts(row: ExportRow) -> dict[str, Json]:
    """TRL prompt-completion rows as plain texts: one user message, one answer, no chat template."""
    system, turns = plain_turns(messages_of(row))
    if system or len(turns) > 1 or row["tools"]:
        raise CannotExpressError("plain texts hold one question and one answer, without system text and tools")
    return {"prompt": turns[0][0], "completion": turns[0][1]}


@exporter("trl-preference", keeps=("rejected", *_TRL), compares_answers=True)
def _preference(row: ExportRow) -> dict[str, Json]:
    """TRL preference rows: prompt, chosen and rejected as lists of messages, and tools."""
    prompt, chosen, rejected = map(conversation_of, preference_pair(row))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected} | tools_of(row)


@exporter("trl-unpaired", keeps=("rejected", *_TRL, "liked"), compares_answers=True)
def _unpaired(row: ExportRow) -> list[dict[str, Json]]:
    """TRL unpaired preference rows, as for KTO: prompt and completion as lists of messages, and label true or false."""
    prompt, answers = prompt_and_answers(row)
    verdicts = [(answers[0], answers[0]["rating"] > 0)]
    if len(answers) > 1:
        preference_pair(row)
        verdicts = [(answers[0], True), (answers[-1], False)]
    talk = {"prompt": conversation_of(prompt)} | tools_of(row)
    return [
        talk | {"completion": conversation_of(answer["messages"]), "label": is_good} for answer, is_good in verdicts
    ]


def _sole(messages: Sequence[Message]) -> Message:
    """Return the one turn of an answer.

    Raises:
        CannotExpressError: it has several.
    """
    if len(messages) != 1:
        raise CannotExpressError("an answer has several turns, and the format holds one")
    return messages[0]


@exporter("openai-preference", keeps=("rejected", *_TURNS), compares_answers=True)
def _openai_preference(row: ExportRow) -> dict[str, Json]:
    """OpenAI preference rows: input, preferred_output and non_preferred_output, each answer one message.

    Reasoning is left out and counted, as in openai.
    """
    prompt, chosen, rejected = preference_pair(row)
    return {
        "input": {"messages": list(map(_openai_message, prompt))} | tools_of(row),
        "preferred_output": [_openai_message(_sole(chosen))],
        "non_preferred_output": [_openai_message(_sole(rejected))],
    }


@exporter(
    "axolotl-preference", keeps=("rejected", *_TRL), compares_answers=True,
    note="In the settings of Axolotl: rl: dpo, and for each file type: chat_template.default.",
)  # fmt: skip
def _axolotl(row: ExportRow) -> dict[str, Json]:
    """Axolotl preference rows of the type chat_template.default: messages, and chosen and rejected as one message."""
    prompt, chosen, rejected = preference_pair(row)
    pair = {"chosen": with_arguments_as_object(_sole(chosen)), "rejected": with_arguments_as_object(_sole(rejected))}
    return {"messages": conversation_of(prompt)} | pair | tools_of(row)


# LLaMA-Factory: ShareGPT files in the order it insists on, and the dataset_info.json that names their columns.


_TAGS = {
    "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
    "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip
_TALKS: dict[str, Json] = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
    "tags": _TAGS,
}


_RANKING = {**_TALKS, "ranking": True, "columns": {**_TALKS["columns"], **{name: name for name in PAIR}}}


def _write_llama(export: ExportRun, layout: Mapping[str, Json] = _TALKS) -> list[Path]:
    """Write a file for each split, another for raw text, and dataset_info.json."""
    # The trainer's own settings take small letters and underscores.
    name = "pairsmith_" + re.sub(r"[^a-z0-9]+", "_", str(export.manifest.get("name", "")).lower()).strip("_")
    # A newline within a text is spelled \\n, so these are all between keys.
    paths = write_files(
        export, ("{}.json", "{}_text.json"),
        lambda line: orjson.dumps(line, option=orjson.OPT_INDENT_2).replace(b"\n", b"\n  "),
        begin=b"[\n  ", joint=b",\n  ", end=b"\n]\n",
    )  # fmt: skip
    texts = {"columns": {"prompt": "text"}}
    info = {
        f"{name}_{path.stem}": {"file_name": path.name, **(texts if path.stem.endswith("_text") else layout)}
        for path in paths
    }
    paths.append(export.folder / "dataset_info.json")
    write_atomic(paths[-1], [orjson.dumps(info, option=orjson.OPT_INDENT_2), b"\n"])
    return paths


@exporter("llama-factory", write=_write_llama, keeps=(TRACES[0],))
def _llama(row: ExportRow) -> dict[str, Json]:
    """LLaMA-Factory data files with dataset_info.json; raw text goes to files of its own for pre-training."""
    if row["messages"] is None:
        return {"text": row["text"]}
    # System and tools are columns of every row, human and observation stand at odd places.
    shared = _sharegpt(row)
    system, turns = _ordered_turns(shared["conversations"])
    return {"conversations": turns, "system": system, "tools": shared.get("tools", "")}


@exporter(
    "llama-factory-ranking",
    write=partial(_write_llama, layout=_RANKING),
    keeps=("rejected", TRACES[0]),
    compares_answers=True,
)
def _ranked(row: ExportRow) -> dict[str, Json]:
    """LLaMA-Factory ranking files: conversations with a chosen and a rejected turn, and dataset_info.json."""
    prompt, *answers = preference_pair(row)
    shared, chosen, rejected = (
        _sharegpt({**row, "messages": messages}) for messages in (prompt, *([_sole(answer)] for answer in answers))
    )
    system, turns = _ordered_turns(shared["conversations"], is_open=True)
    pair = {"chosen": chosen["conversations"][0], "rejected": rejected["conversations"][0]}
    return {"conversations": turns, "system": system, "tools": shared.get("tools", "")} | pair


def _ordered_turns(turns: list[Json], *, is_open: bool = False) -> tuple[str, list[Json]]:
    """Return the system text and the other turns of a conversation, which ends with an answer unless it ``is_open``.

    Raises:
        CannotExpressError: user and assistant do not take turns.
    """
    system = turns.pop(0)["value"] if turns and turns[0]["from"] == "system" else ""
    # LLaMA-Factory drops a conversation in another order, with no more than a warning in its log.
    is_ordered = all((turn["from"] in ("human", "observation")) == (index % 2 == 0) for index, turn in enumerate(turns))
    if any(turn["from"] == "system" for turn in turns) or not is_ordered or len(turns) % 2 != is_open:
        raise CannotExpressError("the turns are not user or tool and assistant in turn")
    return system, turns
