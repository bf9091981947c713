"""Ways to begin in a folder that is no workspace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.schema.settings import FILE_NAME

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_MOST_FILES = 5
_MOST_FOLDERS = 3


@dataclass(frozen=True)
class Offer:
    """One way to begin: open the workspace ``source``, make one in ``target`` from it, or ask for a path."""

    kind: Literal["open", "make", "sample", "new", "ask"]
    text: str
    source: Path | None = None
    target: Path | None = None


def offers(root: Path) -> list[Offer]:
    """Return the ways to begin in ``root``: what lies there first, then what is always possible."""
    inside = sorted(root.iterdir())
    workspaces = [path for path in inside if (path / FILE_NAME).is_file()]
    files = [path for path in inside if path.suffix in SUFFIXES and path.is_file()]
    is_empty = not [path for path in inside if path.name != ".git"]
    return [
        *(Offer("open", f"open the workspace {path.name}", path) for path in workspaces[:_MOST_FOLDERS]),
        *(
            Offer("make", f"make a workspace from {path.name} ({_size(path)})", path, free(root / path.stem))
            for path in files[:_MOST_FILES]
        ),
        Offer("ask", "open a workspace, or make one from a file, somewhere else"),
        Offer("sample", "load the samples: a tour of 1,140 records", target=root if is_empty else free(root / "tour")),
        Offer("new", "make an empty workspace", target=root if is_empty else free(root / "my-data")),
    ]


def free(folder: Path) -> Path:
    """Return ``folder``, or the first of its names with a number that is not taken."""
    number, candidate = 1, folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def offer_for(typed: str, root: Path) -> Offer | None:
    """Return what to do about a path that was typed; None where there is nothing at it."""
    path = (root / Path(typed.strip()).expanduser()) if typed.strip() else root / "\0"
    if "\0" in str(path):
        return None
    if (path / FILE_NAME).is_file():
        return Offer("open", "", path)
    return Offer("make", "", path, free(root / path.stem)) if path.is_file() else None


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:,.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
