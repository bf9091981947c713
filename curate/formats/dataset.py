"""A finished dataset: `dataset/vN` with a file for each split, what was left out, and a manifest; all or nothing.

The manifest says what is in it, where it came from, and the digest of every file.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.base.file_guard import MOST_DOCUMENT, FileGuardError, hint_of, open_file, read_file
from curate.base.record import SPLITS, UNCATEGORISED, CurateError, Json, Record, Split, trace_of
from curate.base.storage import AtomicFile, make_folder, publish_folder, write_atomic
from curate.formats.row_file import Row, RowFile

FILE_NAME = "manifest.json"
DROPPED = "dropped"

# Bytes that are read at once.
_BLOCK = 1 << 20
_BEGIN = b'{"id":"'
_PLAIN_KEYS = ("role", "content")
_MESSAGE_KEYS = (*_PLAIN_KEYS, "tool_calls", "tool_call_id", "name")
# Only an answer is ever trained, so that only an answer has marks of how.
_ANSWER_KEYS = (*_MESSAGE_KEYS, "train", "weight")
_VERSION = re.compile(r"v([1-9][0-9]*)")

_Count = Field(ge=0)
_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class _ManifestPart(BaseModel):
    # Built when the first manifest is read.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class Tool(_ManifestPart):
    """What made the dataset."""

    name: Literal["pairsmith"]
    version: str


class Git(_ManifestPart):
    """The commit that the workspace stood at, and whether it had changes beyond it."""

    commit: str = Field(pattern=r"^[0-9a-f]{40,64}$")
    is_dirty: bool


class SchemaDigest(_ManifestPart):
    """The schema that every record was checked against."""

    name: str
    sha256: str = _SHA256


class CategoryEntry(_ManifestPart):
    """How a category is scored, and its number of records in each split."""

    scorer: str
    options: dict[str, Any]
    contract: dict[str, Any] = Field(default_factory=dict)
    """Options of the metric `contract`: what completions must be, complete in itself; empty asks for nothing."""
    train: int = _Count
    validation: int = _Count
    test: int = _Count


class SplitCounts(_ManifestPart):
    """Number of records in each split."""

    train: int = _Count
    validation: int = _Count
    test: int = _Count


class FileEntry(_ManifestPart):
    """A file's digest, size and number of records."""

    sha256: str = _SHA256
    bytes: int = _Count
    records: int = _Count


class AboutEntry(_ManifestPart):
    """What the settings say of the data set, for cards and catalogues; empty where they say nothing."""

    title: str = ""
    description: str = ""
    license: str = ""
    creators: list[str] = Field(default_factory=list)
    homepage: str = ""
    citation: str = ""


class Origin(_ManifestPart):
    """Records of one source under one licence; a licence is empty where neither record nor settings name one."""

    source: str
    license: str
    records: int = _Count


class MachineText(_ManifestPart):
    """How many records are by a model: a person took what it proposed, as it was or after an edit."""

    as_proposed: int = _Count
    edited: int = _Count
    categories: dict[str, int]
    """Both together, by category."""


class Manifest(_ManifestPart):
    """What `dataset/vN/manifest.json` says."""

    version: int = Field(ge=1, le=1)
    name: str = Field(pattern=r"^v[1-9][0-9]*$")
    created: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
    """When it was made, in UTC."""
    tool: Tool
    git: Git | None
    schema_: SchemaDigest = Field(alias="schema")
    settings_sha256: str = _SHA256
    seed: int
    ratios: list[float] = Field(min_length=3, max_length=3)
    """Shares of train, validation and test as asked for."""
    objective_hint: Literal["sft", "chat", "domain"]
    """What the records are fit to train: answers to prompts, assistant turns, or whole texts."""
    categories: dict[str, CategoryEntry]
    counts: SplitCounts
    drops: dict[str, int]
    """Records left out, by the code of the reason; each is listed in dropped.jsonl."""
    findings: dict[str, int]
    """Warnings let through, by code."""
    flagged: list[str] | None = None
    """Records with open findings X7xx, such as personal data; no endpoint gets them unasked. Left out without any."""
    about: AboutEntry = Field(default_factory=AboutEntry)
    provenance: list[Origin] = Field(default_factory=list)
    """Where the records come from and under which licence they are, most records first."""
    machine: MachineText | None = None
    """Machine-made text; left out where there is none."""
    slices: list[str] | None = None
    """Fields by whose values a run compares answers; each row has its own. Left out where the settings name none."""
    files: dict[str, FileEntry]
    frozen_test: str = _SHA256
    """Digest of the sorted ids of the test split, one a line: equal digests mean comparable scores."""

    def is_same_data(self, other: Manifest) -> bool:
        """Whether both describe the same data, made by the same rules, whatever their name and time."""
        # A second export of unchanged records at another commit is the same data.
        ignored = {"name", "created", "tool", "git", "findings"}
        return self.model_dump(exclude=ignored) == other.model_dump(exclude=ignored)


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


