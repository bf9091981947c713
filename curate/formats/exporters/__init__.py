"""The registry of exporters: rows of a dataset become files that other programs read.

A format is a function that returns a row as the format has it, and a way to write what it returns: JSON lines, unless
it says otherwise. What a format cannot express is never left out in silence: the row goes to ``skipped.jsonl`` with the
reason, and is counted. Formats are found by looking at the files of this folder; those whose name begins with an
underscore are shared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import orjson

from curate.base.file_guard import open_file
from curate.base.record import TRACES, CurateError, Json, Split
from curate.base.registry import Registry
from curate.base.storage import AtomicFile
from curate.base.tables import counted
from curate.formats.row_file import RowFile

# A row of a dataset: id, kind, category, cluster, messages, tools, text, source; and, where the caller has it,
# ``line``: the workspace's own line, from which formats that can hold more take what the messages do not say.
ExportRow = Mapping[str, Any]

# A million rows lie in a file, so an exporter goes through them as often as it must and holds none of them.
RowsBySplit = Mapping[Split, Collection[ExportRow]]

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


# One row may become several lines.
Line = Mapping[str, Json]
Convert = Callable[[ExportRow], Line | Sequence[Line]]
Function = TypeVar("Function", bound=Convert)


@dataclass
class ExportRun:
    """An export under way: what is to be written where, and what has become of the rows that were gone through."""

    form: Exporter
    rows_by_split: RowsBySplit
    folder: Path
    manifest: Mapping[str, Json]
    notes: list[str] = field(default_factory=list)
    """Remarks for the user."""
    num_rows: int = 0
    """Lines that were made."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many rows stayed out for each reason."""
    _lost_keys: Counter[str] = field(default_factory=Counter)
    _num_joined: int = 0
    _num_compared: int = 0
    skipped: AtomicFile | None = None
    """skipped.jsonl, which begins with the first row that stays out."""

    def lines(self, split: Split) -> Iterator[Line]:
        """Yield what the format makes of each row of a split; those that it cannot express go to skipped.jsonl."""
        for row in self.rows_by_split[split]:
            try:
                # Without its weight a record would be trained as any other, and nobody would be told.
                if self.form.keeps is not None and row.get("weight") not in (None, 1):
                    raise CannotExpressError("the record has a weight, which the format cannot express")
                made = self.form.convert(row)
            except CannotExpressError as fault:
                self.reasons[fault.reason] += 1
                self.skipped = self.skipped or AtomicFile(self.folder / "skipped.jsonl")
                skipped = {"id": row["id"], "split": split, "reason": fault.reason, "row": dict(row)}
                self.skipped.write(orjson.dumps(skipped, option=orjson.OPT_APPEND_NEWLINE))
                continue
            self._count_losses(row)
            made = [made] if isinstance(made, Mapping) else made
            self.num_rows += len(made)
            yield from made

    def _count_losses(self, row: ExportRow) -> None:
        keeps = self.form.keeps
        if keeps is not None:
            self._lost_keys.update(set(_unwritten_keys(row)).difference(keeps))
            self._num_joined += "input" not in keeps and _is_joined(row)
            self._num_compared += len(row.get("answers", ())) >= (3 if self.form.compares_answers else 1)

    def remarks(self) -> Iterator[str]:
        """Yield remarks on the format, and on what the rows that were written say and it does not bring back."""
        if self.form.note:
            yield self.form.note
        name, what = self.form.name, "takes the best answer of a preference, the first where several are the best"
        if self.form.compares_answers:
            what = "takes the best answer and the worst of more than two"
        if self._num_compared:
            yield f"{name} {what}: {counted(self._num_compared, 'record')}."
        if self._lost_keys:
            named = ", ".join(f"{key} ({number:,})" for key, number in sorted(self._lost_keys.items()))
            lost = "has no place for these keys of records, so an import does not bring them back"
            yield f"{name} {lost}: {named}."
        if self._num_joined:
            lost = "joins an instruction and its input, or a context and its question"
            yield f"{name} {lost}: {self._num_joined:,} records."

    def close(self) -> None:
        """Remove what is left of a file that was not finished."""
        if self.skipped:
            self.skipped.close()


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written: the files, how many lines they hold, the rows that stayed out by reason, and remarks."""

    paths: list[Path]
    num_rows: int
    reasons: Mapping[str, int]
    notes: list[str]
    skipped: Collection[Mapping[str, Any]] = ()
    """The lines of skipped.jsonl: the id, the split, the reason and the whole row."""


def write_lines(export: ExportRun) -> list[Path]:
    """Write a file of JSON lines for each split, and raw text to one of its own below text/."""
    return write_files(export, ("{}.jsonl", "text/{}.jsonl"), lambda line: orjson.dumps(line) + b"\n")


def write_files(
    export: ExportRun, names: tuple[str, str], spell: Callable[[Line], bytes],
    begin: bytes = b"", joint: bytes = b"", end: bytes = b"",
) -> list[Path]:  # fmt: skip
    """Write the lines of each split to the first of ``names``, in which {} is the split, and raw text to the second.

    One file cannot hold rows of two types. A file has ``begin``, its lines with a ``joint`` between two, and ``end``.
    Without an ``end`` there is a first file of each split also where it is empty.
    """
    paths: list[Path] = []
    for split in export.rows_by_split:
        first, texts = (export.folder / name.format(split) for name in names)
        with closing(_OpenFiles(begin)) as files:
            if not end:
                files.at(first)
            for line in export.lines(split):
                path = texts if line.keys() == {"text"} else first
                files.at(path, joint).write(spell(line))
            for file in files.values():
                file.write(end)
                file.commit()
            paths += files
    return paths


class _OpenFiles(dict[Path, AtomicFile]):
    """Files that are being written, each of which starts with ``begin``."""

    def __init__(self, begin: bytes) -> None:
        self._begin = begin

    def at(self, path: Path, joint: bytes = b"") -> AtomicFile:
        """Return the file at ``path``, after a ``joint`` where it is open already."""
        is_open = path in self
        file = self.setdefault(path, self.get(path) or AtomicFile(path))
        file.write(joint if is_open else self._begin)
        return file

    def close(self) -> None:
        """Remove what is left of files that were not finished."""
        for file in self.values():
            file.close()


@dataclass(frozen=True, slots=True)
class Exporter:
    """One format: its name, what it makes of a row, and what writes that and returns the files."""

    name: str
    convert: Convert
    write: Callable[[ExportRun], list[Path]] = write_lines
    keeps: tuple[str, ...] | None = ()
    """Keys of the workspace's line, beside those of what is said, that come back by an import; None stands for all."""
    compares_answers: bool = False
    """Whether it writes preferences; any other format has the best answer of such a record alone."""
    note: str = ""
    """What is said of each export."""


_exporters: Registry[Exporter] = Registry("exporters", __name__)


def exporter(name: str, **options: Any) -> Callable[[Function], Function]:
    """Register a function that returns a row as a format has it; the options are those of `Exporter`."""
    return _exporters.adding(name, lambda convert: Exporter(name, convert, **options))


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
    with closing(ExportRun(known[name], rows_by_split, folder, manifest)) as export:
        paths = known[name].write(export)
        if export.skipped:
            export.skipped.commit()
    notes = [*export.notes, *export.remarks()]
    skipped = [export.skipped.path] if export.skipped else []
    rows = RowFile(open_file(skipped[0]), export.reasons.total()) if skipped else ()
    return ExportResult([*paths, *skipped], export.num_rows, dict(export.reasons.most_common()), notes, rows)


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
