"""Copies of records that redacting leaves alone: bad rows in quarantine, exported datasets, and what runs wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from curate.base.console import one_line
from curate.base.file_guard import open_file
from curate.base.record import CurateError, strings_of
from curate.jsonl import JsonFault, strict_loads

_QUARANTINE, _DATASETS, _RUNS = "quarantine", "dataset", "runs"
_TEXT = frozenset({".jsonl", ".json", ".csv", ".tsv", ".txt", ".md"})
_OF_RUNS = frozenset({"predictions.jsonl", "feedback.jsonl", "report.json"})


def folders_of_copies(root: Path) -> list[Path]:
    """Return the folders of a workspace that hold copies of records: each dataset and each run is one."""
    parts = [part for name in (_DATASETS, _RUNS) if (root / name).is_dir() for part in sorted((root / name).iterdir())]
    return [folder for folder in (root / _QUARANTINE, *parts) if folder.is_dir()]


def num_values(folder: Path, find: Callable[[str], Sequence[str]]) -> int:
    """Return how many values ``find`` finds in the files of text in ``folder``.

    Raises:
        CurateError: E904 when a file may not be read.
    """
    is_run = folder.parent.name == _RUNS
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    wanted = (path for path in files if (path.name in _OF_RUNS if is_run else path.suffix.lower() in _TEXT))
    return sum(len(find(text)) for path in wanted for text in _texts(path, folder))


def _texts(path: Path, folder: Path) -> Iterator[str]:
    """Yield the strings of a file, line by line; a line that is no JSON is one of them."""
    try:
        with open_file(path, folder) as file:
            for raw in file:
                try:
                    yield from strings_of(strict_loads(raw.removeprefix(b"\xef\xbb\xbf")))
                except JsonFault:
                    yield raw.decode("utf-8", "replace")
    except OSError as error:
        message = f"{one_line(str(path))} cannot be read: {error.strerror}"
        raise CurateError("E904 no-such-file", message, "It may hold values that were redacted elsewhere.") from error
