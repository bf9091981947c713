"""Folders of the Hugging Face kind: saved with `save_to_disk`, or laid out as on the hub with data/*.parquet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.importers import Rejected, Row, container
from curate.importers._fields import SPLIT_NAMES
from curate.importers._values import jsonable
from curate.importers.parquet import rows as parquet_rows
from curate.record import CurateError, missing_extra

_SPLIT = re.compile(r"(?:^|[^a-z])(train|validation|valid|val|dev|test)(?:[^a-z]|$)")


def _fits(path: Path, _head: bytes) -> bool:
    return path.is_dir()


@container("hf", fits=_fits, priority=2)
def rows(path: Path) -> Iterator[Row | Rejected]:
    """A saved `datasets` folder or a hub folder of Parquet files; the split is taken from the name of its part."""
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        yield from _saved(path)
        return
    files = sorted(path.glob("**/*.parquet"))
    if not files:
        raise CurateError(
            "E908 cannot-import",
            f"{path}: a folder without dataset_dict.json, state.json or Parquet files",
            "Name the files themselves, a folder made by save_to_disk, or one with data/*.parquet.",
        )
    number = 0
    for file in files:
        split = _split_of(str(file.relative_to(path)))
        for row in parquet_rows(file):
            number += 1
            yield (
                Row(row.value, number, row.raw, split)
                if isinstance(row, Row)
                else Rejected(number, row.code, f"{file.name}: {row.reason}", row.raw)
            )


def _split_of(name: str) -> str:
    found = _SPLIT.search(name.lower())
    return SPLIT_NAMES[found.group(1)] if found else ""


def _saved(path: Path) -> Iterator[Row | Rejected]:
    try:
        # Arrow files are read by the library that wrote them; it is an extra, and slow to import.
        import datasets
    except ImportError as error:
        raise missing_extra(f"{path}: reading a saved `datasets` folder", "hub") from error
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise CurateError(
            "E908 cannot-import", f"{path}: {error}", "Save the folder again with save_to_disk."
        ) from error
    number = 0
    for name, part in loaded.items() if isinstance(loaded, dict) else [("", loaded)]:
        split = _split_of(name)
        names = {column: feature.names for column, feature in part.features.items() if hasattr(feature, "names")}
        for values in part:
            number += 1
            yield jsonable(_named(values, names), number, split)


def _named(values: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    """Return ``values`` with the numbers of class labels replaced by the names that the folder gives them."""
    return {
        column: names[column][value]
        if column in names and isinstance(value, int) and 0 <= value < len(names[column])
        else value
        for column, value in values.items()
    }
