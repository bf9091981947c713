"""Open an exported dataset: recompute every digest, read every row strictly, trust nothing that the manifest says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from train.base.errors import TrainError
from train.base.file_guard import MOST_DOCUMENT, FileGuardError, read_file
from train.base.storage import MOST_LEVELS, depth, unique_members

MANIFEST = "manifest.json"
VERSION = 1
"""The version of manifests that is read here."""
MOST_WEIGHT = 1000
SPLITS = ("train", "validation", "test")
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


@dataclass(frozen=True)
class Row:
    """One record as `curate export` wrote it: messages, or raw text."""

    id: str
    category: str
    cluster: str
    messages: list[dict[str, Any]] | None
    tools: list[dict[str, Any]] | None
    text: str | None
    source: str = ""
    weight: float = 1.0
    """How much each trained token of the record counts in the loss."""


@dataclass(frozen=True)
class Dataset:
    """A verified export: its manifest, its rows by split, and the SHA-256 of its manifest."""

    path: Path
    manifest: dict[str, Any]
    splits: dict[str, list[Row]]
    digest: str


def open_dataset(folder: Path) -> Dataset:
    """Return the dataset in ``folder`` after its files proved to be those that the manifest describes.

    Raises TrainError "E911 dataset-changed" where a file's SHA-256, size or number of rows differs, and "E912
    bad-dataset" where the manifest or a row cannot be read, with file and line.
    """
    manifest_path = folder / MANIFEST
    raw = _read(manifest_path, MOST_DOCUMENT, "curate export writes one, with the rows beside it")
    manifest = _parse_object(raw, manifest_path.name)
    if type(manifest.get("version")) is not int or manifest["version"] != VERSION:
        raise TrainError(
            "E912 bad-dataset",
            f"{manifest_path}: its version is {json.dumps(manifest.get('version'))[:40]}; this program reads {VERSION}",
            "upgrade pairsmith, or export again with the one that is installed here",
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not isinstance(manifest.get("categories", {}), dict):
        raise TrainError("E912 bad-dataset", f"{manifest_path}: no table of files and categories")
    splits: dict[str, list[Row]] = {}
    for split in SPLITS:
        name = f"{split}.jsonl"
        if name in files:
            splits[split] = _read_rows(folder / name, files[name])
        elif (folder / name).exists():
            raise TrainError("E911 dataset-changed", f"{folder / name} is not in the manifest", _EXPORT_AGAIN)
        else:
            splits[split] = []
    _check_unique_ids(splits)
    return Dataset(folder, manifest, splits, hashlib.sha256(raw).hexdigest())


def sample_rows(rows: Sequence[Row], most: int) -> list[Row]:
    """Return at most ``most`` rows by the hash of their ids: the same ones whatever their order and number."""
    return sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())[:most]


_EXPORT_AGAIN = "export the dataset again; runs never use rows that no manifest vouches for"


def _read(path: Path, most: int, hint: str, refused: str = "E912 bad-dataset") -> bytes:
    """Return the bytes of a file; ``refused`` is the error code where the file guard refuses it."""
    try:
        return read_file(path, most=most)
    except FileGuardError as error:
        raise TrainError(refused, f"{path}: {error}", error.hint) from None
    except OSError as error:
        raise TrainError("E912 bad-dataset", f"{path}: {error.strerror}", hint) from None


def _read_rows(path: Path, entry: Any) -> list[Row]:
    size = entry.get("bytes") if isinstance(entry, dict) else None
    if type(size) is not int:
        raise TrainError("E912 bad-dataset", f"{MANIFEST}: {path.name} has no number of bytes", _EXPORT_AGAIN)
    # The size is checked before a byte is read: a file that grew is not the one that the manifest describes.
    raw = _read(path, size, _EXPORT_AGAIN, "E911 dataset-changed")
    if entry.get("sha256") != hashlib.sha256(raw).hexdigest():
        raise TrainError("E911 dataset-changed", f"{path}: the SHA-256 is not the manifest's", _EXPORT_AGAIN)
    rows = [read_row(line, f"{path.name}:{number}") for number, line in enumerate(raw.split(b"\n"), 1) if line.strip()]
    if entry.get("records", len(rows)) != len(rows):
        raise TrainError(
            "E911 dataset-changed", f"{path}: {len(rows)} rows, the manifest says {entry['records']}", _EXPORT_AGAIN
        )
    return rows


def read_row(line: bytes, location: str) -> Row:
    """Return the row that a line holds; ``location`` names the line. Raises TrainError "E912 bad-dataset"."""
    value = _parse_object(line, location)
    for key in ("id", "kind", "category", "cluster"):
        if not isinstance(value.get(key), str):
            _refuse(location, f"{key} must be text")
    if not value["id"]:
        _refuse(location, "id is empty")
    messages, text, tools = value.get("messages"), value.get("text"), value.get("tools")
    if (messages is None) == (text is None):
        _refuse(location, f"record {value['id']!r} needs either messages or text")
    if text is not None and not isinstance(text, str):
        _refuse(location, "text must be text")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        _refuse(location, "tools must be a list of objects")
    if messages is not None:
        _check_messages(messages, location)
    source, weight = value.get("source"), value.get("weight")
    if weight is not None and not _is_weight(weight):
        _refuse(location, f"weight must be a number from 0 to {MOST_WEIGHT}")
    return Row(
        value["id"], value["category"], value["cluster"] or value["id"], messages, tools or None, text,
        source if isinstance(source, str) else "", 1.0 if weight is None else float(weight),
    )  # fmt: skip


def _check_messages(messages: Any, location: str) -> None:
    if not isinstance(messages, list) or not messages:
        _refuse(location, "messages must be a list with at least one message")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            _refuse(location, f"messages[{number}].role must be one of {', '.join(sorted(ROLES))}")
        # Other exporters leave content out where there are tool calls; from here on every message has one.
        if not isinstance(message.setdefault("content", None), str | None):
            _refuse(location, f"messages[{number}].content must be text or null")
        calls = message.get("tool_calls")
        if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
            _refuse(location, f"messages[{number}].tool_calls must be a list of objects")
        is_trained, weight = message.get("train"), message.get("weight")
        if not isinstance(is_trained, bool | None):
            _refuse(location, f"messages[{number}].train must be true or false")
        if weight is not None and not _is_weight(weight):
            _refuse(location, f"messages[{number}].weight must be a number from 0 to {MOST_WEIGHT}")
        if message["role"] != "assistant" and (is_trained or weight):
            _refuse(
                location,
                f"messages[{number}]: only what the assistant says is trained, so train and weight are its own",
            )


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_WEIGHT


def _check_unique_ids(splits: Mapping[str, list[Row]]) -> None:
    split_of: dict[str, str] = {}
    for split, rows in splits.items():
        for row in rows:
            if row.id in split_of:
                raise TrainError(
                    "E912 bad-dataset", f"record {row.id!r} stands in {split_of[row.id]} and again in {split}"
                )
            split_of[row.id] = split


def _parse_object(raw: bytes, location: str) -> dict[str, Any]:
    # JSON without duplicate keys, NaN or lone surrogates; the last two would be other data after one save.

    def no_constants(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=unique_members, parse_constant=no_constants)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
        if depth(value) > MOST_LEVELS:
            raise ValueError(f"nested deeper than {MOST_LEVELS} levels")
    except (ValueError, RecursionError) as error:
        _refuse(location, str(error) or "nested too deeply")
    if not isinstance(value, dict):
        _refuse(location, "not an object")
    return dict(value)


def _refuse(location: str, what: str) -> NoReturn:
    raise TrainError("E912 bad-dataset", f"{location}: {what}", "curate validate finds such lines; then export again")
