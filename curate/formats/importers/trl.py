"""TRL: prompt and completion as texts or as messages, and conversations whose tool arguments are objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer, share
from curate.formats.importers._reading import (
    argument_kinds,
    is_messages,
    is_own,
    json_name,
    read_messages,
    reference_of,
    take_common,
    take_tools,
)
from curate.formats.importers.mapping import is_all_asked
from curate.formats.importers.openai_chat import chat_draft


def _is_pair(row: dict[str, Json]) -> bool:
    prompt, completion = row.get("prompt"), row.get("completion")
    # What else is asked is read by the names of the columns.
    return (isinstance(prompt, str) and isinstance(completion, str) and is_all_asked(row)) or (
        is_messages(prompt) and is_messages(completion)
    )


def _recognise_conversations(rows: Sequence[dict[str, Json]]) -> float:
    # Without tool calls the file is an OpenAI file just as well, and is read the same way.
    has_objects = any(dict in argument_kinds(row["messages"]) for row in rows if is_messages(row.get("messages")))
    talks = share(rows, lambda row: is_messages(row.get("messages")) and not is_own(row) and not reference_of(row))
    return talks * (1.0 if has_objects else 0.9)


@importer(
    "trl",
    fits=_is_pair,
    samples=[
        {"prompt": "The sky is", "completion": " blue."},
        {"prompt": [{"role": "user", "content": "Sky?"}], "completion": [{"role": "assistant", "content": "Blue."}]},
    ],
)
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """TRL prompt-completion rows: both texts, or both lists of messages."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        line, extra = take_common(row, ("prompt", "completion"))
        return ConvertedRow("instruction", line | {"instruction": prompt, "output": completion}, extra)
    if isinstance(prompt, list) and isinstance(completion, list):
        line, extra = take_common(row, ("prompt", "completion", "tools"))
        question, is_prompt_exact = read_messages(prompt, "prompt")
        answered, is_completion_exact = read_messages(completion, "completion")
        line["messages"] = question + answered
        # From the joined messages alone nobody could tell where the prompt ended.
        if not (is_prompt_exact and is_completion_exact and [message["role"] for message in answered] == ["assistant"]):
            extra |= {"prompt": prompt, "completion": completion}
        take_tools(row, line, extra)
        return ConvertedRow("chat", line, extra)
    raise RowError(
        f"'prompt' is {json_name(prompt)} and 'completion' is {json_name(completion)}; both must be text or messages"
    )


@importer(
    "trl-conversational",
    recognise=_recognise_conversations,
    samples=[
        {
            "messages": [
                {"role": "user", "content": "Where is order 7?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"type": "function", "function": {"name": "find", "arguments": {"order": 7}}}],
                },
                {"role": "tool", "name": "find", "content": "on its way"},
                {"role": "assistant", "content": "It is on its way."},
            ],
            "tools": [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}],
        },
    ],
)
def read_conversation(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """TRL conversational rows: messages and tools, with the arguments of tool calls as objects."""
    return chat_draft(row)
