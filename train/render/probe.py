"""Try an unknown chat template in a child process, once per template and process, before it runs in ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from train.errors import TrainError
from train.render import template as template_module
from train.render.template import CHILD_SECONDS, ChatTemplate

_ASKED = {"role": "user", "content": "probe question"}
_ANSWERED = {"role": "assistant", "content": "probe answer"}
_TOLD = {"role": "system", "content": "probe system"}
_PROBES: list[tuple[list[dict[str, Any]], bool]] = [
    ([_ASKED, _ANSWERED], False),
    ([_ASKED], True),
    ([_TOLD, _ASKED, _ANSWERED], False),
    ([_ASKED, _ANSWERED, _ASKED, _ANSWERED], False),
]


def safe_template(source: str, tokens: Mapping[str, str]) -> ChatTemplate:
    """Return the compiled template after a child rendered short conversations with it and lived.

    Raises TrainError "E922 bad-template" where it breaks out, fails, takes over 5 s or too much memory, or leaves out
    what a user or the assistant said.
    """
    _probe(source, tuple(sorted(tokens.items())))
    return ChatTemplate(source, tokens)


@lru_cache(maxsize=64)
def _probe(source: str, tokens: tuple[tuple[str, str], ...]) -> None:
    request = {"template": source, "tokens": dict(tokens), "conversations": _PROBES}
    try:
        done = subprocess.run(
            [sys.executable, "-I", template_module.__file__], input=json.dumps(request), capture_output=True, text=True,
            timeout=2 * CHILD_SECONDS, check=False, env={},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _bad(f"it needs more than {CHILD_SECONDS} seconds for a short conversation") from None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"the child ended with {done.returncode}"]
        raise _bad(f"it ended the process that rendered it ({last[0][:200]})")
    answer = json.loads(done.stdout)
    if "fault" in answer:
        raise _bad(str(answer["fault"]))
    first = answer["texts"][0]
    if first is None:
        raise _bad("it refuses the conversation of one question and one answer")
    for message in (_ASKED, _ANSWERED):
        if message["content"] not in first:
            raise _bad(f"it leaves out what the {message['role']} says")
    if first.index(_ASKED["content"]) > first.index(_ANSWERED["content"]):
        raise _bad("it changes the order of the messages")


def _bad(what: str) -> TrainError:
    return TrainError(
        "E922 bad-template", f"the chat template of the base model is refused: {what}",
        "mend chat_template in the model's folder, or take another base",
    )  # fmt: skip
