"""A finished dataset: `dataset/vN` with a file for each split, what was left out, and a manifest; all or nothing."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import ConfigDict

from curate.base.file_guard import FileGuardError, read_file
from curate.base.record import SPLITS, UNCATEGORISED, CurateError, Json, Record, Split
from curate.base.storage import make_folder, publish_folder, write_atomic
from curate.formats.dataset.manifest import FILE_NAME, FileEntry, Manifest, SplitCounts, read_manifest

DROPPED_FILE = "dropped.jsonl"

_MESSAGE_KEYS = ("role", "content", "tool_calls", "tool_call_id", "name")
_ANSWER_KEYS = (*_MESSAGE_KEYS, "train", "weight")
_VERSION = re.compile(r"v([1-9][0-9]*)")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that is not in the dataset: a line of dropped.jsonl."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    code: str
    """The finding of the rule that leaves it out, or "decision" for a person's own words."""
    reason: str
    """Text for people."""
    kept: str
    """The record that stays instead, as of a repeat; empty where there is none."""
    score: float
    """How alike the two are, from 0 to 1; 0 where they were not compared."""
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Export:
    """A dataset on disk; ``is_new`` is False where the last one already held the same data."""

    path: Path
    manifest: Manifest
    is_new: bool
    rows: Mapping[Split, Sequence[Row]]


def row_of(record: Record, cluster: str, file: str, license_: str = "") -> Row:
    """Return the line of a dataset for ``record``: always the same keys, with explicit nulls.

    ``license_`` is that of the data set; a record's own, in ``meta.license``, wins.
    """
    own = record.meta.get("license")
    messages = [_message(message) for message in record.messages] or None
    return {
        "id": record.id,
        "kind": record.kind,
        "category": record.category or UNCATEGORISED,
        "cluster": cluster,
        "messages": messages,
        "tools": [dict(tool) for tool in record.tools] or None,
        "text": None if messages else record.text,
        "source": f"{file}:{record.source.line}",
        "license": own if isinstance(own, str) and own else license_ or None,
        "weight": None if record.weight == 1 else record.weight,
    }


def _message(message: Mapping[str, Json]) -> dict[str, Json]:
    always, known = ("role", "content"), _ANSWER_KEYS if message.get("role") == "assistant" else _MESSAGE_KEYS
    return {key: message.get(key) for key in known if key in always or message.get(key) is not None}


def frozen_digest(test_ids: Sequence[str]) -> str:
    """Return the digest of the test split's ids, in whatever order they come."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(test_ids)).encode()).hexdigest()


def latest(datasets: Path) -> Path | None:
    """Return the folder of the newest dataset below ``datasets``, None where there is none."""
    versions = {int(name[1]): path for path in datasets.glob("v*") if (name := _VERSION.fullmatch(path.name))}
    return versions[max(versions)] if versions else None


def read_pins(folder: Path) -> dict[str, Split]:
    """Return the split of every record in the dataset ``folder``.

    Raises:
        CurateError: E911 when a file does not match the manifest; E915 without a manifest.
    """
    manifest = read_manifest(folder)
    pins: dict[str, Split] = {}
    for name in SPLITS:
        path = folder / f"{name}.jsonl"
        entry = manifest.files.get(path.name)
        content = _bytes_of(path, entry.bytes) if entry else b""
        if entry is None or hashlib.sha256(content).hexdigest() != entry.sha256:
            raise CurateError(
                "E911 dataset-changed",
                f"{path} does not match {folder / FILE_NAME}",
                "Restore the file, or delete the whole folder to give its split up.",
            )
        pins.update({orjson.loads(line)["id"]: name for line in content.splitlines()})
    return pins


def _bytes_of(path: Path, most: int) -> bytes:
    """Return the bytes of a file that has ``most`` of them by its manifest, none where it is not there."""
    try:
        return read_file(path, most=most)
    except FileNotFoundError:
        return b""
    except FileGuardError as error:
        hint = f"{error.hint} Or delete the whole folder to give its split up."
        raise CurateError("E911 dataset-changed", f"{path}: {error}", hint) from error


def write_dataset(
    datasets: Path, rows: Mapping[Split, Sequence[Row]], dropped: Sequence[Dropped], about: Mapping[str, Json]
) -> Export:
    """Write ``rows`` as the next version below ``datasets``, or return the last one where it holds the same.

    ``about`` holds the entries of the manifest that the rows do not tell.

    Raises:
        CurateError: E906 when writing fails; nothing is left behind.
    """
    last = latest(datasets)
    number = int(last.name[1:]) + 1 if last else 1
    make_folder(datasets)
    temporary = Path(tempfile.mkdtemp(prefix=f".v{number}.", suffix=".tmp", dir=datasets))
    try:
        manifest = _write(temporary, f"v{number}", rows, dropped, about)
        if last and manifest.is_same_data(before := read_manifest(last)):
            return Export(last, before, False, rows)
        folder = datasets / manifest.name
        # mkdtemp makes folders private; a dataset is as readable as the user's umask says.
        temporary.chmod(datasets.stat().st_mode & 0o777)
        publish_folder(temporary, folder)
        return Export(folder, manifest, True, rows)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path, name: str, rows: Mapping[Split, Sequence[Row]], dropped: Sequence[Dropped], about: Mapping[str, Json]
) -> Manifest:
    files = {f"{split}.jsonl": rows[split] for split in SPLITS} | {DROPPED_FILE: [asdict(record) for record in dropped]}
    entries = {}
    for file, lines in files.items():
        digest = write_atomic(folder / file, _encoded(lines))
        entries[file] = FileEntry(sha256=digest, bytes=(folder / file).stat().st_size, records=len(lines))
    drops: dict[str, int] = {}
    for record in dropped:
        drops[record.code] = drops.get(record.code, 0) + 1
    manifest = Manifest.model_validate(
        {
            **about,
            "version": 1,
            "name": name,
            "counts": SplitCounts(**{split: len(rows[split]) for split in SPLITS}),
            "drops": dict(sorted(drops.items())),
            "files": entries,
            "frozen_test": frozen_digest([row["id"] for row in rows["test"]]),
        }
    )
    text = orjson.dumps(manifest.model_dump(mode="json", by_alias=True), option=orjson.OPT_INDENT_2)
    write_atomic(folder / FILE_NAME, [text, b"\n"])
    return manifest


def _encoded(lines: Sequence[Row]) -> Iterator[bytes]:
    return (orjson.dumps(line) + b"\n" for line in lines)


__all__ = [
    "DROPPED_FILE",
    "Dropped",
    "Export",
    "FILE_NAME",
    "Manifest",
    "Row",
    "frozen_digest",
    "latest",
    "read_manifest",
    "read_pins",
    "row_of",
    "write_dataset",
]
