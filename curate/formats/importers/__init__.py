"""The registry of importers: foreign files become lines of a workspace, and nothing on the way is lost.

Three kinds of file stand here. A *container* knows how bytes become rows (JSON lines, a JSON array, CSV, Parquet, a
saved `datasets` folder); an *importer* knows what a row means (Alpaca, ShareGPT, OpenAI chat, TRL, columns by name);
a *foreign form* is known by its fields and not guessed at (one of two answers, columns of reasoning). Containers and
importers are found by looking at the files of this folder; those whose name begins with an underscore are shared.
"""

from __future__ import annotations

import base64
import codecs
import math
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from curate.base.console import spelled
from curate.base.record import CurateError, Json, Kind
from curate.base.registry import Registry
from curate.jsonl import packed_as

# The longest raw text, in bytes, that a quarantine entry repeats; of a longer one it holds the start.
MAX_QUARANTINED_RAW = 16 * 1024 * 1024
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# What stands in no text: all control characters but those of lines, of pages and of old shells.
_NO_TEXT = bytes({*range(32)} - {*b"\t\n\f\r\x1a\x1b"})
# Encodings in which texts that are not UTF-8 are kept; where bytes allow, more than one of them.
_GUESSES = ("cp1252", "cp1250", "cp1251", "koi8-r", "cp850", "gb18030", "cp932", "euc-kr")
_FOREIGN = re.compile(r"\w*[^\W\x00-\x7f]\w*")
# Files that are known by their content as well as by their name.
_KNOWN_BY_CONTENT = (".json", ".xlsx", ".zip", ".gz", ".zst")
_SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods")
WORD_PROCESSORS = (".docx", ".pptx", ".odt", ".odp", ".epub")
READABLE = (
    ".jsonl, .json, .csv, .tsv, .xlsx, .parquet, .arrow, .kiln, .md and .txt, packed as .gz, .zst or .zip too; folders "
    "of documents, of `datasets`, of Kiln, and `dataset/vN`"
)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a foreign file: its object, the 1-based line it begins on, its bytes, and the split of its file.

    ``part`` is the name of the file within a packed file, without its suffix.
    """

    value: dict[str, Json]
    line: int
    raw: bytes
    split: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not become a record, with the place and the reason; its bytes are kept."""

    line: int
    code: str
    reason: str
    raw: bytes

    def entry(self, file: str) -> dict[str, Json]:
        """Return the quarantine entry: text where the bytes are UTF-8, else base64."""
        entry: dict[str, Json] = {"file": spelled(file), "line": self.line, "code": self.code, "reason": self.reason}
        start = self.raw[:MAX_QUARANTINED_RAW]
        if len(start) < len(self.raw):
            entry |= {"is_cut": True, "raw_bytes": len(self.raw)}
        try:
            return entry | {"raw": start.decode("utf-8")}
        except UnicodeDecodeError:
            return entry | {"raw": base64.b64encode(start).decode("ascii"), "encoding": "base64"}


