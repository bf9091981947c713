"""What a row of the catalogue holds, taken from a record as its line has it or as decisions have left it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from curate.base.console import spelled
from curate.base.file_guard import inside
from curate.base.record import Finding, Json, Record, Severity, canonical, estimated_tokens, source_of
from curate.project.approval import UNAPPROVED, num_lacking
from curate.project.data import RUNS, ProjectData
from curate.project.feedback import FEEDBACK_FILE, RecordDynamics, is_as_told, latest_run, read_dynamics
from curate.project.fold import RecordState
from curate.schema.settings import ReviewSettings

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

_TYPES: dict[str, pl.DataType | type[pl.DataType]] = {
    "file": pl.String,
    "line": pl.UInt32,
    "category": pl.String,
    "split": pl.String,
    "source": pl.String,
    "kind": pl.String,
    "tokens": pl.UInt32,
    "prompt": pl.String,
    "completion": pl.String,
    "labels": pl.List(pl.Struct({"who": pl.String, "question": pl.String, "answer": pl.String})),
    "machine": pl.String,
}
# What the texts of the base are kept as; nothing is null, what is not there is "" or an empty list.
SCHEMA = pl.Schema(_TYPES)
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
class Values:
    """What is known of a record, with its whole texts."""

    file: str
    line: int
    category: str
    split: str
    source: str
    kind: str
    tokens: int
    prompt: str
    completion: str
    labels: Sequence[Labelled]
    machine: str = ""
    """The model of the proposal that was taken for it, NAME@DIGEST; empty where nobody took one."""


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


def values_of(record: Record, answers: Mapping[str, Mapping[str, Json]] | None = None, machine: str = "") -> Values:
    """Return what the catalogue keeps of a record. A record of raw text has its text as prompt and no completion."""
    return Values(
        record.source.file,
        record.source.line,
        record.category,
        record.split or "",
        source_of(record),
        record.kind,
        estimated_tokens(record),
        record.prompt or record.text,
        record.completion,
        list(labelled(record.labels, answers or {})),
        machine.removeprefix("model:"),
    )


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


def frame_of(values: Sequence[Values]) -> pl.DataFrame:
    """Return ``values`` as a frame of `SCHEMA`, a row each."""
    plain = {name: [getattr(row, name) for row in values] for name in SCHEMA if name != "labels"}
    frame = pl.DataFrame(plain, schema={name: SCHEMA[name] for name in plain})
    labels = {number: row.labels for number, row in enumerate(values) if row.labels}
    return frame.with_columns(labels_column(labels, len(values))).select(*SCHEMA)


def labels_column(labels: Mapping[int, Sequence[Labelled]], num_rows: int) -> pl.Series:
    """Return the column of labels; polars itself takes ten times as long to make one from Python's lists."""
    flat = [(row, *label) for row, several in labels.items() for label in several]
    none = pl.Series("labels", [[]], SCHEMA["labels"])
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


def states_frame(
    states: Sequence[RecordState], statuses: Sequence[str], splits: Sequence[str], further: Sequence[pl.Series] = ()
) -> pl.DataFrame:
    """Return ``states`` as a frame that every term of a filter can be asked about, with the given status and split.

    ``further`` are columns that neither lines nor decisions tell, such as those of a run.
    """
    frame = frame_of([values_of(state.record, state.answers, state.machine) for state in states])
    return frame.with_columns(
        pl.Series("id", [state.record.id for state in states], pl.String),
        pl.Series("status", statuses, STATUS),
        pl.Series("split", splits, pl.String),
        *further,
    )


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


@dataclass
class FindingRanks:
    """The worst rank of the findings about each record: by its line, or by its id where no record file is named."""

    review: ReviewSettings
    by_line: dict[tuple[str, int], int] = field(default_factory=dict)
    by_id: dict[str, int] = field(default_factory=dict)

    def status(self, state: RecordState) -> Status:
        """Return the status of a record that is in."""
        record, lacking = state.record, WAITING if num_lacking(state, self.review) else 0
        line = record.source.file, record.source.line
        return STATUSES[max(self.by_line.get(line, 0), self.by_id.get(record.id, 0), lacking)]


def rank_findings(findings: Iterable[Finding], data: ProjectData) -> FindingRanks:
    """Sort ``findings`` by what they are about; validation names files by their path, records by the workspace's."""
    names: dict[str, str] = {}
    for path in data.matching_files():
        name = spelled(str(path.relative_to(data.root)))
        names[name] = names[spelled(str(path))] = name
    ranks = FindingRanks(data.settings.review)
    for finding in findings:
        if finding.code == UNAPPROVED:
            continue
        rank = RANKS[finding.severity]
        if finding.file in names:
            location = names[finding.file], finding.line
            ranks.by_line[location] = max(rank, ranks.by_line.get(location, 0))
        elif finding.record:
            ranks.by_id[finding.record] = max(rank, ranks.by_id.get(finding.record, 0))
    return ranks


def severities(findings: Iterable[Finding]) -> dict[str, Severity]:
    """Return the worst severity of the findings about each record, by its id."""
    worst: dict[str, Severity] = {}
    for finding in findings:
        if not finding.record or finding.code == UNAPPROVED:
            continue
        before = worst.get(finding.record)
        if before is None or RANKS[finding.severity] > RANKS[before]:
            worst[finding.record] = finding.severity
    return worst


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

    def columns(self, ids: pl.Series) -> list[pl.Series]:
        """Return the columns `DYNAMICS_COLUMNS` of the records ``ids``, in their order."""
        if self.frame.is_empty():
            return [pl.repeat(None, len(ids), dtype=pl.Float64, eager=True).alias(name) for name in DYNAMICS_COLUMNS]
        joined = ids.alias("id").to_frame().join(self.frame, on="id", how="left", maintain_order="left")
        return joined.select(DYNAMICS_COLUMNS).get_columns()


def _frame_of(dynamics: Mapping[str, RecordDynamics]) -> pl.DataFrame:
    schema = {"id": pl.String, **dict.fromkeys(DYNAMICS_COLUMNS, pl.Float64)}
    rows = [
        (name, record_dynamics.confidence, record_dynamics.variability) for name, record_dynamics in dynamics.items()
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")
