"""Talks: messages by role or by from, prompts and completions, trees of messages, and talks written out in one text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, RowError, importer, share
from curate.formats.importers._reading import (
    as_list,
    drafted,
    is_messages,
    is_our_export,
    is_turn,
    read_messages,
    read_turns,
    reference_of,
    rendered,
    talk_of,
)
from curate.formats.importers.mapping import is_all_asked

Row = dict[str, Json]
_TALK = {"messages": "messages", "tools": "tools"}


def _num_texts(content: Json) -> int:
    return sum(isinstance(part, dict) and "text" in part for part in as_list(content))


def _joined_parts(_path: Path, rows: Sequence[Row]) -> list[str]:
    talks = (row["messages"] for row in rows if is_messages(row.get("messages")))
    number = sum(any(_num_texts(turn.get("content")) > 1 for turn in talk) for talk in talks)
    said = f"messages in several parts, in {number:,} of the {len(rows):,} rows looked at: texts are joined as they are"
    return [said] if number else []


@importer(
    "openai",
    fits=lambda row: is_messages(row.get("messages")) and not reference_of(row) and not is_our_export(row),
    notices=_joined_parts,
    samples=[
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello.", "weight": 1}]},
        {"messages": [
            {"role": "user", "content": "Where is order 7?"},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"order":7}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "on its way"},
            {"role": "assistant", "content": "It is on its way."}],
         "tools": [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}],
         "parallel_tool_calls": False},
        # As TRL has it.
        {"messages": [{"role": "user", "content": "Where is order 7?"}, {"role": "assistant", "tool_calls": [
            {"type": "function", "function": {"name": "find", "arguments": {"order": 7}}}]}]},
        # Blocks as Anthropic has them; Mistral's hold parts.
        {"messages": [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "2 and 3.", "signature": "c2ln"}, {"type": "text", "text": "5"}]}]},
    ],
)  # fmt: skip
def read_openai(row: Row) -> ConvertedRow:
    """Chat rows of OpenAI, TRL, Anthropic, Mistral and Bedrock; the arguments of calls stay as they are written."""
    messages, originals = read_messages(row.get("messages"))
    if row.get("choices") and messages[-1]["role"] != "assistant":
        raise RowError("its answer, a model's, stands in choices: put it behind the messages to train on it")
    system = row.get("system")
    if isinstance(system, str | list) and system and messages[0]["role"] != "system":
        # As a turn it is not where it was.
        messages[:0] = read_messages([{"role": "system", "content": system}], "system")[0]
        originals = {"messages": row["messages"]}
    return drafted("chat", row, {"messages": messages}, _TALK, originals)


@importer(
    "reinforcement",
    fits=lambda row: bool(reference_of(row)),
    samples=[
        {"messages": [{"role": "user", "content": "2 + 2?"}], "reference_answer": "4"},
        {"messages": [{"role": "user", "content": "Order 7, two pens."}], "reference_answer": {"order": 7, "pens": 2}},
        {"prompt": [{"role": "user", "content": "2 + 2?"}], "solution": "4"},
    ],
)
def read_reference(row: Row) -> ConvertedRow:
    """Prompts that end with the user, and the reference answer that a grader compares with, as the answer."""
    talk, name = talk_of(row), reference_of(row)
    if not name:
        raise RowError("it has no reference answer, or its last message is an answer itself")
    messages, originals = read_messages(row[talk], talk)
    answer = row[name] if isinstance(row[name], str) else rendered(row[name])
    originals |= {} if answer == row[name] else {name: row[name]}
    said = {"messages": [*messages, {"role": "assistant", "content": answer}]}
    return drafted("chat", row, said, {talk: "instruction", name: "output", "tools": "tools"}, originals)


@importer(
    "sharegpt",
    fits=lambda row: bool(as_list(row.get("conversations"))) and all(map(is_turn, row["conversations"])),
    samples=[
        {"id": "a1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
        {
            "conversations": [
                {"from": "human", "value": "Where is order 7?"},
                {"from": "function_call", "value": '{"name": "find", "arguments": {"order": 7}}'},
                {"from": "observation", "value": "on its way"},
                {"from": "gpt", "value": "It is on its way."},
            ],
            "tools": '[{"name": "find", "parameters": {"type": "object"}}]',
        },
    ],
)
def read_sharegpt(row: Row) -> ConvertedRow:
    """ShareGPT rows: human, gpt, system, observation and function_call turns, and tools as JSON text."""
    turns = as_list(row.get("conversations"))
    messages, is_exact = read_turns(turns)
    if row.get("system"):
        # ShareGPT has the system text beside the turns; as a turn it is not where it was.
        messages, is_exact = [{"role": "system", "content": row["system"]}, *messages], False
    originals = {name: row[name] for name in ("system",) if name in row} | (
        {} if is_exact else {"conversations": turns}
    )
    columns = {"conversations": "messages", "system": "system", "tools": "tools"}
    return drafted(
        "chat", row, {"messages": messages}, columns, originals,
        spell_tools=lambda tools: rendered([tool["function"] for tool in tools]),
    )  # fmt: skip


# What was once advised behind prompts and behind completions.
_SEPARATORS = ("###", "->", "END")


def _separators(_path: Path, rows: Sequence[Row]) -> Sequence[str]:
    texts = {name: [str(row.get(name)) for row in rows] for name in ("prompt", "completion")}
    return [
        f"each {name} has blanks around it, or ends with a separator ({some[0][-9:]!r}): trained as it stands"
        for name, some in texts.items()
        if all(text != text.strip() or text.endswith(_SEPARATORS) for text in some)
    ]


def _is_completed(row: Row) -> bool:
    prompt, completion = row.get("prompt"), row.get("completion")
    # What else is asked is read by the names of the columns.
    return (isinstance(prompt, str) and isinstance(completion, str) and is_all_asked(row)) or (
        is_messages(prompt) and is_messages(completion)
    )


@importer(
    "trl",
    fits=_is_completed,
    notices=_separators,
    samples=[
        {"prompt": "The sky is", "completion": " blue."},
        {"prompt": [{"role": "user", "content": "Sky?"}], "completion": [{"role": "assistant", "content": "Blue."}]},
    ],
)
def read_trl(row: Row) -> ConvertedRow:
    """TRL prompt-completion rows: both texts, or both lists of messages."""
    prompt, completion = row.get("prompt"), row.get("completion")
    columns = {"prompt": "instruction", "completion": "output"}
    if not isinstance(prompt, list):
        return drafted("instruction", row, {"instruction": prompt, "output": completion}, columns)
    question, prompt_originals = read_messages(prompt, "prompt")
    answered, answer_originals = read_messages(completion, "completion")
    # From the joined messages alone nobody could tell where the prompt ended.
    is_exact = not prompt_originals | answer_originals and [turn["role"] for turn in answered] == ["assistant"]
    originals = {} if is_exact else {"prompt": prompt, "completion": completion}
    return drafted("chat", row, {"messages": question + answered}, columns | {"tools": "tools"}, originals)


# What those who speak are called in trees and in talks that are written out.
_SPEAKERS = {
    "human": "user", "user": "user", "instruction": "user", "question": "user", "prompter": "user",
    "assistant": "assistant", "response": "assistant", "answer": "assistant", "gpt": "assistant", "bot": "assistant",
    "system": "system",
}  # fmt: skip


def _is_tree(row: Row) -> bool:
    prompt = row.get("prompt")
    return isinstance(prompt, dict) and isinstance(prompt.get("replies"), list) and isinstance(prompt.get("text"), str)


@importer(
    "trees",
    fits=_is_tree,
    samples=[
        {"message_tree_id": "t1", "tree_state": "ready_for_export", "prompt": {
            "message_id": "t1", "text": "Say hi.", "role": "prompter", "lang": "en", "replies": [
                {"message_id": "a1", "text": "Hello.", "role": "assistant", "rank": 0, "replies": []},
                {"message_id": "a2", "text": "Hi there.", "role": "assistant", "rank": 1, "replies": []}]}},
    ],
)  # fmt: skip
def read_tree(row: Row) -> list[ConvertedRow | RowError]:
    """Trees of messages (OpenAssistant): each path to an answer that nobody replied to is a talk of its own."""
    if not _is_tree(row):
        raise RowError("'prompt' is no message with replies")
    return list(_talks(row["prompt"], [], {name: value for name, value in row.items() if name != "prompt"}))


def _talks(node: Json, before: list[Row], around: Row) -> Iterator[ConvertedRow | RowError]:
    """Yield the talks that go through ``before`` and this message, and what of the tree is in none of them."""
    # The strict parser has seen to it that no tree is deep.
    if not isinstance(node, dict) or not isinstance(node.get("text"), str) or str(node.get("role")) not in _SPEAKERS:
        yield RowError("a message has no text, or no role", part=node)
        return
    if node.get("deleted") or node.get("review_result") is False:
        yield RowError("a message was deleted, or failed its review", part=node)
        return
    path, replies = [*before, node], as_list(node.get("replies"))
    behind = [one for reply in replies for one in _talks(reply, path, around)]
    is_answer = _SPEAKERS[node["role"]] == "assistant"
    if is_answer and not any(isinstance(one, ConvertedRow) for one in behind):
        messages = [{"role": _SPEAKERS[turn["role"]], "content": turn["text"]} for turn in path]
        name = node.get("message_id")
        named = {"id": name} if isinstance(name, str) and name else {}
        turns = [{key: value for key, value in turn.items() if key not in ("text", "replies")} for turn in path]
        extra = around | {"turns": turns}
        yield ConvertedRow("chat", {"messages": messages} | named, extra, columns={"prompt": "messages"})
    elif not is_answer and not replies:
        yield RowError("nobody has answered the last prompt of a talk", part=node)
    yield from behind


# At the beginning of a line; "Human:" without more is too common in plain text.
_SPEAKER = "|".join(_SPEAKERS)
_NAMED = rf"(?:#{{2,4}} ?({_SPEAKER}) ?:|<\|({_SPEAKER})\|>|<\|im_start\|>({_SPEAKER})\n)[ \t]*"
_MARK = re.compile(rf"^[ \t]*{_NAMED}", re.IGNORECASE | re.MULTILINE)
# A talk in one line, which no line end divides.
_INLINE = re.compile(rf"(?:^|(?<=\s)){_NAMED}", re.IGNORECASE)
_END = "<|im_end|>"
_WRITTEN = ("text", "conversation", "dialogue")
# Marks that no importer reads.
_WRAPPED = re.compile(r"\[INST\].*\[/INST\]|^(?:Human|User): .*^(?:Assistant|AI|Bot): ", re.DOTALL | re.MULTILINE)


def _column(row: Row) -> str:
    return next((name for name in _WRITTEN if isinstance(row.get(name), str)), "text")


def _marks_in(text: Json) -> list[re.Match[str]]:
    """Return the marks of a talk that is written out in one text; empty for a text without both sides."""
    for pattern in (_MARK, _INLINE) if isinstance(text, str) else ():
        marks = list(pattern.finditer(text))
        if {_role(mark) for mark in marks} >= {"user", "assistant"}:
            return marks
    return []


def _role(mark: re.Match[str]) -> str:
    return _SPEAKERS[(mark[1] or mark[2] or mark[3]).lower()]


@importer(
    "human-assistant",
    fits=lambda row: bool(_marks_in(row.get(_column(row)))),
    samples=[
        {"text": "### Human: Say hi.\n### Assistant: Hello.\n### Human: Again.\n### Assistant: Hello again."},
        {"text": "### Instruction:\nSay hi.\n\n### Response:\nHello."},
        {"text": "<|system|>\nBe brief.\n<|user|>\nSay hi.\n<|assistant|>\nHello."},
    ],
)
def read_written(row: Row) -> ConvertedRow:
    """Texts of turns marked "### Human:" and "### Assistant:" (also Instruction and Response, <|user|>), as talks."""
    name = _column(row)
    text = row.get(name)
    marks = _marks_in(text)
    if not isinstance(text, str) or not marks or text[: marks[0].start()].strip():
        raise RowError(f"{name!r} does not begin with a mark such as '### Human:'")
    messages: list[Json] = []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        content = text[mark.end() : following.start() if following else len(text)].strip().removesuffix(_END).strip()
        if not content:
            raise RowError(f"turn {len(messages) + 1} of {name!r} is empty")
        messages.append({"role": _role(mark), "content": content})
    return drafted("chat", row, {"messages": messages}, {name: "messages"})


_ANSWERS = frozenset({
    "output", "response", "answer", "completion", "label", "intent", "category", "target", "instruction", "prompt",
    "question", "messages",
})  # fmt: skip


def _is_bare(row: Row) -> bool:
    return isinstance(row.get("text"), str) and not any(name in _ANSWERS or name.startswith("is_") for name in row)


@importer(
    "text",
    recognise=lambda rows: 0.8 * share(rows, _is_bare),
    samples=[{"text": "Rivers run to the sea."}, {"text": "So it is.", "meta": {"src": "book"}}],
)
def read_text(row: Row) -> ConvertedRow:
    """Raw text rows: one text a record, for a domain workspace; talks that are written out are put aside."""
    refuse_talk(row.get("text"))
    return drafted("domain", row, {"text": row.get("text")}, {"text": "text"})


def refuse_talk(text: Json) -> None:
    """Refuse a talk that is written out in one text, which would be trained as plain text.

    Raises:
        RowError: it has the marks of both sides.
    """
    has_marks = bool(_marks_in(text))
    if has_marks or (isinstance(text, str) and _WRAPPED.search(text)):
        way = "--format human-assistant reads it" if has_marks else "split it into turns"
        raise RowError(f"it is a talk with marks of turns: {way}; --map text=text keeps it as it is")