class RowError(ValueError):
    """A row that an importer cannot read, in words that do not repeat the data.

    ``part`` is what of the row is meant, where others of its records can be read.
    """

    def __init__(self, reason: str, code: str = "S102", part: Json = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.part = part


# What a line has no place for goes to ``meta.extra`` under its own key, so that the line's exported form joined with
# ``meta.extra`` is the row that was read. What cannot be read becomes a `Rejected` row with the place and the reason.


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What somebody answered elsewhere to a question about a record; ``at`` is a time in ISO form, or empty.

    ``form`` is text, choice or rating where the file says what was asked for.
    """

    question: str
    value: Json
    annotator: str
    at: str = ""
    form: str = ""


@dataclass(frozen=True, slots=True)
class ConvertedRow:
    """A line in the shipped shape of ``kind``, and what of the row it has no place for.

    ``own`` is the line of a workspace that the row carries; it is taken as it is where the shape allows it. ``answers``
    are those of annotators. Where ``answered_by`` names a question, the completion is the first answer to it; rows
    that ``asked`` the same become one with the answers of all, and the most frequent of them is the completion.
    ``columns`` says which columns of the row, or places in it, became which fields; any other column is in ``extra``,
    or became the field of its own name.
    """

    kind: Kind
    line: dict[str, Json]
    extra: dict[str, Json] = field(default_factory=dict)
    own: dict[str, Json] | None = None
    answers: tuple[GivenAnswer, ...] = ()
    answered_by: str = ""
    asked: dict[str, Json] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)


Row = dict[str, Json]
Recognise = Callable[[Sequence[Row]], float]
# A row that holds many records, such as an article with its questions, gives a list of them, with an error for each
# that cannot be read.
# One that has a guess is given the mapping, too.
Read = Callable[..., ConvertedRow | Sequence[ConvertedRow | RowError]]
Rows = Callable[[Path], Iterator[SourceRow | Rejected]]


@dataclass(frozen=True, slots=True)
class Importer:
    """How rows of one format are recognised and read.

    ``recognise`` gives the likeness of sample rows in [0, 1]; ``read`` turns one row into a draft. Where there is a
    ``guess``, which completes a mapping from our field names to columns from sample rows, ``read`` is given that, too.
    ``is_named_by_split``: a file of this format is called by the split of its rows, such as ``train.parquet``.
    ``notices`` gives what is to be said of a file and its first rows, such as what they cannot hold.
    """

    name: str
    recognise: Recognise
    read: Read
    samples: Sequence[Row]
    guess: Callable[[Sequence[Row], Mapping[str, str]], dict[str, str]] | None = None
    is_named_by_split: bool = False
    notices: Callable[[Path, Sequence[Row]], Sequence[str]] = lambda _path, _rows: ()

    def records(self, row: Row, mapping: Mapping[str, str]) -> Sequence[ConvertedRow | RowError]:
        """Return the records of a row, with an error for each that cannot be read.

        Raises:
            RowError: nothing of the row can be read.
        """
        read = self.read(row, mapping) if self.guess else self.read(row)
        return [read] if isinstance(read, ConvertedRow) else read


@dataclass(frozen=True, slots=True)
class Container:
    """How the bytes of a file become rows; ``fits`` looks at the path and the first bytes.

    ``notices`` gives what is to be said of a whole file, such as a column that is left out; ``unpacks`` names the
    packed kinds of file that it reads, as `packed_as` does: all others are refused, whatever they are called.
    ``layout`` says how a table is laid out, as far as that is found out from the file.
    """

    name: str
    rows: Rows
    fits: Callable[[Path, bytes], bool]
    priority: int = 0
    notices: Callable[[Path], Sequence[str]] = lambda _path: ()
    unpacks: Collection[str] = ()
    layout: Callable[[Path], str] = lambda _path: ""


@dataclass(frozen=True, slots=True)
class ForeignForm:
    """Rows of which a part would be trained, or left aside, without a word; the user has to speak of it first.

    ``fields`` gives the fields by which rows show it, of many rows or of one; ``advise`` says what to add to the
    command, from sample rows. ``read_by`` names the importers that make records of all of such rows, where a workspace
    takes what they make, and ``left_to`` those that decide by themselves which rows they take.
    """

    name: str
    help: str
    fields: Callable[[Sequence[Row]], Collection[str]]
    advise: Callable[[Sequence[Row]], str]
    read_by: tuple[str, ...] = ()
    left_to: tuple[str, ...] = ()


_importers: Registry[Importer] = Registry("importers", __name__)
_containers: Registry[Container] = Registry("importers", __name__)


def importer(
    name: str, *, fits: Callable[[Row], bool] = lambda _row: False, recognise: Recognise | None = None, **options: Any
) -> Callable[[Read], Read]:
    """Register a function that reads one row; the options are those of `Importer`.

    Rows are recognised by the share of them that ``fits``, or by all of them with ``recognise``. ``samples`` are its
    proof.
    """
    likeness = recognise or partial(share, fits=fits)
    return _importers.adding(name, lambda read: Importer(name, likeness, read, **options))


def container(name: str, **options: Any) -> Callable[[Rows], Rows]:
    """Register a function that yields the rows of a file; of those that fit, the highest priority reads it.

    The options are those of `Container`.
    """
    return _containers.adding(name, lambda rows: Container(name, rows, **options))


def share(rows: Collection[Row], fits: Callable[[Row], bool]) -> float:
    """Return the share of ``rows`` that ``fits`` accepts; 0.0 for none."""
    return sum(map(fits, rows)) / len(rows) if rows else 0.0


def importers() -> dict[str, Importer]:
    """Return the importers by name, in order; also those of plug-ins."""
    return _importers.all()


def containers() -> list[Container]:
    """Return the containers, the one to be asked first at the front."""
    return sorted(_containers.all().values(), key=lambda container: (-container.priority, container.name))


def cannot_import(message: str, hint: str) -> CurateError:
    """Return E908, the error of a file that cannot be imported."""
    return CurateError("E908 cannot-import", message, hint)


def head_of(path: Path, size: int = 4096) -> bytes:
    """Return the first bytes of a regular file.

    Raises:
        CurateError: E908 when there is no such file, or it is a pipe, a device, or a pointer to the data.
    """
    try:
        # Not waiting: a pipe that nobody writes to would hold us for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise cannot_import(f"{path}: {error.strerror}", "Name a file that can be read.") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            hint = "Pipes and devices are not read; save the data to a file."
            raise cannot_import(f"{path}: not a regular file", hint)
        head = os.read(handle, size)
    finally:
        os.close(handle)
    if head.startswith(b"version https://git-lfs.github.com/"):
        raise cannot_import(f"{path}: a Git LFS pointer, not the data", "Run `git lfs pull`.")
    return head


def container_of(path: Path) -> Container:
    """Return the container that reads a file or folder.

    Raises:
        CurateError: E908 when none does; and as `head_of`.
    """
    head = b"" if path.is_dir() else head_of(path)
    matching = next((one for one in containers() if one.fits(path, head)), None)
    name = packed_as(head)
    if name and (matching is None or name not in matching.unpacks):
        hint = "Unpack it and import what is inside."
        if path.suffix.lower() in _SPREADSHEETS:
            hint = "Save the table as .xlsx or CSV and import that."
        elif path.suffix.lower() in WORD_PROCESSORS:
            name, hint = "a document of an office program", "Save it as .txt or .md and import that."
        raise cannot_import(f"{path}: {name}, which is not unpacked here", hint)
    if matching is None and path.suffix.lower() in _KNOWN_BY_CONTENT and not path.is_dir():
        known = wide_encoding(head)
        hint = (
            f"The file is {known}. Add: --encoding {known}"
            if known
            else "Save or fetch it again, or give it its right name."
        )
        raise cannot_import(f"{path}: by its content this is no {path.suffix.lower()} file", hint)
    if matching is None:
        what = f"{path.suffix or 'files without a suffix'} cannot be imported"
        what = "the folder holds no file that can be imported" if path.is_dir() else what
        raise cannot_import(f"{path}: {what}", f"These can: {READABLE}.")
    return matching


def row_files_of(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files in a folder and the folders within, by name: those with rows of data, and all other ones.

    A file stands for itself, and so does a folder that an importer reads as a whole or that has documents alone.
    Hidden files are left out.

    Raises:
        CurateError: E908 where it holds a workspace, whose journal is no data to import; and as `head_of`.
    """
    from curate.schema.settings import FILE_NAME

    is_whole = (reader.fits(folder, b"") for reader in containers() if reader.name != "documents")
    if not folder.is_dir() or any(is_whole):
        return [folder], []
    if workspace := next(folder.rglob(FILE_NAME), None):
        hint = f"Name its record files: {workspace.parent}/data/*.jsonl"
        raise cannot_import(f"{folder}: {workspace.parent} is a workspace", hint)
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if not path.is_dir()]
    files = [folder / name for name in names if not any(part.startswith(".") for part in name.parts)]
    row_files = [file for file in files if file.is_file() and _has_rows(file)]
    return (row_files, [file for file in files if file not in row_files]) if row_files else ([folder], [])


