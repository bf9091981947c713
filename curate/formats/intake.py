"""Foreign files into a workspace: each becomes one file of records, and its bad rows one file in quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

import orjson

from curate.base.console import spelled
from curate.base.file_guard import inside, open_file
from curate.base.record import CurateError, Json, Source, canonical
from curate.base.storage import digest_of, write_atomic
from curate.base.tables import listed
from curate.formats.columns import EMPTY, META, NOWHERE, ColumnUse, columns_of
from curate.formats.import_note import note_path, note_source, read_reading
from curate.formats.import_plan import (
    AS_FOUND,
    NATIVE,
    BatchAnswers,
    ImportPlan,
    Reading,
    forms_open_to,
    open_fields,
    plan_import,
)
from curate.formats.importers import (
    ConvertedRow,
    GivenAnswer,
    Rejected,
    RowError,
    SourceRow,
    cannot_import,
    importers,
)
from curate.formats.importers._foreign import names_beside
from curate.formats.importers._reading import is_filled, split_of, value_at
from curate.formats.importers.annotations import Joined
from curate.formats.importers.conversations import refuse_talk
from curate.formats.quarantine import QUARANTINE_FOLDER, entry_key, free_quarantine, settled_entries
from curate.formats.taken_ids import TakenIds
from curate.schema import Shape, load_shape

DATA_FOLDER = "data"
_LINKED = "Remove the link. Nothing was written."
_TALKS = ("messages", "conversations", "prompt", "completion")
# A system text, a question and an answer.
_MOST_MESSAGES = 3


@dataclass(frozen=True, slots=True)
class Imported:
    """One good row: the bytes of its line without newline, the object they spell, and the line it came from.

    ``moved`` names the fields of the row that are now in ``meta.extra``. ``answers`` are those of annotators; where
    ``is_tied``, two of them were given equally often, and the first is the output.
    """

    raw: bytes
    value: Mapping[str, Json] = field(hash=False)
    line: int = 0
    moved: tuple[str, ...] = ()
    answers: tuple[GivenAnswer, ...] = ()
    is_tied: bool = False


@dataclass(slots=True)
class Intake:
    """What became of one file: ``target`` and ``quarantine`` are the files written (or that would be, on a dry run).

    ``num_records`` counts the good rows, ``rejected`` holds the bad ones, ``left_out`` counts those that the user's
    conditions do not take, by condition; ``moved`` counts the fields that went to ``meta.extra``. ``is_unchanged``
    says that the target already was what it should be.
    """

    plan: ImportPlan
    target: Path
    quarantine: Path
    last: Reading
    """How the last file of this name was read; empty for a new name."""
    reading: Reading
    num_records: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    is_unchanged: bool = False
    left_out: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    answers: dict[str, tuple[GivenAnswer, ...]] = field(default_factory=dict)
    """What annotators answered, by the id of the record."""
    num_tied: int = 0
    taken: TakenIds = field(default_factory=TakenIds)
    """What became of rows whose ids records have already."""
    columns: list[ColumnUse] = field(default_factory=list)
    """Where each column of the first rows goes."""

    @property
    def reading_now(self) -> Reading:
        """How the file was read, with the ids that its rows were given."""
        return self.reading.model_copy(update={"ids": dict(self.taken.renamed)})

    @property
    def reasons(self) -> Counter[str]:
        """How many rows were put in quarantine for each code."""
        return Counter(row.code for row in self.rejected)


def take_in(
    path: Path,
    root: Path,
    shape: Shape,
    reading: Reading = AS_FOUND,
    *,
    answers: BatchAnswers | None = None,
    taken: TakenIds | None = None,
    is_dry_run: bool = False,
) -> Intake:
    """Import one file into the workspace at ``root``; ``taken`` says what becomes of rows with ids that are in use.

    What ``reading`` leaves open is as it was for the last file of this name.
    Records go to ``data/<stem>.jsonl``, bad rows to ``quarantine/<name>.jsonl``. A second import changes nothing.

    Raises:
        CurateError: E908 when the file cannot be read or understood, E919 when the target holds something else, E914
            when a link leads out of the workspace, E906 when writing fails.
    """
    taken = taken or TakenIds()
    intake = plan_intake(path, root, shape, reading, answers)
    taken.prefix, intake.taken = intake.reading.id_prefix, taken
    if is_dry_run and not intake.target.exists():
        # A dry run converts every row as well, because it reports what becomes of each.
        for _ in _lines(intake, shape):
            pass
    elif is_dry_run or not _write_some(intake.target, _lines(intake, shape)):
        if path.resolve() == intake.target.resolve():
            raise CurateError(
                "E919 would-overwrite", f"{path} already is a file of this workspace", "There is nothing to import."
            )
        # The same file once more changes nothing; other lines under its name are records of somebody, and stay.
        if not _is_same(_lines(intake, shape), intake.target):
            message = f"{intake.target} exists and holds other lines than {path}"
            hint = "If it is the same file, grown or changed, add --update. Else rename one of the two."
            raise CurateError("E919 would-overwrite", message, f"{hint} Nothing was written.")
        intake.is_unchanged = True
    if not is_dry_run:
        # An import that was ended between the two has left no note.
        if not (intake.is_unchanged and intake.last.format):
            note_source(root, intake.target, shape, intake.reading_now)
        set_aside(intake)
    return intake


def plan_intake(path: Path, root: Path, shape: Shape, asked: Reading, answers: BatchAnswers | None = None) -> Intake:
    """Plan to read a file as the last one of its name was read, except for what is ``asked`` for now.

    Raises:
        CurateError: E908 when it cannot be read, or no more as the last one was, while neither a format nor a mapping
            is given; E993 for a damaged note, and E914 when a link leads out of the workspace.
    """
    last = read_reading(inside(root, note_path(root, target_of(path, root)), _LINKED)) or AS_FOUND
    # Rows in the workspace's own shape are looked at anew, so that a verdict among them is seen.
    name = asked.format or ("" if asked.mapping or last.format == NATIVE else last.format)
    mapping = asked.mapping or (last.mapping if name == last.format else {})
    now = last.model_copy(update=asked.model_dump(exclude_defaults=True) | {"format": name, "mapping": mapping})
    plan = plan_import(path, shape, now, answers=answers)
    intake = Intake(plan, target_of(path, root), root / QUARANTINE_FOLDER / f"{_name_of(path)}.jsonl", last, now)
    intake.columns = columns_of(plan, shape)
    for written in (intake.target, intake.quarantine):
        inside(root, written, _LINKED)
    unread = {META, NOWHERE, EMPTY}
    read = [use.column for use in intake.columns if use.target not in unread]
    intake.reading = now.model_copy(update={
        "format": plan.format_name, "mapping": dict(plan.mapping), "layout": plan.container.layout(path),
        "columns": tuple(name for name in read if all(is_filled(value_at(row, name)) for row in plan.sample)),
        "sha256": digest_of(path.resolve()),
    })  # fmt: skip
    if last.format and not asked.format and not asked.mapping:
        _require_alike(intake)
    return intake


def _require_alike(intake: Intake) -> None:
    """Refuse a file that cannot be read as the last one of its name was: what it means now would be a guess."""
    path, last, now = intake.plan.path, intake.last, intake.reading
    missing = [name for name in last.columns if all(not is_filled(value_at(row, name)) for row in intake.plan.sample)]
    if now.format != last.format:
        what = f"its rows were read as {last.format}; now they look like {now.format}"
    elif last.layout and now.layout and now.layout != last.layout:
        what = f"it was read with {last.layout}; now it has {now.layout}"
    elif missing:
        what = f"none of its rows has {listed(missing)}, which all had the last time"
    else:
        return
    hint = f"If it is to be read otherwise from now on: --format NAME (such as {now.format}), or --map FIELD=COLUMN."
    raise cannot_import(f"{path}: {what}", f"{hint} Nothing was written.")


def read_rows(intake: Intake, shape: Shape) -> list[Imported]:
    """Return the good rows of a planned file, and count on ``intake`` what becomes of all; nothing is written.

    Raises:
        CurateError: E904 when the file was not imported before, E908 when it cannot be read.
    """
    if not intake.target.is_file():
        message = f"{intake.target} is not there: {intake.plan.path} was not imported under this name"
        raise CurateError(
            "E904 no-such-file", message, "Import it without --update, or give it the name that it had then."
        )
    return list(_imported_rows(intake, shape))


def target_of(path: Path, root: Path) -> Path:
    """Return the record file into which a file is imported."""
    return root / DATA_FOLDER / f"{_stem(_name_of(path))}.jsonl"


def _name_of(path: Path) -> str:
    return path.name or path.resolve().name


def set_aside(intake: Intake) -> None:
    """Write the bad rows of a file to its quarantine, where it has some."""
    if intake.rejected:
        path = str(intake.plan.path)
        # Files of one name from two folders each have a quarantine of their own.
        intake.quarantine = free_quarantine(intake.quarantine, spelled(path))
        # What was settled of the same rows stays settled.
        settled = settled_entries(intake.quarantine)
        entries = (row.entry(path) for row in intake.rejected)
        lines = (orjson.dumps(entry | settled.get(entry_key(entry), {})) + b"\n" for entry in entries)
        write_atomic(intake.quarantine, lines)


def _lines(intake: Intake, shape: Shape) -> Iterator[bytes]:
    return (row.raw + b"\n" for row in _imported_rows(intake, shape))


def _imported_rows(intake: Intake, shape: Shape) -> Iterator[Imported]:
    """Yield the good rows, and count on ``intake`` what becomes of every row."""
    # It may run twice, to write and to compare with what is there; each time counts from the start.
    intake.num_records = intake.num_tied = 0
    for counts in (intake.rejected, intake.left_out, intake.moved, intake.answers):
        counts.clear()
    intake.taken.begin()
    for converted in convert(intake.plan, shape):
        row = _placed(intake, converted, shape) if isinstance(converted, Imported) else converted
        if isinstance(row, Imported):
            intake.num_records += 1
            intake.num_tied += row.is_tied
            intake.moved.update(row.moved)
            if row.answers:
                name = shape.record(row.value, Source(str(intake.target), 0)).id
                intake.answers[name] = (*intake.answers.get(name, ()), *row.answers)
            yield row
        elif isinstance(row, Rejected):
            intake.rejected.append(row)
        elif row is not None:
            intake.left_out[row] += 1


def _placed(intake: Intake, row: Imported, shape: Shape) -> Imported | Rejected | None:
    """Return a row with an id that no other record has; None where it makes no record of its own."""
    line = intake.taken.place(row.value, shape)
    if line is row.value:
        return row
    if line is None:
        return None
    if not shape.is_valid(line):
        reason = "its id is taken, and the schema allows no other; --id-prefix names one"
        return Rejected(row.line, "E908", reason, row.raw)
    return replace(row, raw=orjson.dumps(line), value=line)


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
    """Return a file name without its suffix: a.b.jsonl is a.b, a.jsonl.gz is a, and .hidden stays a visible name."""
    path = Path(name.lstrip("."))
    path = Path(path.stem) if path.suffix.lower() in (".gz", ".zst") and path.stem else path
    return path.stem or "import"


def _is_same(chunks: Iterable[bytes], path: Path) -> bool:
    """Whether ``chunks`` joined are the bytes of the file; all are taken, so that what they count is complete."""
    is_same = True
    with open_file(path) as handle:
        for chunk in chunks:
            is_same = is_same and handle.read(len(chunk)) == chunk
        return is_same and not handle.read(1)


def convert(plan: ImportPlan, shape: Shape) -> Iterator[Imported | Rejected | str]:
    """Yield every row of the planned file as a line of ``shape``, as rejected with the reason, or as the condition,
    "column=value", by which `Reading.only` leaves it out.

    A row in the workspace's shape keeps its bytes unless a category or the split of its file is added.
    """
    reading = plan.reading

    # What the rows looked at first had was judged with them.
    known = {name for row in plan.sample for name, value in row.items() if is_filled(value)}
    known.update(*map(names_beside, plan.sample))

    forms = forms_open_to(plan.format, shape)
    # Later rows may be of a form that those looked at first had no need of.
    rival = importers()[plan.rivals[0][0]] if plan.format is None and plan.rivals else None
    joined: dict[bytes, tuple[SourceRow, Joined]] = {}
    file_split = split_of(plan.path.stem) if plan.format and plan.format.is_named_by_split else ""
    for row in plan.container.rows(plan.path):
        if isinstance(row, Rejected):
            yield row
            continue
        if condition := reading.excluded_by(row.value):
            yield condition
            continue
        try:
            form = plan.format or (None if shape.is_valid(row.value) else rival)
            if form is None:
                yield _native(row, shape, reading, is_line=plan.container.name == "jsonl")
                continue
            # The rows looked at first may have been of another form.
            for foreign in forms if ({*row.value} | names_beside(row.value)) - known else ():
                if fields := open_fields(foreign, [row.value], plan.mapping, reading) - known:
                    raise RowError(
                        f"it has {listed(sorted(fields))}, as rows of the form {foreign.name} do; "
                        "--only or --to-meta decides"
                    )
            drafts = form.records(row.value, plan.mapping)
        except (RowError, CurateError) as fault:
            yield _rejected(fault, row, plan)
            continue
        for draft in drafts:
            if isinstance(draft, ConvertedRow) and draft.answers:
                # Others may have been asked about the same record in a later row.
                signed = replace(draft, answers=_signed(draft.answers, row.part or plan.format_name))
                joined.setdefault(canonical(signed.asked), (row, Joined(signed)))[1].add(signed)
            else:
                yield _imported(draft, row, plan, shape, file_split)
    for row, answered in joined.values():
        draft, is_tied = answered.row()
        record = _imported(draft, row, plan, shape, file_split)
        yield replace(record, is_tied=is_tied) if isinstance(record, Imported) else record


def _signed(answers: Sequence[GivenAnswer], file: str) -> tuple[GivenAnswer, ...]:
    """Return answers with a name each: where a zip has a file for each annotator, the file says who it was."""
    return tuple(answer if answer.annotator else replace(answer, annotator=file) for answer in answers)


def _imported(
    draft: ConvertedRow | RowError, row: SourceRow, plan: ImportPlan, shape: Shape, file_split: str
) -> Imported | Rejected:
    """Return a record of a row as a line, or why it is none."""
    try:
        if isinstance(draft, RowError):
            raise draft
        answers = draft.answers
        draft = _completed(draft, plan.reading.split or row.split or file_split, plan.reading.category)
        line = _line_of(draft, shape, _shipped_shape(draft.kind), Source(str(plan.path), row.line))
        # A line of ours that comes back had its fields where they are.
        is_ours = draft.own is not None and shape.is_valid(draft.own)
        moved = () if is_ours else _moved(line, row.value)
        return Imported(orjson.dumps(line), line, row.line, moved, answers)
    except (RowError, CurateError) as fault:
        return _rejected(fault, row, plan)


# Compiled once for all rows of its kind.
_shipped_shape = lru_cache(load_shape)


def _rejected(fault: RowError | CurateError, row: SourceRow, plan: ImportPlan) -> Rejected:
    if isinstance(fault, RowError):
        raw = row.raw if fault.part is None else orjson.dumps(fault.part)
        return Rejected(row.line, fault.code, fault.reason, raw)
    return Rejected(row.line, fault.number, fault.message.removeprefix(f"{plan.path}:{row.line}: "), row.raw)


def _moved(line: Mapping[str, Json], row: Mapping[str, Json]) -> tuple[str, ...]:
    """Return the names of what went to ``meta.extra``; what a line's field says as well is named as a copy."""
    before = value_at(row, "/meta/extra")
    extra = (line.get("meta") or {}).get("extra") or {}
    moved = [name for name in extra if not (isinstance(before, dict) and name in before)]
    return tuple(f"a copy of {name}" if name in line or name in _TALKS else name for name in moved)


