"""The merged model with a Modelfile whose template makes the text of the model's own, or no export at all.

Ollama reads Go templates and no Jinja, so a table takes the place of the Jinja template: what stands between two
neighbouring messages, by their roles, and what opens the answer. It is read off conversations that transformers has
rendered and holds nothing else. A template whose text depends on more than the roles of two neighbours has no such
table, and neither has one that changes a content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.base import console
from train.base.errors import TrainError
from train.data.dataset import Row
from train.data.rendering import Renderer, RowFault
from train.pipeline.export.models import stop_texts, write_merged
from train.pipeline.export.source import Source, Written

_INSTEAD = (
    "Use --to merged, then convert_hf_to_gguf.py of llama.cpp and `ollama create` on the GGUF, "
    "which carries the Jinja template."
)
_ROUNDS = [{"role": role, "content": f"{role} {number}"} for number in range(3) for role in ("user", "assistant")]
UNLIKE_THE_DATA = (_ROUNDS, [{"role": "system", "content": "rules"}, *_ROUNDS])
"""Conversations that a server sees though the data may have none of their length, or none with a system."""


def write(source: Source, work: Path, dtype: str) -> Written:
    """Fill ``work`` with model/ and a Modelfile.

    Raises TrainError: E905 cannot-express with the records whose text a Go template would not make.
    """
    template = go_template(source)
    stops = stop_texts(source)
    if odd := [stop for stop in stops if "\n" in stop or '"""' in stop]:
        raise TrainError("E905 cannot-express", f"a Modelfile cannot hold the stop {odd[0]!r}", _INSTEAD)
    (work / "model").mkdir()
    write_merged(source, work / "model", dtype)
    lines = [
        "FROM ./model",
        f'TEMPLATE """{template}"""',
        *(f'PARAMETER stop """{stop}"""' if '"' in stop else f'PARAMETER stop "{stop}"' for stop in stops),
        "PARAMETER temperature 0",
    ]
    (work / "Modelfile").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if source.renderer.encoder.is_adding_bos:
        console.talk("the Modelfile's template leaves the beginning-of-text token to Ollama, whose runner adds it")
    return Written(work / "model", "ollama create NAME -f FOLDER/Modelfile")


def go_template(source: Source) -> str:
    """Return the Go template that makes the prompt of every conversation of the dataset as the model's own does.

    A warning says where a longer conversation, or one with a system, would be rendered otherwise. Raises TrainError:
    E905 cannot-express.
    """
    table = _Table()
    faults: dict[str, list[str]] = {}
    for row in (row for rows in source.dataset.splits.values() for row in rows if row.messages):
        try:
            table.add(row, source.renderer)
        except (RowFault, _NoTableError) as fault:
            faults.setdefault(str(fault), []).append(row.id)
    if faults:
        reasons = "; ".join(
            f"{len(ids)} conversations: {reason}: {console.join_names(ids)}" for reason, ids in faults.items()
        )
        raise TrainError("E905 cannot-express", reasons, _INSTEAD)
    for messages in UNLIKE_THE_DATA:
        try:
            table.add(Row("", "", "", messages, None, None), source.renderer)
        except RowFault:
            # A template may refuse what nobody of the dataset had, and then no server sends it.
            continue
        except _NoTableError as fault:
            roles = ", ".join(message["role"] for message in messages[:-1])
            console.talk(f"warning: a conversation of {roles}, which the data has not, differs under Ollama: {fault}")
    return table.source()


class _NoTableError(ValueError):
    """A conversation that no table renders, or not the table of those before; the text says how."""


@dataclass
class _Table:
    """``before[a, b]`` is the text between a message of role a ("" at the beginning) and one of role b; ``opening[a]``
    stands after the last message, of role a, and opens the answer.
    """

    before: dict[tuple[str, str], str] = field(default_factory=dict)
    opening: dict[str, str] = field(default_factory=dict)

    def add(self, row: Row, renderer: Renderer) -> None:
        """Take in the prompt of one conversation as transformers renders it, less what Ollama's runner adds to it.

        Raises RowFault: the model's own template refuses the conversation. Raises _NoTableError: no table makes this
        prompt, or another one than makes those before.
        """
        located = renderer.locate(row)
        prompt_messages, text = located.messages[:-1], located.prompt
        if row.tools or any(message.get("tool_calls") for message in prompt_messages):
            raise _NoTableError("it has tools, which Ollama writes in its own way")
        bos = renderer.tokenizer.bos_token if renderer.encoder.is_adding_bos else ""
        position = len(bos) if text.startswith(bos) else 0
        last = ""
        for message, span in zip(prompt_messages, located.layout.contents, strict=False):
            role = message["role"]
            if role == last and role != "tool":
                raise _NoTableError(f"two messages of the {role} follow one another, which Ollama joins to one")
            if span is None or text[slice(*span)] != message["content"]:
                raise _NoTableError(f"the template changes what the {role} says, and Go has no words for it")
            _put(self.before, (last, role), text[position : span[0]])
            last, position = role, span[1]
        _put(self.opening, last, text[position:])

    def source(self) -> str:
        """Return the table in Go; every text is a quoted literal, so its white space is what it says."""
        return "\n".join([
            '{{- $last := "" }}{{ range .Messages }}',
            *_branches(
                (f"and (eq $last {_quoted(last)}) (eq .Role {_quoted(role)})", text)
                for (last, role), text in sorted(self.before.items())
            ),
            "{{- .Content }}{{ $last = .Role }}{{ end }}",
            *_branches((f"eq $last {_quoted(last)}", text) for last, text in sorted(self.opening.items())),
        ])  # fmt: skip


def _put(table: dict[Any, str], key: Any, text: str) -> None:
    if table.setdefault(key, text) != text:
        roles = " and ".join(key) if isinstance(key, tuple) else key
        raise _NoTableError(f"what the template writes at {roles} depends on more than the roles: {text[:80]!r}")


def _branches(cases: Iterable[tuple[str, str]]) -> list[str]:
    lines = [
        f"{{{{- {'else ' if number else ''}if {test} }}}}{{{{ {_quoted(text)} }}}}"
        for number, (test, text) in enumerate(cases)
    ]
    return [*lines, "{{- end }}"] if lines else []


def _quoted(text: str) -> str:
    # Return a string literal of Go, which reads JSON's escapes; three quotes never stand side by side in it.
    return json.dumps(text, ensure_ascii=False)
