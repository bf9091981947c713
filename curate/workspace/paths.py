"""Which paths belong to a workspace: nothing is read or written outside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curate.record import CurateError


def inside(root: Path, path: Path) -> Path:
    """Return ``path`` after making sure that it, with every link followed, lies inside ``root``.

    Raises:
        CurateError: E914 when it does not.
    """
    # What is no path at all, with a NUL or a loop of links in it, leads nowhere.
    try:
        place = path.resolve()
    except (ValueError, RuntimeError, OSError) as error:
        raise CurateError("E914 outside-workspace", f"{path} is no path: {error}", "Name what is there.") from error
    if not place.is_relative_to(root.resolve()):
        raise CurateError(
            "E914 outside-workspace",
            f"{path} leads to {place}, outside the workspace {root}",
            "Copy the files into the workspace, or import them with `curate import`.",
        )
    return path


def data_files(root: Path, globs: Sequence[str], setting: str = "data") -> list[Path]:
    """Return the files that ``globs`` of a setting match below ``root``, each once, sorted.

    Raises:
        CurateError: E914 when a glob or a link leads outside ``root``.
    """
    found: set[Path] = set()
    for pattern in globs:
        parts = Path(pattern).parts
        if Path(pattern).is_absolute() or ".." in parts or not parts:
            raise CurateError(
                "E914 outside-workspace",
                f"{setting}: {pattern!r} leads outside the workspace {root}",
                'Write globs from the workspace down, like "data/*.jsonl".',
            )
        found.update(path for path in root.glob(pattern) if not path.is_dir())
    return [inside(root, path) for path in sorted(found)]
