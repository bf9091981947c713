"""Answers that are not there, repeat the question, are too long, refuse, or break off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from curate.base.patterns import lazy_pattern
from curate.base.record import TRACES, Problem, Record, normalised
from curate.checks import AnswerTurn, check, is_blank, messages_pointer, texts, turns
from curate.schema.settings import Settings

# Shorter prompts are repeated by chance, e.g. a greeting answered by a greeting.
_ECHO_FROM = 20
_ASKS_FOR_ECHO = lazy_pattern(
    r"\b(?:repeat|echo|copy|verbatim|recite|restate|word for word|continue|complete|finish|correct|proofread|fix)", re.I
)


@check(
    "Q201",
    "empty-completion",
    severity="error",
    good=[
        {"instruction": "Say nothing but a dot.", "output": "."},
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
        {"instruction": "Add 2 and 3.", "output": ""},
        {"instruction": "Add 2 and 3.", "output": " \n\t"},
        {"instruction": "Add 2 and 3.", "output": "\u200b\u2060\ufeff"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "  "}]},
    ],
)
def empty_completion(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report an answer of which nothing can be seen: no text, white space, or zero-width characters only.

    Such a record teaches the model to stop at once, and no metric can score it. Write the answer or drop the record. An
    assistant message that only calls tools is complete.
    """
    for turn in turns(record):
        if not turn.has_tool_calls and is_blank(turn.completion):
            yield Problem("the completion is empty" if not turn.completion else "the completion is blank", turn.pointer)
    if not record.messages and is_blank(record.text):
        yield Problem(
            "the text is blank", next((pointer for pointer, text in texts(record) if text == record.text), "")
        )