def _has_rows(file: Path) -> bool:
    head = head_of(file)
    reader = next((reader for reader in containers() if reader.fits(file, head)), None)
    return reader is not None and reader.name != "documents"


def wide_encoding(head: bytes) -> str:
    """Return utf-16 or utf-32 for the first bytes of such a text, else ""."""
    # UTF-32 begins with the mark of UTF-16, so that the longer marks come first.
    known = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "")
    # Without a mark, every second byte of text in Latin letters is NUL; in what is no text both halves have some.
    even, odd = head[::2].count(0), head[1::2].count(0)
    if known or max(even, odd) <= len(head) // 4 or min(even, odd) * 20 > max(even, odd):
        return known
    return "utf-16-le" if odd > even else "utf-16-be"


def encoding_hint(path: Path) -> str:
    """Return what to do about a file that is not UTF-8: a word of it in each encoding that it may be in."""
    head = head_of(path, 1024 * 1024)
    if known := wide_encoding(head):
        return f"The file is {known}. Add: --encoding {known}"
    if 50 * (len(head) - len(head.translate(None, _NO_TEXT))) > len(head):
        return "The file does not look like text. Save or export it again, as CSV or JSON lines."
    # The last character may be cut off.
    decoders = {name: codecs.getincrementaldecoder(name)("replace").decode for name in _GUESSES}
    texts = {name: text for name, decode in decoders.items() if "\ufffd" not in (text := decode(head))}
    words = ((name, _FOREIGN.search(text)) for name, text in texts.items())
    options = " or ".join(f"--encoding {name} ({word[0][:20]})" for name, word in words if word)
    # Where other rows are UTF-8 beyond ASCII, an encoding for the whole file would spoil those.
    return (
        "Correct the rows that are not UTF-8; where none is, add the encoding in which words are right: "
        f"{options or '--encoding NAME'}"
    )


def jsonable(values: dict[str, Any], number: int, split: str = "") -> SourceRow | Rejected:
    """Return one typed row as JSON: times in ISO form, decimals as text; bytes and non-finite numbers are refused."""
    raw = repr(values).encode(errors="backslashreplace")
    try:
        return SourceRow({name: _json(value, name) for name, value in values.items()}, number, raw, split)
    except RowError as fault:
        return Rejected(number, fault.code, fault.reason, raw)


def _json(value: object, name: str) -> Json:
    if isinstance(value, dict):
        # A typed table spells a key that is not there as null, in every row.
        return {str(key): _json(part, name) for key, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_json(part, name) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise RowError(f"column {name!r} holds a number that is not finite", "S106")
    if value is None or isinstance(value, str | bool | float):
        return value
    # JSON has integers of any size, and the strict parser those of 64 bits.
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise RowError(f"column {name!r} holds an integer that does not fit in 64 bits", "S107")
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    raise RowError(f"column {name!r} holds {type(value).__name__}, which JSON cannot hold")
