"""How a file was read and what it said: every later import of its name reads alike, and sees who changed a line."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import chain, tee
from pathlib import Path

import orjson
import tomlkit

from curate.base.file_guard import MOST_DOCUMENT, read_file
from curate.base.record import CurateError, Json, Source, canonical
from curate.base.storage import write_atomic
from curate.formats.import_plan import Reading
from curate.jsonl import Entry, read_entries
from curate.schema import Shape

NOTES_FOLDER = "imports"
_MOST_BYTES = 1 << 32

# By top-level key of a line, a digest of its value.
FieldDigests = Mapping[str, str]


def note_path(root: Path, target: Path) -> Path:
    """Return where it is noted how the source of the record file ``target`` was read."""
    return root / NOTES_FOLDER / f"{target.stem}.toml"


def field_digests(line: Mapping[str, Json]) -> dict[str, str]:
    """Return a digest of the value of each top-level key, 16 hex digits."""
    # Most are texts, which need no spelling.
    spelled = {
        key: b'"' + value.encode() if isinstance(value, str) else canonical(value) for key, value in line.items()
    }
    return {key: blake2b(value, digest_size=8).hexdigest() for key, value in spelled.items()}


def note_source(root: Path, target: Path, shape: Shape, reading: Reading) -> None:
    """Note that the record file ``target`` is what an import has just written; without a record there is no file."""

    # Read once more, because an import does not hold what it writes.
    def records() -> Iterator[tuple[str, FieldDigests]]:
        ids, lines = tee(item.value for item in read_entries(target, root=root) if isinstance(item, Entry))
        names = numbered(shape.record(line, Source("", 0)).id for line in ids)
        yield from zip(names, map(field_digests, lines), strict=True)

    if target.is_file():
        write_note(note_path(root, target), reading, records())


def numbered(names: Iterable[str]) -> Iterator[str]:
    """Yield names that differ: one that comes again in the same file has a number behind it."""
    counts: Counter[str] = Counter()
    for name in names:
        counts[name] += 1
        yield name if counts[name] == 1 else f"{name}\0{counts[name]}"


def write_note(path: Path, reading: Reading, records: Iterable[tuple[str, FieldDigests]]) -> None:
    """Write how the source was read to ``path``, and beside it, by id, what it said last.

    Raises:
        CurateError: E906 when it cannot be written.
    """
    # One record a line, so that git shows which of them an update has changed.
    items = (orjson.dumps(name) + b":" + orjson.dumps(digests) for name, digests in records)
    lines = (b"%s\n%s" % (b"," if number else b"", item) for number, item in enumerate(items))
    write_atomic(path.with_suffix(".json"), chain([b"{"], lines, [b"\n}\n"]))
    # This one comes last: where it is, the other is whole.
    write_atomic(path, [tomlkit.dumps(reading.model_dump(mode="json", exclude_defaults=True)).encode()])


def read_reading(path: Path) -> Reading | None:
    """Return how the source was read; None where there is no note.

    Raises:
        CurateError: E993 when it is not what an import writes.
    """
    if not path.exists():
        return None
    try:
        return Reading.model_validate(tomllib.loads(read_file(path, most=MOST_DOCUMENT).decode()))
    except (OSError, ValueError) as error:
        raise _bad_note(path) from error


def read_digests(path: Path) -> dict[str, FieldDigests]:
    """Return what the source said of each record, by id, as it is noted beside ``path``.

    Raises:
        CurateError: E993 when it is not what an import writes.
    """
    path = path.with_suffix(".json")
    try:
        records: dict[str, FieldDigests] = orjson.loads(read_file(path, most=_MOST_BYTES))
        if all(isinstance(digest, str) for digests in records.values() for digest in digests.values()):
            return records
    except (OSError, ValueError, AttributeError) as error:
        raise _bad_note(path) from error
    raise _bad_note(path)


def _bad_note(path: Path) -> CurateError:
    hint = "Restore it from git or another copy, or remove the .toml beside it: then all lines count as the source's."
    return CurateError("E993 bad-note", f"{path} is not what an import writes", hint)
