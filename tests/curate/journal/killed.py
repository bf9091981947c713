"""A server that starts people who decide and fold, and has the kernel kill each at a system call of our choice.

It reads a request a line from stdin: {"root", "seed", "call", "when"}; the person is killed at the when-th call of that
name. It answers with what the person was told: {"saved": [[event, ...], ...], "is_killed"}. Everything is
imported once, and each person is a fork: a thousand of them start in the time that a hundred interpreters need.

With "call": "" the person lives, and the answer has the number of calls by name. An argument names a mistake to make.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from mistakes import plant
from people import Opener, Person

CALLS = (
    "write", "fsync", "rename", "ftruncate", "close", "openat", "link", "linkat", "unlink", "unlinkat", "mkdir",
    "flock",
)  # fmt: skip
_ANYBODY = -1
_SET_PTRACER = 0x59616D61


def live(root: Path, seed: int, go: int, told: int) -> None:
    """Decide and fold as somebody who says through the pipe ``told`` what was saved."""
    # A tracer that is no ancestor needs to be let in.
    ctypes.CDLL(None).prctl(_SET_PTRACER, ctypes.c_ulong(_ANYBODY), 0, 0, 0)
    os.read(go, 1)
    chance = random.Random(seed)

    def ack(note: tuple) -> None:
        if note[0] == "saved":
            os.write(told, json.dumps([event.event for event in note[1]]).encode() + b"\n")

    person = Person(root, Opener(root), ack)
    for number in range(4):
        meanwhile = person.fold if chance.random() < 0.3 else None
        person.sit(chance.randint(1, 3), chance.choice(["ana", "bo"]), meanwhile)
        if number % 2 or chance.random() < 0.3:
            person.fold()


def run(root: str, seed: int, call: str, when: int) -> dict:
    go, told = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told[0])
        try:
            live(Path(root), seed, go[0], told[1])
        finally:
            os._exit(0)
    os.close(told[1])
    trace = f"{root}.trace"
    how = ["-e", f"inject={call}:signal=KILL:when={when}"] if call else []
    calls = ",".join(f"?{name}" for name in CALLS)
    command = [
        "strace",
        "-f",
        "-p",
        str(child),
        "-o",
        "/dev/null" if call else trace,
        "-e",
        f"trace={call or calls}",
        *how,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        first = tracer.stderr.readline()
        if "attached" not in first:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"error": first}
        os.write(go[1], b"x")
        with os.fdopen(told[0], "rb") as pipe:
            lines = pipe.read().splitlines(keepends=True)
        _, status = os.waitpid(child, 0)
        tracer.stderr.read()
    os.close(go[0])
    os.close(go[1])
    saved = [json.loads(line) for line in lines if line.endswith(b"\n")]
    answer: dict = {"saved": saved, "is_killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL}
    if not call:
        names = re.findall(r"^\d+ +(\w+)\(", Path(trace).read_text(encoding="utf-8"), re.MULTILINE)
        answer["calls"] = dict(Counter(names))
        Path(trace).unlink()
    return answer


if __name__ == "__main__":
    if sys.argv[1:]:
        plant(sys.argv[1])
    for request in sys.stdin:
        print(json.dumps(run(**json.loads(request))), flush=True)  # noqa: T201