def _native(row: SourceRow, shape: Shape, reading: Reading, *, is_line: bool) -> Imported:
    _checked(row.value, shape)
    if shape.kind == "domain" and isinstance(text := row.value.get("text"), str):
        refuse_talk(text)
    # A schema of one's own may have no place for a split.
    own = row.split if row.split and shape.is_valid({"split": row.split, **row.value}) else ""
    value = _with_defaults(row.value, reading.split or own, reading.category)
    if value != row.value:
        return Imported(orjson.dumps(_checked(value, shape)), value, row.line)
    # Only the bytes of a JSON line are a line; those of a table row or of a document's element are not.
    return Imported(row.raw if is_line else orjson.dumps(row.value), row.value, row.line)


def _completed(draft: ConvertedRow, split: str, category: str) -> ConvertedRow:
    """Add the split that the row was filed under and the asked-for category, where the row has none itself."""
    line = _with_defaults(draft.line, split, category)
    if draft.extra:
        line["meta"] = dict(line.get("meta") or {}) | {"extra": draft.extra}
    return ConvertedRow(draft.kind, line, own=draft.own and _with_defaults(draft.own, split, category))


def _with_defaults(line: dict[str, Json], split: str, category: str) -> dict[str, Json]:
    given = {"split": split} if split and "split" not in line else {}
    return line | given | ({"category": category} if category and not line.get("category") else {})


