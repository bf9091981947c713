"""Answers in which an assistant refuses, or speaks of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from curate.base.record import Problem, Record
from curate.checks import check, turns
from curate.schema.settings import Settings

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
_REFUSES = re.compile(
    rf"\A\W*{_SORRY}?[^.!?\n]{{0,60}}?[,.;:]?\s*(?:but |that )?\bI ?{_CANNOT} (?:be able to )?{_VERBS}\b", re.I
)
_MODEL = r"(?:artificial intelligence|AI|large language model|language model)"
_ITSELF = re.compile(
    rf"\bas an? {_MODEL}\b(?: \w+){{0,3}}?,? I(?:['’]m| am|['’]ve|['’]d|\b)"
    rf"|\bI(?:['’]m| am)(?: just| only| simply| merely)? an? {_MODEL}\b"
    r"|\bI(?:['’]m| am) (?:ChatGPT|Claude|Gemini|Bard|Copilot|LLaMA|Qwen|DeepSeek)\b"
    r"|\bI(?: was|['’]m| am|['’]ve been| have been) (?:trained|developed|created|made|built) by "
    r"(?:OpenAI|Anthropic|Google|Meta|Microsoft|Alibaba|Mistral|DeepSeek)\b"
    r"|\bmy (?:knowledge cutoff|training data (?:only )?(?:goes|includes|ends|extends))",
    re.I,
)
_HEAD = 400
# A first look with plain substrings, which is ten times faster than the patterns.
_SIGNS_OF_REFUSAL = (
    "cannot", "can't", "can’t", "can not", "unable", "not able", "won't", "won’t", "will not", "decline",
)  # fmt: skip
_SIGNS_OF_ITSELF = (
    "an ai", "a language", "a large language", "artificial intel", "chatgpt", "claude", "gemini", "bard", "copilot",
    "llama", "qwen", "deepseek", "trained by", "developed by", "created by", "made by", "built by", "knowledge cutoff",
    "training data",
)  # fmt: skip


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
        lower, head = turn.completion.lower(), turn.completion[:_HEAD]
        if any(sign in lower for sign in _SIGNS_OF_ITSELF) and _ITSELF.search(turn.completion):
            yield Problem("the completion speaks of itself as an AI model", turn.pointer)
        elif any(sign in lower for sign in _SIGNS_OF_REFUSAL) and _REFUSES.match(head):
            yield Problem("the completion refuses the task", turn.pointer)
