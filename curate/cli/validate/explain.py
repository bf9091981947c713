"""A second opinion on broken lines, from another engine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.base import console
from curate.base.record import Finding

if TYPE_CHECKING:
    from curate.cli.validate.inputs import Inputs
    from curate.schema import Shape

_SECONDS = 2.0
_NUM_LINES = 20


def explain(shape: Shape, inputs: Inputs, findings: Sequence[Finding]) -> None:
    """Tell what the jsonschema library says of the first lines that break the schema, each within two seconds.

    Its patterns are Python's and may never end; a signal stops them, because the matcher looks for signals.
    """
    import signal

    from curate.checks.runner import raw_lines
    from curate.jsonl import strict_loads

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError

    broken = [finding for finding in findings if finding.code == "S102"][:_NUM_LINES]
    before = signal.signal(signal.SIGALRM, stop)
    try:
        for (file, number), raw in raw_lines(inputs.files, broken, root=inputs.folder).items():
            console.talk(f"{console.visible(inputs.named(file))}:{number}: jsonschema says")
            signal.setitimer(signal.ITIMER_REAL, _SECONDS)
            try:
                messages = shape.explain(strict_loads(raw))
            except (TimeoutError, RecursionError, re.error) as error:
                messages = [f"no answer: {type(error).__name__}"]
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for line in messages or ["nothing is wrong; the engines disagree"]:
                console.talk(f"  {line}")
    finally:
        signal.signal(signal.SIGALRM, before)
