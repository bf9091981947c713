"""What trainers refuse or silently drop in a conversation: the order of roles, single messages, calls of tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any

from curate.base.record import Json, Problem, Record
from curate.checks import check, is_blank, messages_pointer
from curate.schema.calls import fault_of_arguments
from curate.schema.settings import Settings, Target

Message = Mapping[str, Json]
# Reports what a trainer refuses of a record.
Report = Callable[[Record, str], Iterator[Problem]]

# Each rule is what a trainer's own code or documentation says, as read in November 2026: LLaMA-Factory 0.9.5
# (``data/converter.py``, ``data/processor/supervised.py``), TRL 1.16.0 (``trainer/sft_trainer.py``), Axolotl 0.19.0
# (``prompt_strategies/chat_template.py``), Together (docs.together.ai, "Data preparation", and the checks of its client
# 1.5.25), OpenAI (its cookbook's "Data preparation and analysis for chat model fine-tuning", its API types; for calls
# of tools those of its Python client 1.99.9, ``types/chat`` and ``types/shared_params/function_definition.py``). What
# could not be found in one of these is not checked. Nothing here speaks unless ``target`` is set.
_LAST_TURN = {
    "openai": "OpenAI is reported to refuse the file, and an export to it leaves the record out",
    "trl": "TRL's prompt-completion form has no place for it, and an export to it leaves the record out",
    "axolotl": "Axolotl trains nothing of what follows the last answer",
    "llama-factory": "LLaMA-Factory drops a conversation with an odd number of turns and goes on",
    "together": "Together's file is in OpenAI's form, and an export to it leaves the record out",
}


def _target_check(
    code: str, name: str, *targets: Target, good: Sequence[Json], bad: Sequence[Json]
) -> Callable[[Report], Report]:
    """Register a check of records for the trainers that it holds for; the examples are for the first of them."""

    def put(report: Report) -> Report:
        @wraps(report)
        def run(record: Record, settings: Settings) -> Iterable[Problem]:
            return report(record, settings.target) if settings.target in targets else ()

        check(
            code, name, severity="error", good=good, bad=bad, settings=Settings(target=targets[0]),
            speaks_if=lambda settings: settings.target in targets,
        )(run)  # fmt: skip
        return report

    return put


def message_pointer(record: Record, index: int, inner: str) -> str:
    """Return the pointer of what stands at ``inner`` of a message; of the message where it lacks that, or ""."""
    base = messages_pointer(record)
    if not base:
        return ""
    return f"{base}/{index}/{inner}" if inner.split("/", 1)[0] in record.messages[index] else f"{base}/{index}"


def _said(*turns: str) -> dict[str, list[dict[str, str]]]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return {"messages": [{"role": names[turn], "content": f"Text {index}."} for index, turn in enumerate(turns)]}


@_target_check(
    "T901",
    "target-role-order",
    "llama-factory",
    "together",
    good=[_said("s", "u", "a", "u", "a"), _said("u", "a"), {"instruction": "Add 2 and 3.", "output": "5"}],
    bad=[_said("a", "u", "a"), _said("u", "u", "a"), _said("u", "a", "s", "u", "a")],
)
def target_role_order(record: Record, target: str) -> Iterator[Problem]:
    """Report a conversation whose roles do not come in the order that the target insists on.

    ``llama-factory``: after an optional first system message user (or tool) and assistant take turns; a conversation
    that does not is dropped with a warning in the log, and training goes on. Two tool answers in a row have no place in
    the ShareGPT form. ``together``: a conversation begins with system or user, user and assistant take turns, and there
    is no developer; the service refuses the file. Of the other targets no such rule is known.
    """
    if not record.messages:
        return
    roles = [str(message.get("role")) for message in record.messages]
    index, reason = (_out_of_pairs if target == "llama-factory" else _out_of_turn)(roles)
    if reason:
        yield Problem(f"{reason}; {target} {_DOES[target]}", message_pointer(record, index, "role"))


_DOES = {"llama-factory": "drops the record", "together": "refuses the file"}


def _out_of_pairs(roles: list[str]) -> tuple[int, str]:
    """Return the first turn that LLaMA-Factory's converter rejects, and why; no reason where there is none."""
    first = 1 if roles[0] in ("system", "developer") else 0
    for index in range(first, len(roles)):
        wanted = ("user", "tool") if (index - first) % 2 == 0 else ("assistant",)
        if roles[index] not in wanted:
            return index, f"turn {index + 1} is the {roles[index]}'s where {' or '.join(wanted)} should speak"
    return 0, ""


def _out_of_turn(roles: list[str]) -> tuple[int, str]:
    """Return the first turn that Together rejects, and why; no reason where there is none."""
    before = ""
    for index, role in enumerate(roles):
        if role == "developer":
            return index, "there is no role developer"
        if role == "system" and index:
            return index, f"turn {index + 1} is a system message, which only the first may be"
        if role == "assistant" and before in ("", "system"):
            return index, "the assistant speaks first"
        if role == before and role in ("user", "assistant"):
            return index, f"turns {index} and {index + 1} are both the {role}'s"
        before = role
    return 0, ""


