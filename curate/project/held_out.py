"""Texts that datasets have held out: what was once in a test or validation split is never trained on.

The last dataset alone knows the splits of its own records. A record that misses one dataset, that comes back under
another id, or whose dataset was deleted would be divided anew: `held_out.json` remembers its text. Add it to git.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curate.base.file_guard import MOST_STATE, inside, open_file, read_file
from curate.base.record import CurateError, Split
from curate.base.storage import write_atomic

if TYPE_CHECKING:
    from curate.project.records import Records

FILE_NAME = "held_out.json"
_MARK = re.compile(rb'\{\s*"version": *1,\s*"frozen": *"([0-9a-f]{64})"')
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class HeldOut(BaseModel):
    """What ``held_out.json`` says: by the digest of what was said, the last record that did so in a dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    version: Annotated[int, Field(ge=1, le=1)] = 1
    frozen: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """The digest of the ids of golden.json while that is frozen, so that the file cannot vanish unseen."""
    validation: dict[_Digest, str] = Field(default_factory=dict)
    test: dict[_Digest, str] = Field(default_factory=dict)

    def by_id(self) -> dict[str, Split]:
        """Return the split of each record that a dataset has held out."""
        splits: tuple[tuple[Split, Mapping[str, str]], ...] = (("validation", self.validation), ("test", self.test))
        return {name: split for split, texts in splits for name in texts.values()}

    def pins(self, records: Records, pins: Mapping[str, Split]) -> dict[str, Split]:
        """Return the split of each of ``records`` that has one for good.

        First by its text, then by ``pins``, those of the last dataset, then by its id.
        """
        splits: tuple[tuple[Split, Mapping[str, str]], ...] = (("validation", self.validation), ("test", self.test))
        by_text: dict[str, Split] = {digest: split for split, texts in splits for digest in texts}
        by_id = self.by_id()
        held = dict(pins)
        if by_text:
            for name, digest in zip(records.ids, records.said, strict=True):
                split = by_text.get(digest) or pins.get(name) or by_id.get(name)
                held |= {name: split} if split else {}
        return held


def read_held_out(root: Path) -> HeldOut:
    """Return what the datasets of the workspace ``root`` have held out; nothing before the first one.

    Raises:
        CurateError: E911 when the file is not what an export writes; E914 when it lies outside the workspace.
    """
    path = inside(root, root / FILE_NAME)
    try:
        return HeldOut.model_validate_json(read_file(path, root, most=MOST_STATE))
    except FileNotFoundError:
        return HeldOut(frozen="")
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        hint = "Restore it from git, after a merge with the lines of both sides: else test texts are trained on."
        raise CurateError("E911 dataset-changed", f"{path}: {reason}", hint) from error


def frozen_mark(root: Path) -> str:
    """Return the digest of the frozen test set, "" while nothing is frozen; only the head of the file is read."""
    try:
        with open_file(inside(root, root / FILE_NAME)) as file:
            match = _MARK.match(file.read(200))
    except FileNotFoundError:
        return ""
    return match[1].decode() if match else ""


def note_frozen(root: Path, mark: str, texts: Mapping[str, str]) -> None:
    """Remember that a test set is frozen, by its digest ``mark``, or is no more; ``texts`` are held out from now on.

    Raises:
        CurateError: E906 when it is not written; and as `read_held_out`.
    """
    before = read_held_out(root)
    test = dict(sorted({**before.test, **texts}.items()))
    _write(root, before.model_copy(update={"frozen": mark, "test": test}))


def _write(root: Path, held_out: HeldOut) -> None:
    content = orjson.dumps(held_out.model_dump(), option=orjson.OPT_INDENT_2)
    write_atomic(inside(root, root / FILE_NAME), [content, b"\n"])


def note_held_out(root: Path, rows: Iterable[tuple[Split, str, str]]) -> None:
    """Remember what a dataset holds out: the split, id and text digest of rows that are not trained on.

    Raises:
        CurateError: E906 when it is not written; and as `read_held_out`.
    """
    before = read_held_out(root)
    texts: dict[str, dict[str, str]] = {"validation": dict(before.validation), "test": dict(before.test)}
    for split, name, digest in rows:
        texts[split][digest] = name
    validation, test = (dict(sorted(texts[split].items())) for split in ("validation", "test"))
    after = HeldOut(frozen=before.frozen, validation=validation, test=test)
    if after != before:
        _write(root, after)
