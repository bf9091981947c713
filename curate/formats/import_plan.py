"""How a foreign file is read: which container, which importer, which columns; decided once, from its first rows."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict, Field

from curate.base.record import CurateError, Json
from curate.base.tables import listed
from curate.formats.importers import (
    Container,
    ForeignForm,
    Importer,
    Rejected,
    RowError,
    SourceRow,
    cannot_import,
    container_of,
    encoding_hint,
    head_of,
    importers,
)
from curate.formats.importers._foreign import FORMS
from curate.formats.importers._reading import DIGITS, VERDICTS, is_filled, spelled_at, spelled_value, value_at
from curate.formats.importers.batch import answered
from curate.formats.importers.encoded import container_for
from curate.jsonl import parts_of
from curate.schema import Shape, guess_shape, load_shape

# The name of the format of a file that already has the workspace's shape.
NATIVE = "workspace"
_SAMPLE_ROWS = 200
# Below this likeness no format is taken for granted.
_LEAST_LIKENESS = 0.5
# Those of a line of dropped.jsonl; see schemas/dropped.schema.json.
_DROPPED_KEYS = {"id", "code", "reason", "kept", "score", "file", "line"}
_TRL_PAIR = {"instruction": "prompt", "output": "completion"}


# Column names that a message lists.
MOST_COLUMNS = 8
Rows = Sequence[dict[str, Json]]
BatchAnswers = Mapping[str, list[dict[str, Json]]]


# What could train the wrong thing in silence is refused here: forms of other tools, and verdicts taken for answers.


class UnknownRowsError(CurateError):
    """E908 for a file whose rows no importer knows; they may still be kept as they are, under a schema of their own."""


class Reading(BaseModel):
    """How a file was read, so that every later import of its name reads it alike; what is empty is left to the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = ""
    """The format of its rows."""
    mapping: dict[str, str] = Field(default_factory=dict)
    """By field, the column or JSON pointer."""
    only: tuple[tuple[str, str], ...] = ()
    """Columns and the values that a row must have there."""
    to_meta: tuple[str, ...] = ()
    """Fields that are stored and not trained on."""
    encoding: str = ""
    category: str = ""
    """Of records that name none."""
    split: str = ""
    """Of records that name none."""
    key: str = ""
    """The column or JSON pointer that names a record for an update; empty for its id."""
    id_prefix: str = ""
    """What stands before the id of each row."""
    layout: str = ""
    """How a table was laid out: its sheet or separator, and whether it had a header."""
    columns: tuple[str, ...] = ()
    """Columns that each of the first rows had and that records were made of."""
    sha256: str = ""
    """Of the file that was read last; empty for a folder."""
    ids: dict[str, str] = Field(default_factory=dict)
    """By the id in the file, that of the record where it is another one; empty for no record."""

    def as_format(self, name: str) -> Reading:
        """Return the same for rows of another format."""
        return self.model_copy(update={"format": name})

    def excluded_by(self, row: Mapping[str, Json]) -> str:
        """Return "column=value" of the first condition that ``row`` does not meet, "" where it meets all."""
        for column, wanted in self.only:
            texts = spelled_at(row, column)
            if not all(_meets(text, wanted) for text in texts):
                text = ", ".join(texts)
                return f"{column}={text[:40] if not text.startswith(('[', '{')) else 'a list or an object'}"
        return ""


# All rows, as they are found to be.
AS_FOUND = Reading()


def _meets(text: str, wanted: str) -> bool:
    """Whether a value is the one wanted, or, of ">=3", such a number."""
    if not wanted.startswith(">="):
        return text == wanted.lower()
    with suppress(ValueError):
        return float(text) >= float(wanted[2:])
    return False


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """How a file will be read.

    ``scores`` are the likenesses of all formats, best first; ``format`` is None for rows in the workspace's shape.
    ``reading`` is what was asked for, and ``mapping`` is completed by what is guessed.
    ``sample`` are the rows that were looked at, without the columns that decide which rows are taken.
    """

    path: Path
    container: Container
    format: Importer | None
    mapping: Mapping[str, str]
    scores: tuple[tuple[str, float], ...] = ()
    is_mapping_guessed: bool = False
    reading: Reading = AS_FOUND
    notices: tuple[str, ...] = ()
    sample: Rows = ()

    @property
    def format_name(self) -> str:
        """What the rows are read as."""
        return self.format.name if self.format else NATIVE

    @property
    def rivals(self) -> list[tuple[str, float]]:
        """Other formats that fit almost as well."""
        best = max((score for _, score in self.scores), default=0.0)
        return [(name, score) for name, score in self.scores if name != self.format_name and score >= best - 0.1]


