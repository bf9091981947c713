"""The self-description of an exported dataset: what is in it, where it came from, and the digest of every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.base.file_guard import MOST_DOCUMENT, hint_of, read_file
from curate.base.record import CurateError

FILE_NAME = "manifest.json"

_Count = Field(ge=0)
_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class _ManifestPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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
    about: AboutEntry = Field(default_factory=AboutEntry)
    provenance: list[Origin] = Field(default_factory=list)
    """Where the records come from and under which licence they are, most records first."""
    files: dict[str, FileEntry]
    frozen_test: str = _SHA256
    """Digest of the sorted ids of the test split, one a line: equal digests mean comparable scores."""

    def is_same_data(self, other: Manifest) -> bool:
        """Whether both describe the same data, made by the same rules, whatever their name and time."""
        ignored = {"name", "created", "tool", "git", "findings"}
        return self.model_dump(exclude=ignored) == other.model_dump(exclude=ignored)


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
        message = f"{path}: {key}: {fault['msg']}"
        raise CurateError("E915 bad-manifest", message, "Export the workspace again.") from error