@_target_check(
    "T902",
    "target-last-turn",
    "openai",
    "trl",
    "axolotl",
    "llama-factory",
    "together",
    good=[_said("u", "a"), _said("s", "u", "a", "u", "a"), {"text": "A page of a manual."}],
    bad=[_said("u", "a", "u"), _said("a", "u")],
)
def target_last_turn(record: Record, target: str) -> Iterator[Problem]:
    """Report a conversation that does not end with the assistant.

    What the user says last has no answer, so there is nothing to learn from it. LLaMA-Factory counts an odd number of
    turns and drops the whole conversation with a warning; Axolotl trains nothing of the end and warns of a fault
    in the data's design; TRL's prompt-completion form cannot hold it; OpenAI asks for an assistant message in every
    example, and was seen to refuse files in which it is not the last (kohhnagata/clone-factory-v1, issue 3). Cut the
    last turn off or answer it.
    """
    if not record.messages or record.messages[-1].get("role") == "assistant":
        return
    role = record.messages[-1].get("role")
    pointer = message_pointer(record, len(record.messages) - 1, "role")
    yield Problem(f"the last turn is the {role}'s, not the assistant's; {_LAST_TURN[target]}", pointer)


@_target_check(
    "T903",
    "target-raw-text",
    "openai",
    good=[_said("u", "a"), {"instruction": "Add 2 and 3.", "output": "5"}],
    bad=[{"text": "Keep the valve shut while the pump is running."}],
)
def target_raw_text(record: Record, target: str) -> Iterator[Problem]:
    """Report raw text for a target that trains on conversations only.

    ``openai``: every line of a fine-tuning file for a chat model is an object with ``messages``; an export to it leaves
    raw text out. The other targets have a form for raw text: a ``text`` column in TRL and Together, ``type:
    completion`` in Axolotl, the pre-training stage of LLaMA-Factory.
    """
    if not record.messages:
        yield Problem("raw text has no place in OpenAI's chat format, and an export to it leaves the record out")


@_target_check(
    "T904",
    "target-message",
    "openai",
    "together",
    good=[
        _said("s", "u", "a"),
        {
            "messages": [
                {"role": "user", "content": "Where is order 7?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}],
                },
            ]
        },
    ],
    bad=[
        {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "Hello."}]},
        {"messages": [{"role": "system", "content": " "}, *_said("u", "a")["messages"]]},
    ],
)
def target_message(record: Record, target: str) -> Iterator[Problem]:
    """Report a message that the target refuses for what it holds.

    ``openai``: a message of system, user or assistant needs content unless it calls tools (the cookbook's check
    "missing content"), and a tool's answer must be one text, not a list of parts ("Input should be a valid string",
    community.openai.com, topic 965584). ``together``: content is a text unless tools are called. For both, ``weight``
    is 0 or 1. An empty answer of the assistant is finding Q201 whatever the target.
    """
    for index, message in enumerate(record.messages):
        key, reason = _refused(message, target)
        if reason:
            yield Problem(f"{reason}; {target} refuses it", message_pointer(record, index, key))


def _refused(message: Message, target: str) -> tuple[str, str]:
    content, role = message.get("content"), message.get("role")
    weight = message.get("weight", 1)
    if isinstance(weight, bool) or weight not in (0, 1):
        return "weight", "the weight is neither 0 nor 1"
    if role == "tool" and not isinstance(content, str):
        return "content", "the content of a tool's answer is not one text"
    if message.get("tool_calls") or role == "tool":
        return "", ""
    if not isinstance(content, str | list):
        return "content", "the content is missing"
    if target == "openai" and role != "assistant" and (not content or (isinstance(content, str) and is_blank(content))):
        return "content", f"the {role}'s message is empty"
    return "", ""


@_target_check(
    "T908",
    "target-lost-text",
    "llama-factory",
    good=[_said("u", "a")],
    bad=[
        {
            "messages": [
                {"role": "user", "content": "Where is order 7?"},
                {
                    "role": "assistant",
                    "content": "Let me look.",
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}],
                },
            ]
        },
    ],
)
def target_lost_text(record: Record, target: str) -> Iterator[Problem]:
    """Report an assistant message that both speaks and calls tools, of which the target keeps the calls only.

    ``llama-factory``: its reader of OpenAI messages puts the calls in place of the content, so that the text is never
    trained and nothing says so; the ShareGPT form cannot hold both, and an export to it leaves the record out. Move the
    text into a turn of its own or drop it.
    """
    for index, message in enumerate(record.messages):
        if message.get("role") == "assistant" and message.get("tool_calls") and message.get("content"):
            reason = "the text beside the tool calls is lost in LLaMA-Factory"
            yield Problem(reason, message_pointer(record, index, "content"))


