"""Answers that are not there, repeat the question, or are too long."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curate.base.record import Problem, Record, normalised
from curate.checks import AnswerTurn, check, is_blank, messages_pointer, texts, turns
from curate.schema.settings import Settings

# Shorter prompts are repeated by chance, e.g. a greeting answered by a greeting.
_ECHO_FROM = 20
_ASKS_FOR_ECHO = re.compile(
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
