"""What a row of the catalogue holds, taken from a record as its line has it or as decisions have left it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from curate.base.file_guard import inside
from curate.base.record import Json, Severity, canonical, estimated_tokens, source_of
from curate.project.approval import needs_approval, num_lacking
from curate.project.data import RUNS, ProjectData
from curate.project.feedback import FEEDBACK_FILE, RecordDynamics, is_as_told, latest_run, read_dynamics
from curate.project.fold import RecordState
from curate.schema.settings import ReviewSettings

if TYPE_CHECKING:
    from curate.checks.runner.table import RecordTable

# Characters of a prompt and of a completion that a `CatalogRow` shows; an ellipsis follows where there are more.
HEAD = 160
Status = Literal["ok", "warning", "waiting", "error", "dropped"]
# From good to bad, so that sorting by status brings together what has to be done. A record with an error is waited for
# when that is mended.
STATUSES: tuple[Status, ...] = ("ok", "warning", "waiting", "error", "dropped")

# (annotator, question, answer as text); the annotator is "" for what is agreed, or what the line itself says.
Labelled = tuple[str, str, str]

# Place of a severity in `STATUSES`: what is only to be known leaves a record ok.
RANKS: Mapping[Severity, int] = {"info": 0, "warning": 1, "error": 3}
WAITING = 2

_LABELS = pl.List(pl.Struct({"who": pl.String, "question": pl.String, "answer": pl.String}))
STATUS = pl.Enum(STATUSES)
# What a whole frame of the catalog shows of a record, in this order.
COLUMNS = (
    "id",
    "category",
    "split",
    "status",
    "tokens",
    "kind",
    "source",
    "file",
    "line",
    "prompt",
    "completion",
    "labels",
)
# The columns in which words are searched.
TEXTS = ("prompt", "completion")
# Columns that come from a run; null for a record that it did not train on.
DYNAMICS_COLUMNS = ("confidence", "variability")
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """A record as a table shows it. ``prompt`` and ``completion`` are cut to `HEAD` characters."""

    id: str
    file: str
    line: int
    category: str
    split: str
    source: str
    kind: str
    status: Status
    tokens: int
    """An estimate, see `estimated_tokens`."""
    prompt: str
    completion: str
    labels: tuple[Labelled, ...]


def labelled(labels: Mapping[str, Json], answers: Mapping[str, Mapping[str, Json]]) -> Iterator[Labelled]:
    """Yield what is agreed on each question, then what each annotator answered; a list is as many answers."""
    for question, value in labels.items():
        for text in _texts(value):
            yield "", question, text
    for question, by_annotator in answers.items():
        for who, value in by_annotator.items():
            for text in _texts(value):
                yield who, question, text


def head(text: str) -> str:
    """Return the beginning of a text, with an ellipsis where it goes on."""
    return text if len(text) <= HEAD else f"{text[:HEAD]}…"


def table_frame(table: RecordTable, review: ReviewSettings) -> pl.DataFrame:
    """Return what the lines of a table say of each record but its texts, and nobody has decided on.

    Nothing is null: what is not there is "" or an empty list.
    """
    files = pl.Series("file", table.file_names, pl.String).gather(table.files)
    labels = {row: list(labelled(some, {})) for row, some in table.labels.items()}
    columns = [
        pl.int_range(len(table), dtype=pl.UInt32, eager=True).alias("row"),
        pl.Series("id", table.ids, pl.String),
        files,
        pl.Series("line", table.lines, pl.UInt32),
        table.categories,
        table.splits,
        # Where a record names no source, its file is it.
        table.sources.zip_with(table.sources != "", files).alias("source"),
        pl.Series("tokens", -(-table.num_bytes // 4), pl.UInt32),
        labels_column(labels, len(table)),
        needs_approval(table.categories, review).alias("is_waiting"),
    ]
    same = {"kind": table.shape.kind, "machine": "", "is_dropped": False}
    return pl.DataFrame(columns).with_columns(pl.lit(value).alias(name) for name, value in same.items())


def states_frame(states: Sequence[RecordState], review: ReviewSettings) -> pl.DataFrame:
    """Return the same of records as decisions have left them, without ``row``."""
    records = [state.record for state in states]
    labels = {n: list(labelled(state.record.labels, state.answers)) for n, state in enumerate(states)}
    columns: dict[str, tuple[pl.DataType | type[pl.DataType], list[Any]]] = {
        "id": (pl.String, [record.id for record in records]),
        "file": (pl.String, [record.source.file for record in records]),
        "line": (pl.UInt32, [record.source.line for record in records]),
        "category": (pl.String, [record.category for record in records]),
        "split": (pl.String, [record.split or "" for record in records]),
        "source": (pl.String, list(map(source_of, records))),
        "tokens": (pl.UInt32, list(map(estimated_tokens, records))),
        "kind": (pl.String, [record.kind for record in records]),
        "machine": (pl.String, [state.machine.removeprefix("model:") for state in states]),
        "is_dropped": (pl.Boolean, [state.dropped is not None for state in states]),
        "is_waiting": (pl.Boolean, [num_lacking(state, review) > 0 for state in states]),
    }
    series = [pl.Series(name, values, kind) for name, (kind, values) in columns.items()]
    return pl.DataFrame([*series, labels_column(labels, len(states))])


def labels_column(labels: Mapping[int, Sequence[Labelled]], num_rows: int) -> pl.Series:
    """Return the column of labels; polars itself takes ten times as long to make one from Python's lists."""
    flat = [(row, *label) for row, several in labels.items() for label in several]
    none = pl.Series("labels", [[]], _LABELS)
    if not flat:
        return none.new_from_index(0, num_rows)
    schema = {"row": pl.Int64, "who": pl.String, "question": pl.String, "answer": pl.String}
    grouped = (
        pl.DataFrame(flat, schema, orient="row")
        .group_by("row", maintain_order=True)
        .agg(labels=pl.struct("who", "question", "answer"))
    )
    numbers = pl.DataFrame({"row": range(num_rows)})
    joined = numbers.join(grouped, on="row", how="left", maintain_order="left")["labels"]
    return joined.to_frame().select(pl.col("labels").fill_null(none.first()))["labels"]


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item) if not isinstance(item, list) else (canonical(item).decode(),)
    elif isinstance(value, Mapping):
        yield canonical(value).decode()
    elif value is not None:
        yield json.dumps(value)


