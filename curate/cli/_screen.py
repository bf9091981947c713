"""Opening the terminal UI at one of its screens, where there is a terminal for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, NoReturn


def has_screen() -> bool:
    """Whether there is a terminal that the terminal UI can draw on."""
    return sys.stdin.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


def show(root: Path, by: str, name: str, **what: Any) -> NoReturn:
    """Run the terminal UI on the workspace in ``root``, beginning at the screen called ``name``; it ends the process.

    Raises:
        CurateError: E901 when the folder is no workspace, E902 and E903 for its settings and schema.
    """
    from curate.project.project import open_project
    from curate.tui.app import CurateApp
    from curate.tui.terminal import leave, run

    app = CurateApp(root, project=open_project(root, by), by=by)
    app.call_later(app.go, name, **what)
    leave(run(app))
    raise AssertionError("the process has ended")