@dataclass(frozen=True, slots=True, repr=False)
class Export:
    """A dataset on disk; ``is_new`` is False where the last one already held the same data."""

    path: Path
    manifest: Manifest
    is_new: bool

    @property
    def rows(self) -> Mapping[Split, Collection[Row]]:
        """The rows of each split, parsed from its file each time that they are gone through.

        Raises:
            CurateError: E911 when a file is not there any more.
        """
        return {split: self._rows(split, getattr(self.manifest.counts, split)) for split in SPLITS}

    def _rows(self, split: str, number: int) -> RowFile:
        path = self.path / f"{split}.jsonl"
        try:
            return RowFile(open_file(path), number)
        except OSError as error:
            raise CurateError("E911 dataset-changed", f"{path}: {error}", "Export the workspace again.") from error

    def __repr__(self) -> str:
        counts = ", ".join(f"{number:,} {split}" for split, number in self.manifest.counts)
        return f"<dataset {str(self.path)!r}: {counts}{'' if self.is_new else '; nothing has changed'}>"


def row_of(record: Record, cluster: str, file: str, license_: str = "") -> Row:
    """Return the line of a dataset for ``record``: always the same keys, with explicit nulls.

    ``license_`` is that of the data set; a record's own, in ``meta.license``, wins.
    """
    own = record.meta.get("license")
    messages = [_message(message) for message in record.messages] or None
    row = {
        "id": record.id,
        "kind": record.kind,
        "category": record.category or UNCATEGORISED,
        "cluster": cluster,
        "messages": messages,
        "tools": [dict(tool) for tool in record.tools] or None,
        # Every key is there in every row: readers that infer types from the first rows see them all.
        "text": None if messages else record.text,
        "source": f"{file}:{record.source.line}",
        "license": own if isinstance(own, str) and own else license_ or None,
        "weight": None if record.weight == 1 else record.weight,
    }
    if record.answers:
        # All rows of such a dataset have it, and no other rows.
        row["answers"] = [
            {"messages": list(map(_message, answer.messages)), "rating": answer.rating} for answer in record.answers
        ]
    return row


def _message(message: Mapping[str, Json]) -> Mapping[str, Json]:
    # Most messages are these two keys in this order.
    if tuple(message) == _PLAIN_KEYS:
        return message
    known = _ANSWER_KEYS if message.get("role") == "assistant" else _MESSAGE_KEYS
    plain = {key: message.get(key) for key in known if key in _PLAIN_KEYS or message.get(key) is not None}
    # Whatever a schema of one's own calls it, a dataset has one name for it.
    return plain | ({"reasoning_content": trace} if (trace := trace_of(message)) else {})


def frozen_digest(test_ids: Sequence[str]) -> str:
    """Return the digest of the test split's ids, in whatever order they come."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(test_ids)).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the dataset in ``folder``.

    Raises:
        CurateError: E915 when it is missing or not a manifest.
    """
    path = folder / FILE_NAME
    try:
        return Manifest.model_validate_json(read_file(path, most=MOST_DOCUMENT))
    except OSError as error:
        hint = hint_of(error, "Export the workspace again.")
        raise CurateError("E915 bad-manifest", f"{path}: {error}", hint) from error
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise CurateError(
            "E915 bad-manifest", f"{path}: {key}: {fault['msg']}", "Export the workspace again."
        ) from error


def latest(datasets: Path) -> Path | None:
    """Return the folder of the newest dataset below ``datasets``, None where there is none."""
    # By number, because v10 is newer than v9.
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
        # A split that holds for good is read only from a file that nobody has edited.
        if entry is None or (ids := _ids_of(path, entry)) is None:
            hint = "Restore the file, or delete the whole folder to give its split up."
            raise CurateError("E911 dataset-changed", f"{path} does not match {folder / FILE_NAME}", hint)
        pins.update(dict.fromkeys(ids, name))
    return pins