class LearningDynamics:
    """The learning dynamics of the newest run that has a report."""

    def __init__(self, data: ProjectData) -> None:
        self._data = data
        self._of: tuple[Path, int, int] | None = None
        self.by_id: dict[str, RecordDynamics] = {}
        """What was read last, by record; empty until something asked, and where no run tells of it."""
        self.frame = _frame_of({})
        """The same as a frame; another one whenever it was read anew."""

    def renew(self, names: Collection[str] = DYNAMICS_COLUMNS) -> None:
        """Read the newest run's feedback if one of the columns ``names`` needs it and it is not what was read last.

        Raises:
            CurateError: E918 when the feedback cannot be read, E914 when the runs lie outside of the workspace.
        """
        if set(DYNAMICS_COLUMNS).isdisjoint(names):
            return
        root = self._data.root
        run = latest_run(inside(root, root / RUNS))
        path = run / FEEDBACK_FILE if run else None
        stat = path.stat() if path and path.is_file() else None
        of = (path, stat.st_mtime_ns, stat.st_size) if path and stat else None
        if of != self._of:
            told = list(read_dynamics(path.parent).items()) if path and of else []
            self.by_id = {}
            # What a run learnt of another text is none of a record. Not all are held at once.
            for block in (told[start : start + _BLOCK] for start in range(0, len(told), _BLOCK)):
                state_of = self._data.state_getter([name for name, _ in block])
                self.by_id |= {
                    name: one for name, one in block
                    if (state := state_of(name)) is not None and is_as_told(state.record, one.digest)
                }  # fmt: skip
            self._of, self.frame = of, _frame_of(self.by_id)


def _frame_of(dynamics: Mapping[str, RecordDynamics]) -> pl.DataFrame:
    schema = {"id": pl.String, **dict.fromkeys(DYNAMICS_COLUMNS, pl.Float64)}
    rows = [
        (name, record_dynamics.confidence, record_dynamics.variability) for name, record_dynamics in dynamics.items()
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")