_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BREAKS = {
    "openai": "OpenAI asks for the JSON text of an object",
    "together": "Together asks for the JSON text of an object",
    "trl": "chat templates ask for an object, and an export to TRL leaves the record out",
    "axolotl": "Axolotl stops the whole preparation there",
    "llama-factory": "LLaMA-Factory stops the whole preparation there",
}


def _tool_conversation(arguments: Json = '{"order": 7}', **changes: Any) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "find_order", "arguments": arguments}}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "shipped"}
    return {
        "messages": [
            {"role": "user", "content": "Where is order 7?"},
            {"role": "assistant", "content": None, "tool_calls": [call | changes.get("call", {})]},
            {key: value for key, value in (answer | changes.get("answer", {})).items() if value is not None},
            {"role": "assistant", "content": "It is on its way."},
        ]
    }


@_target_check(
    "T905",
    "target-tool-arguments",
    "axolotl",
    "openai",
    "together",
    "trl",
    "llama-factory",
    good=[_tool_conversation(), _tool_conversation({"order": 7}), _tool_conversation("{}")],
    bad=[_tool_conversation("{order: 7}"), _tool_conversation("[7]"), _tool_conversation("")],
)
def target_tool_arguments(record: Record, target: str) -> Iterator[Problem]:
    """Report a tool call whose arguments are not an object, nor the JSON text of one.

    Exports write the spelling that a target wants, an object or its text, so both are right here. Of a text that is no
    JSON nothing can be made: Axolotl and LLaMA-Factory end with an error at that record; the exporter for TRL leaves
    the record out; OpenAI and Together describe arguments as JSON.
    """
    for index, number, call in _calls(record):
        if fault := fault_of_arguments(_function(call).get("arguments")):
            pointer = message_pointer(record, index, f"tool_calls/{number}/function/arguments")
            yield Problem(f"the arguments of the call {fault}; {_BREAKS[target]}", pointer)


@_target_check(
    "T906",
    "target-tool-id",
    "openai",
    good=[_tool_conversation()],
    bad=[
        _tool_conversation(answer={"tool_call_id": "c2"}),
        _tool_conversation(answer={"tool_call_id": None}),
        _tool_conversation(call={"id": ""}, answer={"tool_call_id": None}),
    ],
)
def target_tool_id(record: Record, target: str) -> Iterator[Problem]:
    """Report a tool call without an id, and a tool's answer that names no earlier call of the conversation.

    ``openai``: both ids are required, and the answer's names the call that it responds to. The other targets read
    answers by their place in the conversation.
    """
    known: set[str] = set()
    for index, message in enumerate(record.messages):
        for number, call in enumerate(message.get("tool_calls") or ()):
            name = call.get("id") if isinstance(call, Mapping) else None
            if not isinstance(name, str) or not name:
                yield Problem(
                    "the call has no id; OpenAI requires one", _at(record, index, f"tool_calls/{number}", call)
                )
            else:
                known.add(name)
        if message.get("role") != "tool":
            continue
        answered = message.get("tool_call_id")
        if not answered:
            yield Problem(
                "the answer names no call; OpenAI requires a tool_call_id", message_pointer(record, index, "role")
            )
        elif answered not in known:
            reason = "the answer names a call that was not made before it"
            yield Problem(reason, message_pointer(record, index, "tool_call_id"))


@_target_check(
    "T907",
    "target-tool-name",
    "openai",
    good=[_tool_conversation()],
    bad=[
        _tool_conversation() | {"tools": [{"type": "function", "function": {"name": "math.hypot"}}]},
        _tool_conversation(call={"function": {"name": "find order", "arguments": "{}"}}),
        _tool_conversation(call={"function": {"name": "f" * 65, "arguments": "{}"}}),
    ],
)
def target_tool_name(record: Record, target: str) -> Iterator[Problem]:
    """Report a tool whose name the target does not accept.

    ``openai``: letters a to z, digits, underscores and dashes, 64 at most. Names with dots, as in ``math.hypot``, are
    common in public data; replace the dots, in the tools and in the calls alike.
    """
    reason = "the name of the tool is not 1 to 64 letters, digits, underscores and dashes; OpenAI refuses it"
    for number, tool in enumerate(record.tools):
        if not _is_name(_function(tool)):
            yield Problem(reason, f"/tools/{number}/function/name" if "tools" in record.data else "")
    for index, number, call in _calls(record):
        if not _is_name(_function(call)):
            yield Problem(reason, message_pointer(record, index, f"tool_calls/{number}/function/name"))


def _calls(record: Record) -> Iterator[tuple[int, int, Json]]:
    for index, message in enumerate(record.messages):
        for number, call in enumerate(message.get("tool_calls") or ()):
            yield index, number, call


def _function(tool: Json) -> Mapping[str, Json]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return function if isinstance(function, Mapping) else {}


def _at(record: Record, index: int, inner: str, call: Json) -> str:
    has_id = isinstance(call, Mapping) and "id" in call
    return message_pointer(record, index, inner + "/id" if has_id else inner)


def _is_name(function: Mapping[str, Json]) -> bool:
    return _NAME.fullmatch(str(function.get("name", ""))) is not None