def is_list_of_dropped(path: Path) -> bool:
    """Whether ``path`` is the dropped.jsonl of one of our datasets, which tells of records and holds none."""
    if not path.is_file() or path.suffix.lower() != ".jsonl":
        return False
    try:
        first = orjson.loads(head_of(path).partition(b"\n")[0])
    except orjson.JSONDecodeError:
        return False
    return isinstance(first, dict) and first.keys() == _DROPPED_KEYS


def plan_import(
    path: Path,
    shape: Shape | None,
    reading: Reading = AS_FOUND,
    *,
    answers: BatchAnswers | None = None,
    is_for_training: bool = True,
) -> ImportPlan:
    """Look at the first rows of ``path`` and decide how it is read.

    Without a ``shape`` (a workspace that is yet to be made) no file has the workspace's shape. ``answers`` are those to
    the requests of a batch, by their ids. Where the rows are not
    ``is_for_training`` but only compared, a verdict taken for an answer does no harm, and nothing is refused for it.

    Raises:
        CurateError: E908 when the file cannot be read, holds no good row, has a foreign form that the user has not
            spoken of, or no importer knows its rows.
    """
    if is_list_of_dropped(path):
        hint = "Name the files of the splits, or the folder of the dataset."
        raise cannot_import(f"{path}: a list of what an export left out, not of records", hint)
    container = container_for(path, reading.encoding) if reading.encoding else container_of(path)
    container = answered(container, answers) if answers else container
    mapping = reading.mapping
    notices = tuple(container.notices(path))
    # A map of the output alone names the question whose answers are taken, where annotators answered several.
    chosen = reading.format or ("mapping" if mapping and mapping.keys() != {"output"} else "")
    sample = _readable_sample(path, container, chosen, reading)
    # Where no sampled row meets the conditions, the others still show how the file is built.
    wanted = [row for row in sample if not reading.excluded_by(row)] or sample
    # What decides about a row is not its answer.
    deciding = {column for column, _ in reading.only}
    sample = [{name: value for name, value in row.items() if name not in deciding} for row in wanted]
    scores: tuple[tuple[str, float], ...] = ()
    importer, unknown = None, None
    if shape is None and not chosen and guess_shape(sample) == "preference":
        # Preferences of all three kinds may stand in one file, of which each importer reads one.
        shape = load_shape("preference")
    try:
        scores = () if chosen else _likenesses(path, shape, sample, wanted)
        importer = _importer_named(chosen or scores[0][0])
        if mapping and not chosen and not (importer and importer.guess):
            importer = _importer_named("mapping")
    except UnknownRowsError as error:
        unknown = error
    # Rows that the shape allows are the user's own, whatever other tool has such fields too.
    if is_for_training and chosen != NATIVE:
        foreign = [row for row in wanted if not (shape and shape.is_valid(row) and not row.get("meta"))]
        _refuse_foreign(path, foreign, reading, forms_open_to(importer, shape))
    if unknown:
        raise unknown
    columns = _columns_of(path, importer, sample, dict(mapping), is_for_training=is_for_training)
    is_guessed = bool(importer and importer.name == "mapping" and not mapping)
    is_sure = not is_for_training or any(name.startswith("options") for name in columns)
    if importer and not is_sure and (is_guessed or (importer.name == "trl" and not chosen)):
        _refuse_verdicts(path, sample, columns or _TRL_PAIR)
    if importer:
        notices += tuple(importer.notices(path, sample))
    notices += tuple(_thinking(sample))
    return ImportPlan(path, container, importer, columns, scores, is_guessed, reading, notices, sample)


def _columns_of(
    path: Path,
    importer: Importer | None,
    sample: Sequence[dict[str, Json]],
    columns: Mapping[str, str],
    *,
    is_for_training: bool,
) -> Mapping[str, str]:
    """Return where an importer takes each field from: ``columns``, and what it guesses.

    Raises:
        CurateError: E908 where several questions could be the answered one, and it matters.
    """
    try:
        return importer.guess(sample, columns) if importer and importer.guess else columns
    except RowError as error:
        if is_for_training:
            raise cannot_import(f"{path}: {error.reason}", "Say which with --map output=NAME.") from error
        return columns