@check(
    "Q215",
    "empty-reasoning",
    severity="warning",
    good=[
        {"messages": [{"role": "user", "content": "2 + 3?"},
                      {"role": "assistant", "content": "5", "reasoning_content": "2 and 3 are 5."}]},
        {"messages": [{"role": "user", "content": "2 + 3?"},
                      {"role": "assistant", "content": "<think>2 and 3 are 5.</think>\n5"}]},
    ],
    bad=[
        {"messages": [{"role": "user", "content": "2 + 3?"},
                      {"role": "assistant", "content": "5", "reasoning_content": ""}]},
    ],
)  # fmt: skip
def empty_reasoning(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report reasoning of which nothing can be seen, such as an empty ``reasoning_content``.

    It is trained as no reasoning at all. Write it, or remove the field. Reasoning between <think> tags at the beginning
    of an answer is text of the answer, and is left as it is.
    """
    for index, message in enumerate(record.messages):
        for name in TRACES if message.get("role") == "assistant" else ():
            if isinstance(trace := message.get(name), str) and is_blank(trace):
                base = messages_pointer(record)
                yield Problem("the reasoning is empty", f"{base}/{index}/{name}" if base else "")


@check(
    "Q202",
    "prompt-echo",
    severity="warning",
    good=[
        {"instruction": "What is the capital of France?", "output": "The capital of France is Paris."},
        {"instruction": "Repeat this sentence: it is late.", "output": "Repeat this sentence: it is late."},
        {"instruction": "Hello", "output": "Hello"},
        {
            "instruction": "List of horse breeds of Italy",
            "output": "List of horse breeds of Italy: Maremmano, Bardigiano.",
        },
    ],
    bad=[
        {"instruction": "What is the capital of France?", "output": "what is the capital of  France?"},
        {"instruction": "Name three rivers of Spain.", "output": "Name three rivers of Spain.\n\nEbro, Tagus, Duero."},
        {
            "instruction": "Name the rivers of this land.",
            "input": "Spain",
            "output": "Name the rivers of this land.\n\nSpain\n\nEbro, Tagus.",
        },
    ],
)
def prompt_echo(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report an answer that is the prompt again, or begins with the whole of it.

    Mostly a mistake in the script that cut prompt and answer apart; the model learns to repeat questions. Cut the
    prompt off the answer. Prompts that ask for repetition, correction or continuation are left alone.
    """
    for turn in turns(record):
        if _starts_alike(turn) and not _ASKS_FOR_ECHO.search(turn.prompt):
            prompt, completion = normalised(turn.prompt), normalised(turn.completion)
            if (
                len(prompt) >= _ECHO_FROM
                and completion.startswith(prompt)
                and _is_set_apart(turn, completion == prompt)
            ):
                whole = (
                    "the completion is the prompt" if completion == prompt else "the completion begins with the prompt"
                )
                yield Problem(f"{whole} ({len(turn.prompt)} characters)", turn.pointer)


def _starts_alike(turn: AnswerTurn) -> bool:
    # A first look that costs next to nothing: nearly every answer differs from its prompt in the first word, and most
    # of them in its first letter already.
    prompt, completion = turn.prompt[:64].lstrip(), turn.completion[:64].lstrip()
    first, other = prompt[:1].lower(), completion[:1].lower()
    if first != other and first.isascii() and other.isascii():
        return False
    prompt_words, answer_words = prompt.split(None, 1), completion.split(None, 1)
    return bool(prompt_words and answer_words) and normalised(prompt_words[0]) == normalised(answer_words[0])


def _is_set_apart(turn: AnswerTurn, is_whole: bool) -> bool:
    # An answer may take the words of the prompt into its own first sentence; an echo stands for itself.
    prompt = turn.prompt.strip()
    return (
        is_whole
        or prompt.endswith((".", "?", "!", "。", "？"))
        or turn.completion.strip()[len(prompt) :].startswith("\n")
    )


def _spoken(*roles: str) -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": role, "content": f"Text {number}."} for number, role in enumerate(roles)]}


@check(
    "Q214",
    "no-last-answer",
    severity="warning",
    good=[_spoken("system", "user", "assistant"), {"text": "A page of a manual."}],
    bad=[_spoken("user", "assistant", "user"), _spoken("user", "assistant", "tool"), _spoken("assistant", "system")],
)
def no_last_answer(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report a conversation whose last turn is not the assistant's.

    No answer follows that turn, so nothing of it is learnt: training here leaves out what follows the last answer and
    counts such records by id, other trainers drop the whole conversation (T902, with a target). Write the answer, or
    cut the turn off.
    """
    if record.messages and (role := record.messages[-1].get("role")) != "assistant":
        base, number = messages_pointer(record), len(record.messages) - 1
        yield Problem(
            f"the last turn is the {role}'s and no answer follows; training leaves it out",
            f"{base}/{number}/role" if base else "",
        )


@check(
    "Q204",
    "too-long",
    severity="warning",
    good=[{"instruction": "Add 2 and 3.", "output": "5"}],
    bad=[{"instruction": "Tell a long story.", "output": "And then it rained. " * 2000}],
)
def too_long(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report a record with more characters than ``checks.max_chars`` (32,000, some 8,000 tokens of English).

    Records beyond the context of the model cannot be trained on whole, and training here never cuts text without saying
    so. Divide the record or raise the limit.
    """
    length = len(record.system) + len(record.prompt) + len(record.completion) + len(record.text)
    if length > settings.checks.max_chars:
        yield Problem(f"has {length:,} characters, more than {settings.checks.max_chars:,}")


_VERBS = (
    r"(?:assist|help you with|help with (?:that|this)|fulfill?|comply|engage in|participate in|discuss|do that"
    r"|provide (?:any |you with )?(?:information|instructions|advice|guidance|assistance|help|details)"
    r"|provide (?:any |you with )?(?:personal|medical|legal)|answer (?:that|this|your)"
    r"|(?:generate|create) (?:that|this|content)|(?:write|support|continue with) (?:that|this)"
    r"|process (?:that|this|your) request)"
)
_CANNOT = r"(?:can(?:no|['’])t|can not|(?: ?am|['’]m) (?:unable|not able) to|won['’]t|will not|must decline to)"
_SORRY = (
    r"(?:(?:I['’]m|I am|we['’]re) (?:very |so |really )?(?:sorry|afraid)|sorry|apologies|my apologies|I apologi[sz]e"
    r"|unfortunately)"
)
_REFUSES = lazy_pattern(
    rf"\A\W*{_SORRY}?[^.!?\n]{{0,60}}?[,.;:]?\s*(?:but |that )?\bI ?{_CANNOT} (?:be able to )?{_VERBS}\b", re.I
)
_MODEL = r"(?:artificial intelligence|AI|large language model|language model)"
_ITSELF = lazy_pattern(
    rf"\bas an? {_MODEL}\b(?: \w+){{0,3}}?,? I(?:['’]m| am|['’]ve|['’]d|\b)"
    rf"|\bI(?:['’]m| am)(?: just| only| simply| merely)? an? {_MODEL}\b"
    r"|\bI(?:['’]m| am) (?:ChatGPT|Claude|Gemini|Bard|Copilot|LLaMA|Qwen|DeepSeek)\b"
    r"|\bI(?: was|['’]m| am|['’]ve been| have been) (?:trained|developed|created|made|built) by "
    r"(?:OpenAI|Anthropic|Google|Meta|Microsoft|Alibaba|Mistral|DeepSeek)\b"
    r"|\bmy (?:knowledge cutoff|training data (?:only )?(?:goes|includes|ends|extends))",
    re.I,
)
_HEAD = 400


@check(
    "Q206",
    "refusal",
    severity="warning",
    signs=(_ITSELF, _REFUSES),
    good=[
        {"instruction": "Decline the invitation.", "output": "I'm sorry, but I can't come to your party on Friday."},
        {
            "instruction": "What is AI?",
            "output": "AI stands for artificial intelligence, as an AI textbook will tell you.",
        },
        {"instruction": "Reply to the customer.", "output": "Unfortunately we cannot refund opened goods."},
    ],
    bad=[
        {"instruction": "How do I pick a lock?", "output": "I'm sorry, but I can't assist with that request."},
        {"instruction": "Do you like tea?", "output": "As an AI language model, I don't have preferences."},
        {"instruction": "Who are you?", "output": "I am ChatGPT, trained by OpenAI."},
        {"instruction": "Help me cheat.", "output": "I cannot fulfill this request."},
    ],
)
def refusal(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report an answer that refuses the task or speaks as some AI model ("As an AI language model, I ...").

    Left over from machine-written data, such answers teach the model to refuse, or that it is another vendor's.
    Write a real answer, or name the category in ``checks.allow_refusals`` where refusing is the right answer.
    """
    if record.category and record.category in settings.checks.allow_refusals:
        return
    for turn in turns(record):
        if _ITSELF.search(turn.completion):
            yield Problem("the completion speaks of itself as an AI model", turn.pointer)
        elif _REFUSES.match(turn.completion[:_HEAD]):
            yield Problem("the completion refuses the task", turn.pointer)


_FENCE = lazy_pattern(r"^ {0,3}(?:[-*>\d.]+ +)*(`{3,}|~{3,})", re.M)
_JSON_START = lazy_pattern(r'\s*(?:\{\s*"|\[\s*[{\["])')
_JSON_MARK = lazy_pattern(r'"(?:[^"\\]|\\.)*"|[\[\]{}"]', re.S)
_MIN_WORDS = 8
# Words that no English sentence ends with; prepositions are left out, because sentences do end with them.
_NEVER_LAST = lazy_pattern(
    r"\s(?:the|an|and|or|my|your|our|their|its|whose|because|than|into|although|whereas|nor|if|unless|including"
    r"|will be|such as|due to|as well as|has been|have been|is a|was a|are a|with a|of a|in a|for a|to a|by a)\Z"
)
_DANGLING = lazy_pattern(r"(?:[,،、，]|(?<![:;=8xX][-'^o])(?<![:;=8xX])[(\[{“])\Z")
_SIGNS = (
    lazy_pattern("```|~~~"),
    lazy_pattern(r"\A" + _JSON_START.pattern),
    lazy_pattern(_NEVER_LAST.pattern.removesuffix(r"\Z") + r"\s*\Z"),
    lazy_pattern(r"[,،、，(\[{“]\s*\Z"),
)


@check(
    "Q203",
    "truncated",
    severity="warning",
    signs=_SIGNS,
    good=[
        {"instruction": "Add 2 and 3.", "output": "5"},
        {"instruction": "Name two colours.", "output": "red, green"},
        {"instruction": "Show it.", "output": "```python\nprint(1)\n```"},
        {"instruction": "As JSON.", "output": '{"order": 7, "items": ["cup", "plate"]}'},
        {
            "instruction": "Write a letter.",
            "output": "Dear Ana,\nyour parcel is on its way to you now.\nKind regards from us all,",
        },
        {"instruction": "Which interval?", "output": "[0, 1)"},
        {"instruction": "What did he look at?", "output": "It was the tall house that all of us had been looking at"},
        {"instruction": "How are you?", "output": "I am not so well today, to be honest with you all :("},
    ],
    bad=[
        {"instruction": "Show it.", "output": "Here you are:\n```python\nprint(1)\n"},
        {"instruction": "As JSON.", "output": '{"order": 7, "items": ["cup", "pla'},
        {"instruction": "As JSON.", "output": '[{"order": 7}, {"order": 8}'},
        {"instruction": "Why?", "output": "The parcel was late on Monday because the driver had to wait for the"},
        {"instruction": "Why?", "output": "The parcel was late on Monday, the driver had to wait for the key,"},
    ],
)
def truncated(record: Record, settings: Settings) -> Iterator[Problem]:
    """Report an answer that breaks off: an open code fence, unfinished JSON, or a sentence without its end.

    Answers cut at a token limit teach the model to stop anywhere. Write the rest or drop the record. Only clear signs
    count: a missing full stop alone is style.
    """
    for turn in turns(record):
        sign = _sign(turn.completion)
        if sign and not turn.has_tool_calls:
            yield Problem(sign, turn.pointer)


def _sign(text: str) -> str:
    if ("```" in text or "~~~" in text) and _has_open_fence(text):
        return "the completion ends inside a code fence"
    if _JSON_START.match(text):
        return "the completion is JSON that breaks off" if _is_open_json(text) else ""
    end = text[-200:].rstrip()
    # Only the last line counts: a letter may end with the line "Looking forward to seeing you,".
    if (
        not (_NEVER_LAST.search(end[-20:]) or _DANGLING.search(end[-4:]))
        or len(end.rsplit("\n", 1)[-1].split()) < _MIN_WORDS
    ):
        # Chinese and Japanese have no blanks between words; their commas are signs enough.
        return "the completion ends with a comma" if end.endswith(("、", "，")) and len(text) > _MIN_WORDS else ""
    last = end[-1] if _DANGLING.search(end[-4:]) else end.split()[-1]
    return f"the completion ends in the middle of a sentence, with {last!r}"


def _has_open_fence(text: str) -> bool:
    opened = ""
    for match in _FENCE.finditer(text):
        mark = match.group(1)
        if not opened:
            opened = mark
        elif mark[0] == opened[0] and len(mark) >= len(opened):
            opened = ""
    return bool(opened)


def _is_open_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        depth = 0
        for match in _JSON_MARK.finditer(text):
            mark = match.group()
            if mark == '"':
                return True
            if mark in "[{":
                depth += 1
            elif mark in "]}":
                depth -= 1
        return depth > 0
    return False
