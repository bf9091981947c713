"""How git will merge which files: its own answer, because lines of several files of attributes bear on one path."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from curate.git import stream_git
from curate.merge.git import ask_git, refusals_told


def merge_answers(folder: Path, globs: Sequence[str]) -> dict[str, str]:
    """Return what git says of "merge" for the files in ``folder`` that ``globs`` mean, and for one that may yet come.

    Paths are told from ``folder`` on.

    Raises:
        CurateError: E966 when git is not there, refuses, or needs too long.
    """
    # As in attributes, a glob without a slash is for files in any folder.
    wanted = [f":(glob){glob}" if "/" in glob else f":(glob)**/{glob}" for glob in globs]
    listed = ask_git(folder, ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *wanted])
    paths = [*filter(None, listed.split(b"\0")), *(os.fsencode(_example(glob)) for glob in globs if "[" not in glob)]
    given = b"".join(path + b"\0" for path in dict.fromkeys(paths))
    with refusals_told(folder), stream_git(folder, ["check-attr", "-z", "--stdin", "merge"], given) as answer:
        told = os.fsdecode(answer.read()).split("\0")
    return dict(zip(told[::3], told[2::3], strict=False))


def _example(glob: str) -> str:
    """Return the path of a file that ``glob`` means."""
    return re.sub(r"\*\*/", "", glob).replace("*", "any").replace("?", "a")
