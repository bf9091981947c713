"""What an import has taken from a file, and how it was read: the next one reads alike, and sees who changed a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from itertools import tee
from pathlib import Path
from typing import Any

import orjson

from curate.base.file_guard import read_file
from curate.base.record import CurateError, Json, Source, canonical
from curate.base.storage import write_atomic
from curate.jsonl import Entry, read_entries
from curate.schema import Shape

NOTES_FOLDER = "imports"
_MOST_BYTES = 1 << 32

# By top-level key of a line, a digest of its value.
FieldDigests = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a file was read, so that an update reads it in the same way; what is empty is left to the file."""

    format: str = ""
    mapping: Mapping[str, str] = field(default_factory=dict)
    only: tuple[tuple[str, str], ...] = ()
    """Pairs of a column and the value that it must have."""
    to_meta: Sequence[str] = ()
    encoding: str = ""
    category: str = ""
    split: str = ""
    key: str = ""
    """The column or JSON pointer that names a record for an update; empty for its id."""
    id_prefix: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)
    """The records whose ids are not those of the file, by these: a taken id is another one, an empty one no record."""

    def otherwise(self, **options: Any) -> ImportOptions:
        """Return the reading with those of ``options`` that say something."""
        return replace(self, **{name: value for name, value in options.items() if value})


def note_path(root: Path, target: Path) -> Path:
    """Return where the note of the import to the record file ``target`` lies."""
    return root / NOTES_FOLDER / f"{target.stem}.json"


def field_digests(line: Mapping[str, Json]) -> dict[str, str]:
    """Return a digest of the value of each top-level key, 16 hex digits."""
    # Most are texts, which need no spelling.
    spelled = {
        key: b'"' + value.encode() if isinstance(value, str) else canonical(value) for key, value in line.items()
    }
    return {key: blake2b(value, digest_size=8).hexdigest() for key, value in spelled.items()}


def note_source(root: Path, target: Path, shape: Shape, reading: ImportOptions) -> None:
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


def write_note(path: Path, reading: ImportOptions, records: Iterable[tuple[str, FieldDigests]]) -> None:
    """Write the note ``path``: how the source was read, and by id what it said last.

    Raises:
        CurateError: E906 when it cannot be written.
    """

    def chunks() -> Iterator[bytes]:
        # One record a line, so that git shows which of them an update has changed.
        yield b'{"version":2,"reading":' + orjson.dumps(asdict(reading)) + b',"records":{'
        for number, (name, digests) in enumerate(records):
            yield b"".join([b",\n" if number else b"\n", orjson.dumps(name), b":", orjson.dumps(digests)])
        yield b"\n}}\n"

    write_atomic(path, chunks())


def read_note(path: Path) -> tuple[ImportOptions, dict[str, FieldDigests]] | None:
    """Return how the source was read and what it said of each record, by id; None where there is no note.

    Raises:
        CurateError: E993 when it is not what an import writes.
    """
    if not path.exists():
        return None
    try:
        note = orjson.loads(read_file(path, most=_MOST_BYTES))
        if note["version"] == 2 and all(map(_is_digests, note["records"].values())):
            return _reading_of(note["reading"]), note["records"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    hint = "Restore it from git or another copy; without it, remove it: then all lines count as the source's."
    raise CurateError("E993 bad-note", f"{path} is not what an import writes", hint)


def _reading_of(value: Mapping[str, Any]) -> ImportOptions:
    """Return what a note says of the reading; TypeError and ValueError where it is none."""
    reading = ImportOptions(**value)
    pairs = [*reading.mapping.items(), *reading.ids.items(), *((column, wanted) for column, wanted in reading.only)]
    texts = [
        reading.format,
        reading.encoding,
        reading.category,
        reading.split,
        reading.key,
        reading.id_prefix,
        *reading.to_meta,
        *sum(pairs, ()),
    ]
    if not all(isinstance(text, str) for text in [*texts, *sum(pairs, ())]):
        raise TypeError("all that a reading says is text")
    return replace(reading, only=tuple((column, wanted) for column, wanted in reading.only))


def _is_digests(value: Json) -> bool:
    return isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values())