def _thinking(sample: Sequence[Mapping[str, Json]]) -> Iterator[str]:
    """Yield how many rows hold reasoning within an answer, where some do."""
    if number := sum("<think>" in repr(row) for row in sample):
        said = f"{number:,} of the {len(sample):,} rows looked at hold <think>: trained as a part of the answer"
        yield f"{said}; to store or train it apart, write it as reasoning_content of the assistant's message"


def _readable_sample(path: Path, container: Container, chosen: str, reading: Reading) -> list[dict[str, Json]]:
    """Return the first rows of a file.

    Raises:
        CurateError: E908 when there is none, or a condition names a column that no row has.
    """
    sample, first_rejected = _sample_of(container, path)
    if not sample and not chosen:
        why = f"line {first_rejected.line}: {first_rejected.reason}" if first_rejected else "it holds no row"
        raise cannot_import(f"{path}: no row of it can be read; {why}", _reading_hint(path, container, first_rejected))
    # Where no good row has a letter beyond ASCII, it is the table that is in another encoding, and not one row.
    if container.name == "table" and first_rejected and first_rejected.code == "S103" and repr(sample).isascii():
        raise cannot_import(f"{path}: it is not UTF-8, first in line {first_rejected.line}", encoding_hint(path))
    _refuse_unknown_columns(path, sample, reading)
    return sample


