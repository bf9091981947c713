"""What imports have set aside: a file for each that was imported, in ``quarantine/``, and in it a line for each row.

A line keeps the row's bytes and the reason. What somebody has settled, by repairing the row or by letting go of it, is
noted in the line, which stays: a second import of the same file must not bring it back.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from curate.base.console import one_line
from curate.base.file_guard import MOST_DOCUMENT, inside, open_file, read_file
from curate.base.record import CurateError, Json
from curate.base.storage import write_atomic

QUARANTINE_FOLDER = "quarantine"
_SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A row that was set aside: line ``number``, from 1, of the quarantine file ``name``, relative to the workspace.

    ``file`` and ``line`` are where it stood, ``raw`` its bytes, of which ``is_cut`` says that they are the start only.
    ``record`` is the record that was made of it, None as long as nobody has settled it, "" where it was dropped.
    """

    name: str
    number: int
    file: str
    line: int
    code: str
    reason: str
    raw: bytes
    is_cut: bool
    record: str | None


def quarantined_rows(root: Path) -> Iterator[QuarantinedRow]:
    """Yield the rows that imports have set aside, also those that are settled; lines that are no such row are left out.

    Raises:
        CurateError: E914 where the folder or a file of it leads out of the workspace; E908 for one that cannot be read.
    """
    for path in sorted(inside(root, root / QUARANTINE_FOLDER).glob("*.jsonl")):
        name = f"{QUARANTINE_FOLDER}/{path.name}"
        try:
            with open_file(inside(root, path), root) as lines:
                for number, line in enumerate(lines, start=1):
                    if row := _row(name, number, line):
                        yield row
        except OSError as error:
            raise _unreadable(name, error) from error


def settle(root: Path, rows: Collection[QuarantinedRow], *, by: str, record: str = "") -> int:
    """Note in their lines what has become of ``rows``: the id of the record made of one, "" for rows to drop.

    Returns how many were settled; a row that is not there any more, or reads otherwise now, is left as it is.

    Raises:
        CurateError: E906 when a file cannot be written: then its rows are as before; E914 and E908 as above.
    """
    num_settled = 0
    for name in sorted({row.name for row in rows}):
        path = inside(root, root / name)
        wanted = {row.number: row for row in rows if row.name == name}
        try:
            lines = read_file(path, root, most=MOST_DOCUMENT).splitlines(keepends=True)
        except OSError as error:
            raise _unreadable(name, error) from error
        num_before = num_settled
        for number, row in wanted.items():
            present = _row(name, number, lines[number - 1]) if number <= len(lines) else None
            if present is not None and (present.file, present.line, present.raw) == (row.file, row.line, row.raw):
                entry = orjson.loads(lines[number - 1]) | {_SETTLED: {"by": by, "record": record}}
                lines[number - 1] = orjson.dumps(entry) + b"\n"
                num_settled += 1
        if num_settled > num_before:
            write_atomic(path, lines)
    return num_settled


def settled_entries(path: Path) -> dict[bytes, Json]:
    """Return what is noted of the settled rows in the quarantine file ``path``, by `entry_key`; empty without one."""
    if not path.is_file():
        return {}
    with open_file(path) as lines:
        entries = filter(None, map(_entry, lines))
        return {entry_key(entry): {_SETTLED: entry[_SETTLED]} for entry in entries if _SETTLED in entry}


def free_quarantine(wanted: Path, source: str) -> Path:
    """Return ``wanted``, or the first numbered name after it that does not hold the rows of another file."""
    path, number = wanted, 1
    while path.exists() and _source_of(path) != source:
        number += 1
        path = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    return path


def _source_of(quarantine: Path) -> str:
    """Return the file whose rows a quarantine file holds, "" where somebody has edited it past recognition."""
    with open_file(quarantine) as lines:
        return str((_entry(lines.readline()) or {}).get("file", ""))


def entry_key(entry: Mapping[str, Json]) -> bytes:
    """Return what tells whether two entries are of the same row."""
    return orjson.dumps([entry.get(name) for name in ("line", "code", "raw")])


def _entry(line: bytes) -> dict[str, Json] | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _row(name: str, number: int, line: bytes) -> QuarantinedRow | None:
    """Return the row that a line tells of; None where somebody has edited it past recognition."""
    entry = _entry(line)
    raw = entry.get("raw") if entry else None
    if entry is None or not isinstance(raw, str):
        return None
    try:
        data = base64.b64decode(raw, validate=True) if entry.get("encoding") == "base64" else raw.encode()
    except binascii.Error:
        return None
    settled = entry.get(_SETTLED)
    record = str(settled.get("record", "")) if isinstance(settled, dict) else None
    file, code, reason = (str(entry.get(key, "")) for key in ("file", "code", "reason"))
    number_of_line = entry.get("line")
    line_number = number_of_line if isinstance(number_of_line, int) else 0
    return QuarantinedRow(name, number, file, line_number, code, reason, data, bool(entry.get("is_cut")), record)


def _unreadable(name: str, error: OSError) -> CurateError:
    message = f"{one_line(name, 200)}: {error.strerror or error}"
    return CurateError("E908 cannot-import", message, "Nothing was changed.")
