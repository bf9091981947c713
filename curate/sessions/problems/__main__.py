"""The process in which a job on all records is done."""

from __future__ import annotations

import os
import sys

from curate.base.garbage import collect_rarely
from curate.sessions.problems.search import run_job

if __name__ == "__main__":
    collect_rarely()
    # What anything else might print must not stand between the answers.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        run_job(sys.stdin.buffer, answers)