def parse_only(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the conditions of ``--only COLUMN=VALUE``.

    Raises:
        CurateError: E908 when a text is not COLUMN=VALUE.
    """
    conditions = []
    for text in texts:
        column, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not column:
            hint = "For example --only answer=accept, or --only 'rating>=3'."
            raise cannot_import(f"--only {text!r} is not COLUMN=VALUE", hint)
        conditions.append((column.rstrip("> "), f">={value}") if column.endswith(">") else (column, value))
    return tuple(conditions)


def _sample_of(container: Container, path: Path) -> tuple[list[dict[str, Json]], Rejected | None]:
    """Return the first good rows, and the first bad one among those before them."""
    sample: list[dict[str, Json]] = []
    first: Rejected | None = None
    for row in container.rows(path):
        if isinstance(row, SourceRow):
            sample.append(row.value)
            if len(sample) == _SAMPLE_ROWS:
                break
        else:
            first = first or row
    return sample, first


def _reading_hint(path: Path, container: Container, first: Rejected | None) -> str:
    if first is None:
        return "Name a file with records in it."
    if first.code == "S103" or "NUL" in first.reason:
        return encoding_hint(path)
    if first.code == "S112":
        return 'Each row is an object such as {"instruction": "...", "output": "..."}.'
    if container.name == "jsonl":
        return f"All that is wrong with it: curate validate {shlex.quote(str(path))}"
    return "Correct that row of the file."


def _likenesses(path: Path, shape: Shape | None, sample: Rows, whole: Rows) -> tuple[tuple[str, float], ...]:
    """Return how well each format fits, best first; those that fit no row are left out."""
    scores = {name: round(form.recognise(sample), 3) for name, form in importers().items()}
    if shape is not None:
        # Such rows are taken as they are, with the columns that decide which of them are.
        scores[NATIVE] = round(sum(shape.is_valid(value) for value in whole) / len(whole), 3)
    # Rows that have the workspace's shape already win a tie: nothing about them needs to change. Next comes who reads
    # what else would be left aside, such as the rejected one of two answers.
    readers = {name for form in FORMS if form.fields(sample) for name in form.read_by}
    # It does so too where some rows are bad, which others would take for good ones.
    readers &= {name for name, score in scores.items() if score >= _LEAST_LIKENESS}
    ranks = {name: 1.0 if name in readers else score for name, score in scores.items()}
    order = sorted(
        scores.items(), key=lambda pair: (-ranks[pair[0]], pair[0] != NATIVE, pair[0] not in readers, pair[0])
    )
    best, score = order[0]
    if score >= _LEAST_LIKENESS:
        return tuple(pair for pair in order if pair[1] > 0)
    fields = list(dict.fromkeys(name for row in sample for name in row))
    near = f" (nearest: {best}, {score:.0%} of the rows)" if score else ""
    named = [name for name in fields if not set(name) & set(",=")]
    example = f"instruction={named[0]},output={named[1]}" if len(named) > 1 else "instruction=question,output=answer"
    hint = f"Say which column is which with --map {shlex.quote(example)}, or a pointer such as /turns/0."
    message = f"{path}: no format fits its rows{near}; columns: {listed(fields, MOST_COLUMNS)}"
    raise UnknownRowsError("E908 cannot-import", message, hint)


def _importer_named(name: str) -> Importer | None:
    known = importers()
    if name != NATIVE and name not in known:
        near = get_close_matches(name, known, n=1)
        message = f"there is no format {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        raise cannot_import(message, f"Formats are {', '.join([*known, NATIVE])}.")
    return known.get(name)


def open_fields(form: ForeignForm, rows: Rows, mapping: Mapping[str, str], reading: Reading) -> set[str]:
    """Return the fields of a foreign form that the user has not spoken of; empty for ``rows`` that may be read."""
    fields = {*form.fields([_with_output(row, mapping) for row in rows])}
    if not fields:
        return set()
    named = {*mapping.values(), *(column for column, _ in reading.only)}
    return fields - named - {parts_of(name)[0] for name in named if name.startswith("/")} - {*reading.to_meta}


def _with_output(row: dict[str, Json], mapping: Mapping[str, str]) -> dict[str, Json]:
    answer = mapping.get("output") or mapping.get("answer")
    return row | {"output": value_at(row, answer)} if answer else row


def forms_open_to(importer: Importer | None, shape: Shape | None) -> list[ForeignForm]:
    """Return the foreign forms that rows must not have: all but those that ``importer`` reads for such a workspace."""
    takes_all, name = shape is None or shape.kind == "preference", importer.name if importer else NATIVE
    # Of rows in the workspace's own shape a bad one is put aside by itself.
    open_to_all = [form for form in FORMS if name not in form.left_to]
    return [
        form for form in open_to_all if not (takes_all and form.read_by and name in (*form.read_by, shape and NATIVE))
    ]


def _refuse_foreign(path: Path, rows: Rows, reading: Reading, forms: Sequence[ForeignForm]) -> None:
    """Refuse a file whose sample ``rows`` have one of ``forms`` that the user has not spoken of."""
    rows = [_with_output(row, reading.mapping) for row in rows]
    for form in forms:
        if names := open_fields(form, rows, reading.mapping, reading):
            counts = "; ".join(_counts(rows, name) for name in sorted(names)[:4])
            raise cannot_import(f"{path}: {form.help} {counts}.", form.advise(rows))


def _refuse_verdicts(path: Path, rows: Rows, mapping: Mapping[str, str]) -> None:
    """Refuse a guess by which words such as "accept" or "no" would be trained as answers.

    Raises:
        CurateError: E908 with the column, its values and what to type.
    """
    column = mapping.get("output", "")
    values = {spelled_value(row.get(column)).strip().rstrip(".") for row in rows if row.get(column) is not None}
    # A column that only ever says 1 may be an answer; one that says 0 and 1 judges.
    if not values or not values <= VERDICTS | DIGITS or not (values & VERDICTS or len(values) > 1):
        return
    pairs = ",".join(f"{name}={mapping[name]}" for name in mapping)
    raise cannot_import(
        f"{path}: the answers would be the column {column!r}, which holds only verdicts: {_counts(rows, column)}.",
        f"If these words are what is to be trained, add: --map {shlex.quote(pairs)}. If they judge the rows, add "
        f"--only {shlex.quote(f'{column}=VALUE')} and name the column of answers with --map.",
    )


def _refuse_unknown_columns(path: Path, rows: Rows, reading: Reading) -> None:
    """Refuse a condition on a column that none of the sample ``rows`` has."""
    for column, _ in reading.only:
        if rows and all(value_at(row, column) is None for row in rows):
            known = list(dict.fromkeys(name for row in rows for name in row))
            near = get_close_matches(column, known, n=1)
            message = f"{path}: --only names {column!r}, which no row has"
            message += f"; did you mean {near[0]!r}?" if near else ""
            raise cannot_import(message, f"Its columns are {', '.join(known[:20])}.")


def _counts(rows: Rows, name: str) -> str:
    """Return what a field holds in the sample: its values where they are few and short, else how many rows have it."""
    filled = [", ".join(spelled_at(row, name)) for row in rows if is_filled(value_at(row, name))]
    among = f"of the {len(rows):,} rows looked at"
    values = Counter(text for text in filled if len(text) <= 20 and not text.startswith(("[", "{")))
    if filled and sum(values.values()) == len(filled) and len(values) <= 8:
        counts = ", ".join(f"{text} {count:,}" for text, count in values.most_common())
        return f"{name!r} is {counts} ({among})"
    return f"{len(filled):,} {among} have {name!r}" if filled else f"{name!r} stands in their messages"
