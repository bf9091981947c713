"""Finished stages of a comparison in files that can be deleted at any time, so that a call resumes what another began.

A stage is a folder of arrays, named by a digest of all that it was computed from: contents, settings, and this code.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from curate.base.file_guard import MOST_STATE, open_file, read_file
from curate.base.packs import release_pages
from curate.base.record import CurateError
from curate.base.storage import Scratch, remove_folder

# Raised whenever the same input would give other arrays.
VERSION = 5
# A stage that no call has used for a week is removed.
MAX_AGE_DAYS = 7
_ABOUT = "about"
_NAMED = re.compile(r"[a-z]+-[0-9a-f]{32}|\.[a-z]+-[0-9a-f]{32}\.[0-9]+\.tmp")
_PIECE = 1 << 24

Arrays = Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class Stages:
    """Where finished stages lie. Without a folder, or when it cannot be written to, each is computed in memory."""

    folder: Path | None = None
    remarks: list[str] = field(default_factory=list)
    """What stood in the way of keeping a stage."""
    num_resumed: int = 0
    """Stages that were there already."""

    def arrays(self, stage: str, about: tuple[object, ...], make: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of a stage: those of an earlier call about the same, else what ``make`` returns."""
        folder = self._folder_of(stage, about)
        if folder is None:
            return make()
        if (cached := self._read(folder)) is not None:
            self.num_resumed += 1
            return cached
        arrays = make()
        self._write(folder, arrays)
        return arrays

    def _folder_of(self, stage: str, about: tuple[object, ...]) -> Path | None:
        if self.folder is None:
            return None
        # Processors have instructions for it, which makes it four times as fast as BLAKE2.
        digest = sha256()
        for part in (VERSION, version("pairsmith"), np.__version__, stage, *about):
            content = np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode()
            digest.update(len(content).to_bytes(8, "little") + content)
        return self.folder / f"{stage}-{digest.hexdigest()[:32]}"

    def _read(self, folder: Path) -> Arrays | None:
        """Return the arrays of a finished stage; one that is not whole is removed."""
        try:
            digest, _, content = read_file(folder / _ABOUT, most=MOST_STATE).partition(b"\n")
            if digest != _digest(content):
                raise ValueError(f"{folder} was changed")
            about = orjson.loads(content)
            arrays = {name: _mapped(folder / f"{name}.bin", form) for name, form in about["arrays"].items()}
        except (OSError, ValueError):
            # Not there yet, or somebody has cut or changed a file; all of it can be computed again.
            remove_folder(folder)
            return None
        with suppress(OSError):
            # So that `sweep` sees when it was used last.
            (folder / _ABOUT).touch()
        return arrays

    def _write(self, folder: Path, arrays: Arrays) -> None:
        try:
            scratch = Scratch(folder)
            try:
                _fill(scratch, arrays)
                scratch.publish()
            finally:
                scratch.discard()
        except CurateError as error:
            # It goes on without a folder: a stage that is not kept is only computed again.
            self.remarks.append(f"finished stages are not kept: {error.message}")
            self.folder = None

    def sweep(self) -> None:
        """Remove stages that were not used for 7 days, and what processes that ended badly left a day ago."""
        # Whatever is not called like a stage is somebody else's, and stays.
        for path in self.folder.glob("*") if self.folder is not None else ():
            if not _NAMED.fullmatch(path.name):
                continue
            with suppress(OSError):
                used = (path / _ABOUT if (path / _ABOUT).exists() else path).stat().st_mtime
                if time.time() - used > 86400 * (1 if path.name.startswith(".") else MAX_AGE_DAYS):
                    remove_folder(path)


def _form(array: NDArray[Any]) -> dict[str, Any]:
    """Return what has to be known of an array to read it from its file, and the digest of what it holds."""
    return {"dtype": array.dtype.str, "shape": list(array.shape), "digest": _digest(_bytes_of(array)).decode()}


def _mapped(path: Path, form: dict[str, Any]) -> NDArray[Any]:
    """Map an array from its file."""
    kind, shape = np.dtype(form["dtype"]), form["shape"]
    if path.stat().st_size != kind.itemsize * int(np.prod(shape)):
        raise ValueError(f"{path} has another size")
    if 0 in shape:
        return np.zeros(shape, kind)
    with open_file(path) as file:
        array = np.memmap(file, kind, "r", shape=tuple(shape))
    # numpy cannot know the name of an open file, by which workers elsewhere map the same.
    array.filename = str(path)
    if _digest(_bytes_of(array)).decode() != form["digest"]:
        raise ValueError(f"{path} was changed")
    release_pages(array)
    return array


def _fill(scratch: Scratch, arrays: Arrays) -> None:
    for name, array in arrays.items():
        content = _bytes_of(array)
        for low in range(0, max(1, len(content)), _PIECE):
            scratch.append(f"{name}.bin", content[low : low + _PIECE])
    about = orjson.dumps({"arrays": {name: _form(array) for name, array in arrays.items()}})
    scratch.append(_ABOUT, _digest(about) + b"\n" + about)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _digest(content: bytes | memoryview) -> bytes:
    return sha256(content).hexdigest()[:32].encode()
