"""Foreign files into a workspace: each becomes one file of records, and its bad rows one file in quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import orjson

from curate.base.console import spelled
from curate.base.file_guard import open_file
from curate.base.record import CurateError
from curate.base.storage import write_atomic
from curate.formats.importers import (
    EVERYTHING,
    Imported,
    ImportPlan,
    Rejected,
    RowSelection,
    ShapeView,
    convert,
    plan_import,
)
from curate.schema import load_shape

DATA_FOLDER = "data"
QUARANTINE_FOLDER = "quarantine"


@dataclass(slots=True)
class Intake:
    """What became of one file: ``target`` and ``quarantine`` are the files written (or that would be, on a dry run).

    ``num_records`` counts the good rows, ``rejected`` holds the bad ones, ``left_out`` counts those that the user's
    conditions do not take, by condition; ``moved`` counts the fields that went to ``meta.extra``, and ``num_joined``
    the records of whose messages some were in several parts of text. ``is_unchanged`` says that the target already was
    what it should be.
    """

    plan: ImportPlan
    target: Path
    quarantine: Path
    num_records: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    is_unchanged: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    num_joined: int = 0

    @property
    def reasons(self) -> Counter[str]:
        """How many rows were put in quarantine for each code."""
        return Counter(row.code for row in self.rejected)


def take_in(
    path: Path,
    root: Path,
    shape: ShapeView,
    *,
    format_name: str = "",
    mapping: Mapping[str, str] | None = None,
    category: str = "",
    selection: RowSelection = EVERYTHING,
    is_dry_run: bool = False,
) -> Intake:
    """Import one file into the workspace at ``root``.

    Records go to ``data/<stem>.jsonl``, bad rows to ``quarantine/<name>.jsonl``. A second import changes nothing.

    Raises:
        CurateError: E908 when the file cannot be read or understood, E919 when the target holds something else, E914
            when a link leads out of the workspace, E906 when writing fails.
    """
    plan = plan_import(path, shape, format_name=format_name, mapping=mapping, selection=selection)
    name = path.name or path.resolve().name
    intake = Intake(plan, root / DATA_FOLDER / f"{_stem(name)}.jsonl", root / QUARANTINE_FOLDER / f"{name}.jsonl")

    for written in (intake.target, intake.quarantine):
        _refuse_outside(written, root)

    if is_dry_run and not intake.target.exists():
        for _ in _lines(intake, shape, category):
            pass
    elif is_dry_run or not _write_some(intake.target, _lines(intake, shape, category)):
        if path.resolve() == intake.target.resolve():
            raise CurateError(
                "E919 would-overwrite", f"{path} already is a file of this workspace", "There is nothing to import."
            )
        if not _is_same(_lines(intake, shape, category), intake.target):
            raise CurateError(
                "E919 would-overwrite",
                f"{intake.target} exists and holds other lines than {path}",
                "Rename one of the two. Nothing was written.",
            )
        intake.is_unchanged = True
    if intake.rejected and not is_dry_run:
        entries = (orjson.dumps(row.entry(str(path))) + b"\n" for row in intake.rejected)
        intake.quarantine = _free_quarantine(intake.quarantine, spelled(str(path)))
        write_atomic(intake.quarantine, entries)
    return intake


def _lines(intake: Intake, shape: ShapeView, category: str) -> Iterator[bytes]:
    """Yield the lines of the records, and count on ``intake`` what becomes of every row."""
    intake.num_records = intake.num_joined = 0
    intake.rejected.clear()
    intake.left_out.clear()
    intake.moved.clear()
    for row in convert(intake.plan, shape, load_shape, category=category):
        if isinstance(row, Imported):
            intake.num_records += 1
            intake.num_joined += row.has_joined_parts
            intake.moved.update(row.moved)
            yield row.raw + b"\n"
        elif isinstance(row, Rejected):
            intake.rejected.append(row)
        else:
            intake.left_out[row.condition] += 1


def _free_quarantine(wanted: Path, source: str) -> Path:
    """Return ``wanted``, or the first numbered name after it that does not hold the rows of another file."""
    path, number = wanted, 1
    while path.exists() and _source_of(path) != source:
        number += 1
        path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    return path


def _source_of(quarantine: Path) -> str:
    """Return the file whose rows a quarantine file holds, "" where somebody has edited it past recognition."""
    with open_file(quarantine) as handle:
        first = handle.readline()
    try:
        entry = orjson.loads(first)
    except orjson.JSONDecodeError:
        return ""
    return str(entry.get("file", "")) if isinstance(entry, dict) else ""


def _refuse_outside(path: Path, root: Path) -> None:
    """Refuse a file that a link, of its folder or its own, would put outside the workspace."""
    if not path.resolve().is_relative_to(root.resolve()):
        raise CurateError(
            "E914 outside-workspace",
            f"{path} leads to {path.resolve()}, outside the workspace {root}",
            "Remove the link. Nothing was written.",
        )


def _write_some(target: Path, lines: Iterator[bytes]) -> bool:
    """Write the lines, unless there are none: an empty file of records helps nobody. False where the file is there."""
    if target.exists():
        return False
    first = next(lines, None)
    if first is not None:
        try:
            write_atomic(target, chain([first], lines), is_new=True)
        except CurateError as error:
            # Another process has just written it; then it is compared like any file that is there.
            if error.number != "E919":
                raise
            return False
    return True


def _stem(name: str) -> str:
    """Return a file name without its suffix: a.b.jsonl is a.b, and .hidden stays a visible name."""
    return Path(name.lstrip(".")).stem or "import"


def _is_same(chunks: Iterable[bytes], path: Path) -> bool:
    """Whether ``chunks`` joined are the bytes of the file; all are taken, so that what they count is complete."""
    is_same = True
    with open_file(path) as handle:
        for chunk in chunks:
            is_same = is_same and handle.read(len(chunk)) == chunk
        return is_same and not handle.read(1)
