"""The registry of exporters: rows of a dataset become files that other programs read.

One file here is one format or one family of formats, found by looking at the folder; files whose name begins with an
underscore are what several of them share. What a format cannot express is never left out in silence: the row goes to
``skipped.jsonl`` with the reason, and is counted.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from curate.base.record import TRACES, CurateError, Json, Split
from curate.base.registry import Registry
from curate.base.storage import write_atomic
from curate.base.tables import counted
from curate.formats.row_file import RowSpool

# A row of a dataset: id, kind, category, cluster, messages, tools, text, source; and, where the caller has it,
# ``line``: the workspace's own line, from which formats that can hold more take what the messages do not say.
ExportRow = Mapping[str, Any]

# A million rows lie in a file, so an exporter goes through them as often as it must and holds none of them.
RowsBySplit = Mapping[Split, Sequence[ExportRow]]

# Keys of a line whose texts are one prompt.
_JOINED = (("instruction", "input"), ("context", "question"))
# Keys whose value may stand in what is said by chance.
_NAMES = ("id", "category")
_SAID = ("messages", "tools", "chosen", "completion")


class CannotExpressError(ValueError):
    """A row that a format has no way to write, told in a reason that is the same for all rows of its kind."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that the format cannot hold."""

    split: Split
    reason: str
    row: ExportRow


class SkippedRows(Collection[Skipped]):
    """The rows that a format cannot hold, in a file below its folder: there may be as many as the dataset has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spool: RowSpool | None = None

    def append(self, item: Skipped) -> None:
        """Add a row to the end."""
        self._spool = self._spool or RowSpool(self._folder)
        self._spool.append({"split": item.split, "reason": item.reason, "row": dict(item.row)})

    def __iter__(self) -> Iterator[Skipped]:
        return (Skipped(**line) for line in self._spool or ())

    def __len__(self) -> int:
        return len(self._spool or ())

    def __contains__(self, item: object) -> bool:
        return any(item == each for each in self)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an exporter made: the files, how many rows they hold, the rows that stayed out, and remarks for the user."""

    paths: list[Path]
    num_rows: int
    skipped: Collection[Skipped] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows stayed out for each reason."""
        return dict(Counter(item.reason for item in self.skipped).most_common())


Convert = Callable[[ExportRow], Mapping[str, Json]]
Write = Callable[[RowsBySplit, Path, Mapping[str, Json]], ExportResult]


@dataclass(frozen=True, slots=True)
class Exporter:
    """One format: its name, what it is, and the function that writes it."""

    name: str
    help: str
    run: Write
    keeps: tuple[str, ...] | None = ()
    """Keys of the workspace's line, beside those of what is said, that come back by an import; None stands for all."""
    takes_answers: bool = False
    """Whether it writes preferences; any other format has the best answer of such a record alone."""


_exporters: Registry[Exporter] = Registry("exporters", __name__)


def exporter(name: str, *, keeps: tuple[str, ...] | None = (), takes_answers: bool = False) -> Callable[[Write], Write]:
    """Register a function that writes rows; its docstring is the help text, and the options are those of `Exporter`."""
    return _exporters.adding(
        name, lambda write: Exporter(name, inspect.getdoc(write) or "", write, keeps, takes_answers)
    )


def line_exporter(
    name: str, *, keeps: tuple[str, ...] = (), takes_answers: bool = False, note: str = "", has_text: bool = False
) -> Callable[[Convert], Convert]:
    """Register a function that returns a row as one line of the format has it; its docstring is the help text.

    With ``has_text`` raw text goes to files of its own below text/. ``note`` is said of each export.
    """

    def make(convert: Convert) -> Exporter:
        def write(rows_by_split: RowsBySplit, folder: Path, _manifest: Mapping[str, Json]) -> ExportResult:
            write_rows = _write_text_apart if has_text else write_lines
            written = write_rows(rows_by_split, folder, convert)
            written.notes.extend([note] if note else [])
            return written

        return Exporter(name, inspect.getdoc(convert) or "", write, keeps, takes_answers)

    return _exporters.adding(name, make)


def exporters() -> dict[str, Exporter]:
    """Return the exporters by name, in order; also those of plug-ins."""
    return _exporters.all()


def export_rows(name: str, rows_by_split: RowsBySplit, folder: Path, manifest: Mapping[str, Json]) -> ExportResult:
    """Write rows in the format ``name`` below ``folder``; rows that it cannot hold go to ``skipped.jsonl`` whole.

    Raises:
        CurateError: E945 for an unknown format, E940 when the format needs an extra that is not installed, E906 when
            writing fails.
    """
    known = exporters()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        message = f"there is no export format {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        raise CurateError("E945 unknown-format", message, f"Formats are dataset, {', '.join(known)}.")
    written = known[name].run(rows_by_split, folder, manifest)
    written.notes.extend(_about_answers(known[name], rows_by_split, written))
    written.notes.extend(_losses(known[name], rows_by_split, written))
    if not written.skipped:
        return written
    path = folder / "skipped.jsonl"
    lines = (
        {"id": item.row["id"], "split": item.split, "reason": item.reason, "row": dict(item.row)}
        for item in written.skipped
    )
    write_atomic(path, (orjson.dumps(line) + b"\n" for line in lines))
    return ExportResult([*written.paths, path], written.num_rows, written.skipped, written.notes)