def _line_of(draft: ConvertedRow, shape: Shape, own: Shape, source: Source) -> dict[str, Json]:
    """Return the draft in the workspace's shape; what that shape says less well is repeated in ``meta.extra``."""
    if draft.own is not None and shape.is_valid(draft.own):
        return draft.own
    _checked(draft.line, own)
    if shape.name == own.name:
        return draft.line
    if own.kind == "chat" != shape.kind and len(draft.line["messages"]) > _MOST_MESSAGES:
        why = f"it has earlier turns, which the shape {shape.name} has no place for"
        raise RowError(f"{why}; curate init DIR FILE makes a workspace that has", "E905")
    if own.name == "instruction" and shape.name == "domain":
        return _checked(_grounded(draft.line), shape)
    # What the shape says less well shows on the way back, from its line to the shape of the row.
    line = shape.line(own.record(draft.line, source))
    try:
        back = own.line(shape.record(line, source)) if shape.is_valid(line) else {}
    except CurateError:
        # The way back does not exist, so that nothing can be taken as kept.
        back = {}
    lost = {key: value for key, value in draft.line.items() if key != "meta" and back.get(key) != value}
    if draft.line.get("meta") and back.get("meta") != draft.line["meta"]:
        meta = draft.line["meta"]
        names = [*(key for key in meta if key != "extra"), *meta.get("extra", {})]
        raise RowError(f"the shape {shape.name} has no place for {', '.join(names)}", "E905")
    if lost:
        meta = dict(draft.line.get("meta") or {})
        line["meta"] = meta | {"extra": lost | meta.get("extra", {})}
    return _checked(line, shape)


def _checked(line: dict[str, Json], shape: Shape) -> dict[str, Json]:
    if not shape.is_valid(line):
        objections = (f"{problem.pointer or 'record'}: {problem.message}" for problem in shape.problems(line)[:3])
        raise RowError(f"not of the shape {shape.name}: {'; '.join(objections)}")
    return line


def _grounded(line: dict[str, Json]) -> dict[str, Json]:
    """Return an instruction line as a grounded pair: the instruction asks, its input is the context."""
    if line.get("system"):
        raise RowError("the shape domain has no place for a system text", "E905")
    pair = {"context": line.get("input", ""), "question": line["instruction"], "answer": line["output"]}
    return pair | {key: value for key, value in line.items() if key not in ("system", "instruction", "input", "output")}
