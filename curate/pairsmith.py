"""The umbrella command: `pairsmith curate ...` and `pairsmith train ...`, for shells that already have a `train`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from curate.base import console
from curate.base.record import Exit
from curate.base.resources import python_command


def main() -> NoReturn:
    """Hand the rest of the command line to `curate` or `train`; they never import one another."""
    if len(sys.argv) > 1 and sys.argv[1] in ("curate", "train"):
        os.execv(sys.executable, python_command("-m", *sys.argv[1:]))  # noqa: S606  no shell is wanted
    console.talk("Usage: pairsmith curate ... | pairsmith train ...\n\nExample: pairsmith curate validate my-data")
    sys.exit(Exit.OK if sys.argv[1:] in ([], ["--help"], ["-h"]) else Exit.USAGE)
