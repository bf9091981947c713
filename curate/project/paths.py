"""Which paths belong to a workspace: nothing is read or written outside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curate.base.file_guard import inside
from curate.base.record import CurateError

GOLDEN = "golden.json"
"""The frozen test set of a workspace."""


def data_files(root: Path, globs: Sequence[str], setting: str = "data") -> list[Path]:
    """Return the files that ``globs`` of a setting match below ``root``, each once, sorted.

    Raises:
        CurateError: E914 when a glob or a link leads outside ``root``.
    """
    paths: set[Path] = set()
    for pattern in globs:
        parts = Path(pattern).parts
        if Path(pattern).is_absolute() or ".." in parts or not parts:
            raise CurateError(
                "E914 outside-workspace",
                f"{setting}: {pattern!r} leads outside the workspace {root}",
                'Write globs from the workspace down, like "data/*.jsonl".',
            )
        paths.update(path for path in root.glob(pattern) if not path.is_dir())
    return [inside(root, path) for path in sorted(paths)]
