"""What an import has taken from a file, as digests: the next one tells by it who has changed a line since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import tee
from pathlib import Path

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


def note_source(root: Path, target: Path, shape: Shape) -> None:
    """Note that the record file ``target`` is what an import has just written; without a record there is no file."""

    # Read once more, because an import does not hold what it writes.
    def records() -> Iterator[tuple[str, FieldDigests]]:
        ids, lines = tee(item.value for item in read_entries(target, root=root) if isinstance(item, Entry))
        names = numbered(shape.record(line, Source("", 0)).id for line in ids)
        yield from zip(names, map(field_digests, lines), strict=True)

    if target.is_file():
        write_note(note_path(root, target), "", records())


def numbered(names: Iterable[str]) -> Iterator[str]:
    """Yield names that differ: one that comes again in the same file has a number behind it."""
    counts: Counter[str] = Counter()
    for name in names:
        counts[name] += 1
        yield name if counts[name] == 1 else f"{name}\0{counts[name]}"


def write_note(path: Path, key: str, records: Iterable[tuple[str, FieldDigests]]) -> None:
    """Write the note ``path``: the column that names a record, and by id what the source said last.

    Raises:
        CurateError: E906 when it cannot be written.
    """

    def chunks() -> Iterator[bytes]:
        # One record a line, so that git shows which of them an update has changed.
        yield b'{"version":1,"key":' + orjson.dumps(key) + b',"records":{'
        for number, (name, digests) in enumerate(records):
            yield b"".join([b",\n" if number else b"\n", orjson.dumps(name), b":", orjson.dumps(digests)])
        yield b"\n}}\n"

    write_atomic(path, chunks())


def read_note(path: Path) -> tuple[str, dict[str, FieldDigests]] | None:
    """Return the key and what the source said of each record, by id; None where there is no note.

    Raises:
        CurateError: E993 when it is not what an import writes.
    """
    if not path.exists():
        return None
    try:
        note = orjson.loads(read_file(path, most=_MOST_BYTES))
        if note["version"] == 1 and isinstance(note["key"], str) and all(map(_is_digests, note["records"].values())):
            return note["key"], note["records"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    hint = "Restore it from git or another copy; without it, remove it: then all lines count as the source's."
    raise CurateError("E993 bad-note", f"{path} is not what an import writes", hint)


def _is_digests(value: Json) -> bool:
    return isinstance(value, dict) and all(isinstance(digest, str) for digest in value.values())