def _ids_of(path: Path, entry: FileEntry) -> list[str] | None:
    """Return the ids in a file of a dataset, in order; None where it is not what the manifest says."""
    digest, ids = hashlib.sha256(), list[str]()
    try:
        with open_file(path, most=entry.bytes) as file:
            while lines := file.readlines(_BLOCK):
                digest.update(b"".join(lines))
                ids += map(_id_in, lines)
    except FileGuardError as error:
        hint = f"{error.hint} Or delete the whole folder to give its split up."
        raise CurateError("E911 dataset-changed", f"{path}: {error}", hint) from error
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
    return ids if digest.hexdigest() == entry.sha256 else None


def _id_in(line: bytes) -> str:
    """Return the id in a line of a dataset; most begin with one of plain letters, and need no parser."""
    own_id = line[len(_BEGIN) : line.find(b'"', len(_BEGIN))]
    if line.startswith(_BEGIN) and own_id and b"\\" not in own_id:
        return own_id.decode()
    name: str = orjson.loads(line)["id"]
    return name


def write_dataset(
    datasets: Path,
    rows: Iterable[tuple[Split, Row]],
    dropped: Iterable[Dropped],
    about: Callable[[], Mapping[str, Json]],
) -> Export:
    """Write ``rows`` as the next version below ``datasets``, or return the last one where it holds the same.

    ``rows`` are gone through once, in the order that they have within their files. ``about`` is called after that, and
    returns the entries of the manifest that are not counted here.

    Raises:
        CurateError: E906 when writing fails; nothing is left behind.
    """
    last = latest(datasets)
    number = int(last.name[1:]) + 1 if last else 1
    make_folder(datasets)
    # Its name begins with a dot until it is whole, so that `latest` never finds half a dataset.
    temporary = Path(tempfile.mkdtemp(prefix=f".v{number}.", suffix=".tmp", dir=datasets))
    try:
        manifest = _write(temporary, f"v{number}", rows, dropped, about)
        if last and manifest.is_same_data(before := read_manifest(last)):
            # By this time a person sees that it is not older than the data.
            (last / FILE_NAME).touch()
            return Export(last, before, False)
        folder = datasets / manifest.name
        # mkdtemp makes folders private; a dataset is as readable as the user's umask says.
        temporary.chmod(datasets.stat().st_mode & 0o777)
        publish_folder(temporary, folder)
        return Export(folder, manifest, True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path,
    name: str,
    rows: Iterable[tuple[Split, Row]],
    dropped: Iterable[Dropped],
    about: Callable[[], Mapping[str, Json]],
) -> Manifest:
    counts, drops = Counter[str](), Counter[str]()
    test_ids: list[str] = []
    entries: dict[str, FileEntry] = {}
    with ExitStack() as stack:
        files = {
            part: stack.enter_context(closing(AtomicFile(folder / f"{part}.jsonl"))) for part in (*SPLITS, DROPPED)
        }
        for split, row in rows:
            files[split].write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            counts[split] += 1
            if split == "test":
                test_ids.append(row["id"])
        for record in dropped:
            files[DROPPED].write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            counts[DROPPED] += 1
            drops[record.code] += 1
        for part, file in files.items():
            digest = file.commit()
            entries[file.path.name] = FileEntry(sha256=digest, bytes=file.num_bytes, records=counts[part])
    manifest = Manifest.model_validate(
        {
            **about(),
            "version": 1,
            "name": name,
            "counts": SplitCounts(**{split: counts[split] for split in SPLITS}),
            "drops": dict(sorted(drops.items())),
            "files": entries,
            "frozen_test": frozen_digest(test_ids),
        }
    )
    # The manifest comes last: where there is one, every file that it names was written and synced.
    # What says nothing is left out, so that data without it makes the same bytes as before it was known.
    absent = {name for name in ("flagged", "machine", "slices") if getattr(manifest, name) is None}
    fields = manifest.model_dump(mode="json", by_alias=True, exclude=absent)
    text = orjson.dumps(fields, option=orjson.OPT_INDENT_2)
    write_atomic(folder / FILE_NAME, [text, b"\n"])
    return manifest