def _about_answers(form: Exporter, rows_by_split: RowsBySplit, written: ExportResult) -> Iterator[str]:
    """Yield a remark on rows that were written and compare answers, where ``form`` does not write all that they say."""
    fewest, what = 1, "takes the best answer of a preference, the first where several are the best"
    if form.takes_answers:
        fewest, what = 3, "takes the best answer and the worst of more than two"
    sizes = Counter(len(row.get("answers", ())) for row in chain.from_iterable(rows_by_split.values()))
    sizes.subtract(len(item.row.get("answers", ())) for item in written.skipped)
    number = sum(count for size, count in sizes.items() if size >= fewest)
    if form.keeps is not None and number:
        yield f"{form.name} {what}: {counted(number, 'record')}."


def _losses(form: Exporter, rows_by_split: RowsBySplit, written: ExportResult) -> list[str]:
    """Return remarks on what the rows that were written say and ``form`` does not bring back; none where it has all."""
    if form.keeps is None:
        return []
    keys, num_joined = _losses_of(chain.from_iterable(rows_by_split.values()), form.keeps)
    skipped_keys, num_skipped = _losses_of((item.row for item in written.skipped), form.keeps)
    counts, joined = keys - skipped_keys, num_joined - num_skipped
    notes = []
    if counts:
        named = ", ".join(f"{key} ({number:,})" for key, number in sorted(counts.items()))
        lost = "has no place for these keys of records, so an import does not bring them back"
        notes.append(f"{form.name} {lost}: {named}.")
    if joined:
        lost = "joins an instruction and its input, or a context and its question"
        notes.append(f"{form.name} {lost}: {joined:,} records.")
    return notes


def _losses_of(rows: Iterable[ExportRow], keeps: Collection[str]) -> tuple[Counter[str], int]:
    """Return how many of ``rows`` say something under each key that a format has no place for, and how many are joined.

    ``keeps`` holds the keys that it has a place for.
    """
    counts, num_joined = Counter[str](), 0
    for row in rows:
        counts.update(set(_unwritten_keys(row)).difference(keeps))
        num_joined += "input" not in keeps and _is_joined(row)
    return counts, num_joined


def _unwritten_keys(row: ExportRow) -> Iterator[str]:
    """Yield the keys under which a row says more than the texts, roles and calls that every format writes."""
    yield "split"
    line = row.get("line") or {"id": row["id"], "category": row["category"]}
    messages = row["messages"] or ()
    said = [str(message.get("content") or "") for message in messages] + [row["text"] or ""]
    for key, value in line.items():
        # Any other key of a line may be what is said, under the name that the workspace's schema has for it.
        is_said = key in _SAID or (isinstance(value, str) and any(value in text for text in said))
        if key in _NAMES or (value not in ("", None, [], {}) and not is_said):
            yield key
    for message in chain(messages, *(answer["messages"] for answer in row.get("answers", ()))):
        yield from (key for key in ("name", "tool_call_id", TRACES[0]) if message.get(key))
        if message["role"] == "developer":
            yield "developer"


def _is_joined(row: ExportRow) -> bool:
    line = row.get("line") or {}
    return any(line.get(first) and line.get(second) for first, second in _JOINED)


def write_lines(
    rows_by_split: Mapping[Split, Iterable[ExportRow]],
    folder: Path,
    convert: Convert,
    skipped: SkippedRows | None = None,
) -> ExportResult:
    """Write one JSON lines file a split; ``convert`` raises `CannotExpressError` for a row that is to stay out.

    Those are put on ``skipped``, where several calls have it in common.
    """
    skipped = SkippedRows(folder) if skipped is None else skipped
    counts = Counter[Split]()

    def lines(split: Split, rows: Iterable[ExportRow]) -> Iterator[bytes]:
        for value in converted(rows, split, convert, skipped):
            counts[split] += 1
            yield orjson.dumps(value) + b"\n"

    paths = {split: folder / f"{split}.jsonl" for split in rows_by_split}
    for split, rows in rows_by_split.items():
        write_atomic(paths[split], lines(split, rows))
    return ExportResult([*paths.values()], counts.total(), skipped)


def _write_text_apart(rows_by_split: RowsBySplit, folder: Path, convert: Convert) -> ExportResult:
    """Write conversations and raw text apart: one file cannot hold rows of two types."""
    skipped = SkippedRows(folder)
    talked = {split: (row for row in rows if row["messages"] is not None) for split, rows in rows_by_split.items()}
    written = write_lines(talked, folder, convert, skipped)
    if written.num_rows + len(skipped) == sum(len(rows) for rows in rows_by_split.values()):
        return written
    raw = {split: (row for row in rows if row["messages"] is None) for split, rows in rows_by_split.items()}
    texts = write_lines(raw, folder / "text", lambda row: {"text": row["text"]}, skipped)
    return ExportResult([*written.paths, *texts.paths], written.num_rows + texts.num_rows, skipped)


def converted(
    rows: Iterable[ExportRow],
    split: Split,
    convert: Convert,
    skipped: SkippedRows | list[Skipped],
) -> Iterator[Mapping[str, Json]]:
    """Yield what ``convert`` makes of each row; those it cannot express are put on ``skipped``."""
    for row in rows:
        try:
            # Without its weight a record would be trained as any other, and nobody would be told.
            if row.get("weight") not in (None, 1):
                raise CannotExpressError("the record has a weight, which the format cannot express")
            yield convert(row)
        except CannotExpressError as fault:
            skipped.append(Skipped(split, fault.reason, row))
