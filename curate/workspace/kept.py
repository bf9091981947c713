"""What `curate fold` has kept of the decisions that it put into the record files: ``journal/folded/<n>.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.journal import FOLDER
from curate.record import CurateError
from curate.workspace.trail import Kept

_SHA256 = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FoldedFile(_Part):
    """A file, relative to the workspace, and the SHA-256 of its bytes."""

    path: str = Field(min_length=1)
    sha256: str = Field(pattern=_SHA256)


class FoldedRecord(_Part):
    """One record's last events and the value of every facet that any of its decisions touched."""

    heads: list[str]
    facts: list[tuple[list[str], Any]]


class Folded(_Part):
    """All that was ever folded: each fold writes it anew, whole, under the next number."""

    v: Annotated[int, Field(ge=1, le=1)]
    number: int = Field(ge=1)
    segments: list[FoldedFile]
    """The segments that this fold took up; they lie in ``journal/retired/<n>/`` afterwards."""
    files: list[FoldedFile]
    """The record files that this fold wrote."""
    records: dict[str, FoldedRecord]


def read_folded(root: Path) -> Folded | None:
    """Return what the last fold of the workspace ``root`` has kept, None before the first.

    Raises:
        CurateError: E913 when the file is not what a fold writes.
    """
    found = [path for path in (root / FOLDER / "folded").glob("*.json") if path.stem.isdecimal()]
    if not found:
        return None
    path = max(found, key=lambda path: int(path.stem))
    try:
        # Facets are lists in JSON; strict validation of Python values would refuse them as tuples.
        return Folded.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CurateError(
            "E913 unknown-event",
            f"{path}: {error.errors()[0]['msg']}",
            "It is damaged, or a newer version of pairsmith has made it. See `curate fsck`.",
        ) from error


def kept_by_record(folded: Folded | None) -> dict[str, Kept]:
    """Return what was kept in the form that `curate.workspace.fold` takes."""
    if folded is None:
        return {}
    return {
        name: Kept(tuple(one.heads), {tuple(facet): value for facet, value in one.facts})
        for name, one in folded.records.items()
    }
