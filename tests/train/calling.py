"""Records with tools, calls and reasoning, and chat templates that write them as the known families of models do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.train.tiny import CHATML_WITHOUT_MARKS, make_model, make_tokenizer
from train.data.dataset import Row

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Says how the weather is.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The town to look at."},
                "days": {"type": "integer"},
            },
            "required": ["city"],
        },
    },
}
ARGUMENTS = {"city": 'Zürich "HB"', "days": 3, "exact": True, "unit": None, "tags": ["<b>", "it's"], "more": {"a": 0.5}}
RESULT = '{"sky": "clear",\n "degrees": 21}'
_OPEN, _CLOSE = "{{ '<|im_start|>' + m.role + '\n' }}", "{{ '<|im_end|>\n' }}"
_ASKED = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def call(name: str = "get_weather", arguments: Any = ARGUMENTS) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


def calling_row(
    record: str = "r1", *, calls: Any = None, ends: bool = True, tools: Any = (WEATHER,), **more: Any
) -> Row:
    """A question answered by a call; unless ``ends`` there, its result and an answer in words follow."""
    answer = {"role": "assistant", "content": None, "tool_calls": calls or [call()]} | more
    messages: list[dict[str, Any]] = [{"role": "user", "content": "how is the weather"}, answer]
    if not ends:
        messages += [{"role": "tool", "content": RESULT}, {"role": "assistant", "content": "the sky is clear"}]
    return Row(record, "calls", record, messages, list(tools) if tools else None, None)


def _chatml(tools: str = "", calls: str = "", result: str = "{{ m.content }}", before: str = "") -> str:
    head = f"{{% if tools %}}{{{{ '<|im_start|>system\n' }}}}{tools}{_CLOSE}{{% endif %}}" if tools else ""
    told = f"{{% for t in m.tool_calls or [] %}}{{% set f = t.function %}}{calls}{{% endfor %}}" if calls else ""
    says = f"{{% if m.role == 'tool' %}}{result}{{% else %}}{before}{{{{ m.content }}}}{told}{{% endif %}}"
    return f"{head}{{% for m in messages %}}{_OPEN}{says}{_CLOSE}{{% endfor %}}{_ASKED}"


_JSON_TOOLS = "{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
_TYPED = (
    "namespace functions {% for t in tools %}type {{ t.function.name }} = (_: { {% for k, v in "
    "t.function.parameters.properties.items() %}{{ k }}{{ '' if k in t.function.parameters.required else '?' }}: "
    "{{ v.type }}, {% endfor %} }) => any; {% endfor %}"
)
_HERMES = """<tool_call>
{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson }}}
</tool_call>"""
_XML = (
    "<tool_call>\n<function={{ f.name }}>\n{% for k, v in f.arguments.items() %}<parameter={{ k }}>\n"
    "{{ v | tojson if v is mapping or (v is sequence and v is not string) else v | string }}\n</parameter>\n"
    "{% endfor %}"
    "</function>\n</tool_call>"
)
TEMPLATES = {
    "hermes": _chatml(_JSON_TOOLS, _HERMES),
    "arguments as a string of JSON": _chatml(
        "{{ tools | tojson(indent=4) }}",
        """{"name": "{{ f.name }}", "arguments": {{ f.arguments | tojson | tojson }}}""",
    ),
    "llama": _chatml(
        _JSON_TOOLS,
        """{"name": "{{ f.name }}", "parameters": {{ f.arguments | tojson }}}""",
        "{{ m.content | tojson }}",
    ),
    "xml": _chatml(_JSON_TOOLS, _XML),
    "ascii, and printed by python": _chatml("{{ tools }}", "{{ f.name }}({{ f.arguments }})"),
    "typed signatures": _chatml(_TYPED, _HERMES),
    "ascii": _chatml(_JSON_TOOLS, "{{ f.name }}{{ f.arguments | tojson(ensure_ascii=true, separators=(',', ':')) }}"),
    "html": _chatml(
        _JSON_TOOLS, "{{ f.name }} {% for k, v in f.arguments.items() %}{{ k }}={{ v | string | e }} {% endfor %}"
    ),
}
"""Templates that hold all of a record with calls."""
DROPPING = {
    "has no place for tools and tool_calls": CHATML_WITHOUT_MARKS,
    "has no place for tool_calls": _chatml(_JSON_TOOLS),
    "has no place for tools": _chatml("", _HERMES),
    "drops arguments of tool_calls": _chatml(_JSON_TOOLS, "{{ f.name }}"),
    "drops names of tool_calls": _chatml(_JSON_TOOLS, "{{ f.arguments | tojson }}"),
    "drops parameters of tools": _chatml("{% for t in tools %}{{ t.function.name }}{% endfor %}", _HERMES),
}
"""Templates that drop something, by what they are said to drop."""
FALSY = _chatml(
    _JSON_TOOLS,
    "{{ f.name }} {% for k, v in f.arguments.items() %}{% if v %}{{ k }}={{ v | tojson }} {% endif %}{% endfor %}",
)
"""Writes no argument that is false, none or zero."""
NO_RESULTS = (
    "{% for m in messages %}{% if m.role != 'tool' %}" + _OPEN + "{{ m.content }}{% for t in m.tool_calls or [] %}"
    "{{ t | tojson }}{% endfor %}" + _CLOSE + "{% endif %}{% endfor %}{{ tools | tojson if tools }}" + _ASKED
)
THINKING = _chatml(
    _JSON_TOOLS,
    _HERMES,
    before="{% if m.reasoning_content and loop.last %}<think>\n{{ m.reasoning_content | trim }}\n</think>\n\n"
    "{% endif %}",
)
"""Writes the reasoning of the last turn alone, as Qwen3 does."""


def save_base(folder: Path, template: str) -> Path:
    """A tiny base with this chat template."""
    tokenizer = make_tokenizer("unmarked")
    tokenizer.chat_template = template
    make_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
