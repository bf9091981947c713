"""Conversations with reasoning, and chat templates that write it always, once, after an open mark, or not at all."""

from __future__ import annotations

from typing import Any

from train.data.dataset import Row

_TURN = "{{ '<|im_start|>' + m.role + '\n' }}HERE{{ m.content + '<|im_end|>\n' }}"
_THOUGHT = "{{ '<think>\n' + (m.reasoning_content) + '\n</think>\n\n' }}"
_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_EACH = "{% for m in messages %}" + _TURN + "{% endfor %}"
ALWAYS = _EACH.replace("HERE", "{% if m.reasoning_content %}" + _THOUGHT + "{% endif %}") + _PROMPT
LAST = (
    "{% set at = namespace(asked=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set at.asked = loop.index0 %}"
    "{% endif %}{% endfor %}"
    + _EACH.replace("HERE", "{% if m.reasoning_content and loop.index0 > at.asked %}" + _THOUGHT + "{% endif %}")
    + _PROMPT
)
"""Writes what was thought after the last question, as Qwen3 does."""
OPEN = (
    _EACH.replace(
        "HERE", "{% if m.role == 'assistant' %}" + _THOUGHT.replace("g_content", "g_content or ''") + "{% endif %}"
    )
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
"""Its prompt has begun the reasoning, as that of DeepSeek-R1 has."""
RENAMED = ALWAYS.replace("reasoning_content", "thinking")
SWALLOWING = _EACH.replace("HERE", "") + _PROMPT
UNMARKED = ALWAYS.replace("<think>\n", "").replace("\n</think>\n\n", "\n")
"""Nothing tells where the reasoning ends."""


def thinking_row(record: str = "r1", *turns: tuple[str, str, str], **more: Any) -> Row:
    """Turns of a question, the reasoning ("" for none) and the answer."""
    messages: list[dict[str, Any]] = []
    for question, trace, answer in turns or (("2 + 3", "two and three", "5"),):
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if trace:
            messages[-1]["reasoning_content"] = trace
    return Row(record, "maths", record, messages, None, None, **more)


TWO_TURNS = ("who sat", "a cat, I think", "the cat"), ("who ran", "it was a dog", "the dog")
