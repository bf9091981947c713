"""A colleague who folds a workspace elsewhere."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from curate.project.compact import fold_journal
from curate.project.data import load_data
from curate.project.journal import FOLDER


def fold_elsewhere(root: Path) -> None:
    """Have a colleague fold what has been pushed, and pull that: nobody here is asked."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "ws"
        shutil.copytree(root, there)
        fold_journal(load_data(there))
        for path in (root / FOLDER).rglob("*.log"):
            if not (there / path.relative_to(root)).exists():
                path.unlink()
        shutil.copytree(there, root, dirs_exist_ok=True)
