"""Any file as records to compare: whatever an importer knows, and files that hold questions only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from curate.base.console import spelled
from curate.base.record import SPLITS, CurateError, Json, Kind, Record, Source, content_id
from curate.formats.import_plan import ImportPlan, Reading, plan_import
from curate.formats.importers import ConvertedRow, Rejected, RowError, SourceRow
from curate.formats.importers.mapping import guess
from curate.schema import Shape, load_shape

_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class RowsRead:
    """The records of a file, how it was understood, and how many of its rows could not be read."""

    records: list[Record]
    description: str
    num_unread: int


def read_any(
    path: Path, shape: Shape | None = None, *, mapping: Mapping[str, str] | None = None, root: Path | None = None
) -> RowsRead:
    """Read ``path`` by the importer that knows its rows, in ``shape`` where they have it, or by ``mapping``.

    Within ``root`` files are named relative to it.

    A file that no importer knows is taken for questions without answers: the text of its question column, or of its
    longest column of text.

    Raises:
        CurateError: E908 when the file cannot be read, or none of its rows holds a text.
    """
    plan, column = _plan(path, shape, mapping)
    records: list[Record] = []
    num_unread = 0
    name = spelled(str(path.relative_to(root) if root and path.is_relative_to(root) else path))
    for row in plan.container.rows(path):
        if isinstance(row, Rejected):
            num_unread += 1
            continue
        source = Source(name, row.line)
        read: list[Record | None]
        try:
            read = [_question(row, column, source)] if column else [*_records(row, plan, shape, source)]
        except RowError:
            read = [None]
        records += (record for record in read if record)
        num_unread += read.count(None)
    if not records:
        raise CurateError("E908 cannot-import", f"{path}: none of its rows could be read as {plan.format_name}")
    return RowsRead(records, f"questions in {column!r}" if column else plan.format_name, num_unread)


def _plan(path: Path, shape: Shape | None, mapping: Mapping[str, str] | None) -> tuple[ImportPlan, str]:
    """Return how the file is read, and the column of its questions where that is all it has."""
    try:
        return plan_import(path, shape, Reading(mapping=dict(mapping or {})), is_for_training=False), ""
    except CurateError as unknown:
        if mapping or unknown.number != "E908":
            raise
        # With a mapping nothing is recognised: what is wanted is the way from bytes to rows. Unreadable files fail here
        # with the same error.
        plan = plan_import(path, shape, Reading(mapping={"text": "text"}), is_for_training=False)
        rows = islice((row.value for row in plan.container.rows(path) if isinstance(row, SourceRow)), _SAMPLE)
        column = _question_column(list(rows))
        if not column:
            raise
        return plan, column


def _question_column(rows: Sequence[dict[str, Json]]) -> str:
    """Return the column that is called like a question, else the one with the most text, "" where there is no text."""
    # Text in lists, such as the turns of a conversation, counts only where no column is text.
    sizes: list[dict[str, int]] = [{}, {}]
    for row in rows:
        for name, value in row.items():
            texts = list(_strings(value))
            size = sizes[not isinstance(value, str)]
            size[name] = size.get(name, 0) + sum(map(len, texts))
    named = guess(rows).get("instruction", "")
    if any(size.get(named) for size in sizes):
        return named
    # An id or a category is text too; a question is longer.
    plain, listed = ({name: size for name, size in group.items() if size > 20 * len(rows)} for group in sizes)
    best = plain or listed
    return max(best, key=lambda name: best[name], default="")


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (part for part in value if isinstance(part, str))


def _question(row: SourceRow, column: str, source: Source) -> Record:
    text = "\n".join(_strings(row.value.get(column)))
    if not text:
        raise RowError(f"{column!r} holds no text")
    name = next((str(row.value[key]) for key in ("id", "question_id") if row.value.get(key) is not None), "")
    messages = ({"role": "user", "content": text},)
    return Record(name or content_id(text), "instruction", source, row.value, text, messages=messages)


def _records(row: SourceRow, plan: ImportPlan, shape: Shape | None, source: Source) -> Iterator[Record | None]:
    """Yield the records of a row, None for each that cannot be read.

    Raises:
        RowError: nothing of it can be read.
    """
    if plan.format is None:
        lines = [(shape, row.value)]
    else:
        drafts = plan.format.records(row.value, plan.mapping)
        lines = [
            (_shipped(draft.kind), draft.line) if isinstance(draft, ConvertedRow) else (None, {}) for draft in drafts
        ]
    split = next((name for name in SPLITS if name == row.split), None)
    for of, line in lines:
        if of is None or not of.is_valid(line):
            yield None
            continue
        record = of.record(line, source)
        yield record.moved_to(split) if split and record.split is None else record


@cache
def _shipped(kind: Kind) -> Shape:
    return load_shape(kind)
