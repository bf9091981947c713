"""Folders: saved with `save_to_disk`, laid out as on the hub with data/*.parquet, or a dataset of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from curate.base.record import SPLITS, missing_extra
from curate.formats.importers import Rejected, Rows, SourceRow, cannot_import, container, head_of, jsonable
from curate.formats.importers._reading import split_of
from curate.formats.importers.columnar import arrow_rows, parquet_rows
from curate.formats.importers.json_files import line_rows


def _fits(path: Path, _head: bytes) -> bool:
    # A folder of documents may lie beside a README, as a folder of the hub does.
    marks = ("manifest.json", "dataset_dict.json", "state.json")
    is_marked = any((path / name).exists() for name in marks)
    return path.is_dir() and (is_marked or any(next(path.glob(name), None) for name in ("**/*.parquet", "*.arrow")))


@container("hf", fits=_fits, priority=2)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """A saved `datasets` folder, one of Parquet or Arrow files, or `dataset/vN`; the split is the name of the part."""
    # A dataset of ours comes first: its folder holds JSON lines, and may lie beside Parquet files.
    parts = [part for split in SPLITS if (part := path / f"{split}.jsonl").is_file()]
    if parts and (path / "manifest.json").is_file():
        yield from _parts(path, parts, line_rows)
        return
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        yield from _saved(path)
        return
    files = sorted(path.glob("**/*.parquet"))
    yield from _parts(path, files, parquet_rows) if files else _parts(path, sorted(path.glob("*.arrow")), arrow_rows)


def _parts(path: Path, files: Sequence[Path], rows_of: Rows) -> Iterator[SourceRow | Rejected]:
    """Yield the rows of several files one after the other, counted through, each with the split of its file."""
    number = 0
    for file in files:
        # A library would wait for a pipe.
        head_of(file)
        split = split_of(str(file.relative_to(path)))
        for row in rows_of(file):
            number += 1
            if isinstance(row, SourceRow):
                yield SourceRow(row.value, number, row.raw, split)
            else:
                yield Rejected(number, row.code, f"{file.name}: {row.reason}", row.raw)


def _saved(path: Path) -> Iterator[SourceRow | Rejected]:
    try:
        # Arrow files are read by the library that wrote them; it is an extra, and slow to import.
        import datasets
    except ImportError as error:
        raise missing_extra(f"{path}: reading a saved `datasets` folder", "hub") from error
    # The library would wait for a pipe, and not even SIGTERM would end that.
    for file in path.rglob("*"):
        if not file.is_dir():
            head_of(file)
    try:
        loaded = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise cannot_import(f"{path}: {error}", "Save the folder again with save_to_disk.") from error
    number = 0
    for name, part in loaded.items() if isinstance(loaded, dict) else [("", loaded)]:
        split = split_of(name)
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
