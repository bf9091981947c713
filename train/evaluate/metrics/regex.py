"""A pattern that an answer must match, for formats."""

from __future__ import annotations

import re

from train.base.worker import Worker
from train.evaluate.metrics import Scores, metric, pattern_fault

SECONDS = 1.0
"""The longest that one match may take."""

_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_PROGRAM = """
import json, re, sys
for line in sys.stdin:
    pattern, flags, text, whole = json.loads(line)
    match = (re.fullmatch if whole else re.search)(pattern, text, flags)
    sys.stdout.write("true\\n" if match else "false\\n")
    sys.stdout.flush()
"""
_CHILD = Worker(["-S", "-c", _PROGRAM], greeting=["", 0, "", True], seconds=SECONDS)


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
    wanted = pattern or (reference if reference.strip() else "")
    fault = pattern_fault(wanted, bits)
    if fault and pattern:
        raise ValueError(f"{pattern!r} is not a pattern: {fault}")
    if fault or not wanted:
        return {}
    answer = _CHILD.ask([wanted, bits, completion.strip(), whole])
    return {"match": float(answer is True), "timeout": float(answer is None)}
