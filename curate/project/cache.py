"""Where a workspace keeps finished stages of comparing its records, so that the next verb need not do it anew."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from curate.base.file_guard import inside
from curate.base.record import CurateError
from curate.base.storage import make_cache
from curate.similarity.dedupe.stages import Stages

STAGED_FROM = 32_000_000
"""Bytes of input from which finished stages are kept on the disk; below, starting anew takes a second."""
_FOLDER = ".curate"
_STAGES = Path(_FOLDER) / "cache" / "dedupe"


def stages_in(root: Path, num_bytes: int) -> Stages:
    """Return the stages kept in the workspace ``root``, for an input of so many bytes; git leaves them out.

    Raises:
        CurateError: E914 when their folder lies elsewhere: what is old in it is removed.
    """
    if num_bytes < STAGED_FROM:
        return Stages()
    inside(root, root / _STAGES)
    # Where nothing can be written, the stages say so themselves.
    with suppress(CurateError):
        make_cache(root / _FOLDER)
    stages = Stages(root / _STAGES)
    stages.sweep()
    return stages
