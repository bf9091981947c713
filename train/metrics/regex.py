"""A pattern that an answer must match, for formats."""

from __future__ import annotations

import atexit
import json
import re
import select
import subprocess
import sys
import threading
import warnings

from train.metrics import Scores, metric

SECONDS = 1.0
"""The longest that one match may take."""

_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_PROGRAM = """
import json, re, sys
for line in sys.stdin:
    pattern, flags, text, whole = json.loads(line)
    found = (re.fullmatch if whole else re.search)(pattern, text, flags)
    sys.stdout.write("1\\n" if found else "0\\n")
    sys.stdout.flush()
"""


@metric(
    "regex",
    primary="match",
    cases=[
        ("2026-11-24", r"\d{4}-\d{2}-\d{2}", {"match": 1.0, "timeout": 0.0}),
        ("on 2026-11-24", r"\d{4}-\d{2}-\d{2}", {"match": 0.0, "timeout": 0.0}),
        ("on 2026-11-24", r"\d{4}-\d{2}-\d{2}", {"match": 1.0, "timeout": 0.0}, {"whole": False}),
        ("  yes \n", "", {"match": 1.0, "timeout": 0.0}, {"pattern": "yes|no"}),
        ("YES", "", {"match": 1.0, "timeout": 0.0}, {"pattern": "yes|no", "flags": "i"}),
        ("anything", "(", {}),
        ("anything", "", {}),
        ("a" * 64 + "!", r"(a+)+", {"match": 0.0, "timeout": 1.0}),
    ],
)
def regex(completion: str, reference: str, *, pattern: str = "", flags: str = "", whole: bool = True) -> Scores:
    """1 when the completion, trimmed, matches the pattern: as a whole, or with ``whole`` off anywhere in it.

    The pattern is the reference, or for the whole category the option; ``flags`` are letters of "imsx". Python's
    syntax. Matching runs in a child process that is stopped after a second, because a pattern with nested repeats
    can take longer than the universe has; such a match counts as none and is shown as ``timeout``. A reference that is
    empty or no pattern leaves the record unscored.
    """
    if set(flags) - set(_FLAGS):
        raise ValueError(f"flags must be letters of {''.join(_FLAGS)!r}, not {flags!r}")
    bits = 0
    for letter in flags:
        bits |= _FLAGS[letter]
    wanted = pattern or reference
    fault = _fault_of(wanted, bits)
    if fault and pattern:
        raise ValueError(f"{pattern!r} is not a pattern: {fault}")
    if fault or not wanted:
        return {}
    answer = _CHILD.matches(wanted, bits, completion.strip(), whole)
    return {"match": float(answer is True), "timeout": float(answer is None)}


def _fault_of(pattern: str, bits: int) -> str:
    try:
        # A warning about what a pattern may mean one day belongs to its author, and the report is not the place.
        with warnings.catch_warnings(action="ignore"):
            re.compile(pattern, bits)
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return ""


class _Child:
    """One child that matches patterns, started when it is first needed and again after one was stopped."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def matches(self, pattern: str, flags: int, text: str, whole: bool) -> bool | None:
        """Return whether ``text`` matches, or None when that took too long or ended the child."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            # JSON in ASCII: a completion may hold a lone surrogate, and a newline ends the question.
            process.stdin.write(json.dumps([pattern, flags, text, whole]).encode("ascii") + b"\n")
            process.stdin.flush()
            if not select.select([process.stdout], [], [], SECONDS)[0]:
                self._stop()
                return None
            answer = process.stdout.readline()
            return answer == b"1\n" if answer else None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-W", "ignore", "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            # The clock of the first match must not count the start of the interpreter.
            self._ask_ready()
        return self._process

    def _ask_ready(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b'["", 0, "", true]\n')
        self._process.stdin.flush()
        self._process.stdout.readline()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        """Stop the child, if there is one."""
        with self._lock:
            self._stop()


_CHILD = _Child()
atexit.register(_CHILD.close)
