"""The process in which a model learns from answers; see `curate.project.labels`."""

from __future__ import annotations

import os
import sys

from curate.project.labels import serve

if __name__ == "__main__":
    # One thread: the model must not take from the annotator's program what it cannot use itself.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    # What anything else might print must not stand between the answers.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)
