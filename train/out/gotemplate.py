"""A chat template in Go's template language, for Ollama: what stands between two messages, by their roles.

It is learned from rendered conversations, so nothing of the Jinja source is read. A template whose text depends on more
than the roles of two neighbours has no such form, and neither has one that changes a content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from train.render import Located

_START = ""


class NotGoError(ValueError):
    """A conversation that the Go form would render otherwise; the text says how."""


@dataclass
class GoTemplate:
    """``before[a, b]`` is the text between a message of role a ("" at the beginning) and one of role b; ``opening[a]``
    stands after the last message, of role a, and opens the answer.
    """

    before: dict[tuple[str, str], str] = field(default_factory=dict)
    opening: dict[str, str] = field(default_factory=dict)

    def learn(self, located: Located, tools: Any, *, bos: str = "") -> None:
        """Take in the prompt of one conversation; ``bos`` at its beginning is left out, as Ollama's runner adds it.

        Raises:
            NotGoError: this conversation has no Go form, or another one than the conversations before.
        """
        asked, text = located.messages[:-1], located.prompt
        if tools or any(message.get("tool_calls") for message in asked):
            raise NotGoError("it has tools, which Ollama writes in its own way")
        last, position = _START, len(bos)
        for message, place in zip(asked, located.layout.contents, strict=False):
            role = message["role"]
            if role == last and role != "tool":
                raise NotGoError(f"two messages of the {role} follow one another, which Ollama joins to one")
            if place is None or text[slice(*place)] != message["content"]:
                raise NotGoError(f"the template changes what the {role} says, and Go has no words for it")
            _put(self.before, (last, role), text[position : place[0]])
            last, position = role, place[1]
        _put(self.opening, last, text[position:])

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Return what Ollama would make of ``messages``."""
        last, parts = _START, []
        for message in messages:
            parts += [self.before[last, message["role"]], message["content"]]
            last = message["role"]
        return "".join([*parts, self.opening[last]])

    def source(self) -> str:
        """Return the template in Go; every text is a quoted literal, so its white space is what it says."""
        lines = ['{{- $last := "" }}{{ range .Messages }}']
        lines += _branches(
            (f"and (eq $last {quoted(last)}) (eq .Role {quoted(role)})", text)
            for (last, role), text in sorted(self.before.items())
        )
        lines.append("{{- .Content }}{{ $last = .Role }}{{ end }}")
        lines += _branches((f"eq $last {quoted(last)}", text) for last, text in sorted(self.opening.items()))
        return "\n".join(lines)


def quoted(text: str) -> str:
    """Return ``text`` as a string literal of Go that holds no quote and no control character."""
    made = []
    for character in text:
        code = ord(character)
        if character == "\n":
            made.append("\\n")
        elif character in '"\\' or code < 32 or 127 <= code < 160:
            made.append(f"\\u{code:04x}")
        else:
            made.append(character)
    return f'"{"".join(made)}"'


def _put(table: dict[Any, str], key: Any, text: str) -> None:
    if table.setdefault(key, text) != text:
        roles = " and ".join(key) if isinstance(key, tuple) else key
        raise NotGoError(f"what the template writes at {roles} depends on more than the roles: {text[:80]!r}")


def _branches(cases: Iterable[tuple[str, str]]) -> list[str]:
    lines = [
        f"{{{{- {'else ' if number else ''}if {test} }}}}{{{{ {quoted(text)} }}}}"
        for number, (test, text) in enumerate(cases)
    ]
    return [*lines, "{{- end }}"] if lines else []


def conversations() -> Iterable[list[dict[str, str]]]:
    """Yield conversations that a server will see though the data may have none like them: with a system and longer."""
    turns = [("user", "question"), ("assistant", "answer")] * 3
    for head in ([], [("system", "rules")]):
        for size in (2, 4, 6):
            yield [{"role": role, "content": f"{text} {n}"} for n, (role, text) in enumerate([*head, *turns[:size]])]
