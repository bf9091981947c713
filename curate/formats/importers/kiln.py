"""Kiln: the runs of a project, one file each in its folders, or one file by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from curate.base.record import Json
from curate.formats.importers import ConvertedRow, Rejected, RowError, SourceRow, container, head_of, importer
from curate.formats.importers._foreign import low_ratings
from curate.formats.importers._reading import take_common, text_of, value_at
from curate.jsonl import JsonFault, strict_loads

_RUN, _TASK = "task_run.kiln", "task.kiln"
# The largest file of a run, in bytes; a line of records may be no longer.
_MAX_BYTES = 16 * 1024 * 1024


def _fits(path: Path, _head: bytes) -> bool:
    return next(path.rglob(_RUN), None) is not None if path.is_dir() else path.suffix == ".kiln"


@container("kiln", fits=_fits, priority=3)
def rows(path: Path) -> Iterator[SourceRow | Rejected]:
    """Kiln projects (folders with `task_run.kiln` files) and single files of runs, with the instruction of the task."""
    tasks: dict[Path, str] = {}
    for number, file in enumerate(sorted(path.rglob(_RUN)) if path.is_dir() else [path], start=1):
        value = _document(file)
        if isinstance(value, str):
            yield Rejected(number, "S101", f"{file.name}: {value}", b"")
            continue
        # A run lies in TASK/runs/NAME.
        task = file.parents[2] / _TASK if len(file.parents) > 2 else file
        if task not in tasks:
            about = _document(task) if task.is_file() and task != file else {}
            tasks[task] = str(about.get("instruction") or "") if isinstance(about, dict) else ""
        value |= {"task_instruction": tasks[task]} if tasks[task] else {}
        yield SourceRow(value, number, file.read_bytes())


def _document(file: Path) -> dict[str, Json] | str:
    """Return the object that a file holds, or why there is none."""
    head_of(file)
    if file.stat().st_size > _MAX_BYTES:
        return f"it is longer than {_MAX_BYTES:,} bytes"
    try:
        value = strict_loads(file.read_bytes())
    except JsonFault as fault:
        return fault.message
    return value if isinstance(value, dict) else "it is no object"


def _is_run(row: dict[str, Json]) -> bool:
    output = row.get("output")
    return isinstance(row.get("input"), str) and isinstance(output, dict) and isinstance(output.get("output"), str)


def _notices(path: Path, rows: Sequence[dict[str, Json]]) -> Sequence[str]:
    return low_ratings(path, [{} if row.get("repaired_output") or _has_passed(row) else row for row in rows])


def _has_passed(row: dict[str, Json]) -> bool:
    """Whether a run has passed where it can only pass or fail: its 1 is the best there is."""
    rating = value_at(row, "/output/rating")
    return isinstance(rating, dict) and rating.get("type") != "five_star" and rating.get("value") == 1


@importer(
    "kiln",
    fits=_is_run,
    notices=_notices,
    samples=[
        {"v": 1, "id": "102", "model_type": "task_run", "input": "Say hi.", "task_instruction": "Be brief.",
         "output": {"output": "Hello", "rating": {"type": "five_star", "value": 2.0}},
         "repair_instructions": "End with a full stop.", "repaired_output": {"output": "Hello."}, "tags": ["greeting"]},
    ],
)  # fmt: skip
def read(row: dict[str, Json], _mapping: Mapping[str, str]) -> ConvertedRow:
    """Kiln runs: the input, and the output as it was repaired; ratings and the first output are stored."""
    if not _is_run(row):
        raise RowError("no run of Kiln")
    if not (repaired := row.get("repaired_output")):
        repaired = row["output"]
    if not isinstance(repaired, dict) or not repaired.get("output"):
        raise RowError("the run has no output")
    line, extra = take_common(row, ("input", "task_instruction"), has_our_names=False)
    system = {"system": row["task_instruction"]} if isinstance(row.get("task_instruction"), str) else {}
    line |= {**system, "instruction": row["input"], "output": text_of(repaired, "output")}
    return ConvertedRow("instruction", line, extra)
