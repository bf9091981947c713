"""A content-addressed cache of arrays and values: the same inputs are computed once.

An entry is a folder named by its key; it is whole or absent. A damaged entry is reported, removed and computed again.
Nothing in it is ever executed or unpickled.

``TRAIN_CACHE`` names the folder, or is "off"; else it is ``$XDG_CACHE_HOME/pairsmith/train`` (``~/.cache/...``).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.base import console
from train.base.errors import TrainError
from train.base.storage import MOST_DOCUMENT, WRITE_FAILED, open_file, read_file, sha256_of, whole_folder, writing

VARIABLE = "TRAIN_CACHE"
MOST_BYTES = 4 << 30
_MANIFEST, _VERSION = "manifest", 2
_DAY = 86_400
# Little-endian on every machine, since a home folder may be shared between several.
_TYPES = ("<i4", "<i8", "<f8", "|u1")


@dataclass(frozen=True)
class Entry:
    """One entry: its arrays, mapped and read-only, and the plain JSON values that go with them."""

    arrays: dict[str, Any]
    values: dict[str, Any]


class Cache:
    """The entries in ``folder``; those used longest ago are removed where all together pass ``most_bytes``."""

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self.folder, self.most_bytes = folder, most_bytes

    def get(self, key: str) -> Entry | None:
        """Return the entry of ``key`` after its digests were checked; None where it is absent or damaged."""
        folder = self.folder / key
        if not folder.is_dir():
            return None
        try:
            entry = _read(folder, key)
            # The time of use, by which `_prune` chooses what goes first.
            os.utime(folder)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            console.info(f"warning: the cache entry {folder} is damaged ({error}); it is computed again")
            shutil.rmtree(folder, ignore_errors=True)
            return None
        return entry

    def put(self, key: str, batches: Iterable[Mapping[str, Any]], values: Mapping[str, Any]) -> None:
        """Write an entry; where the disk refuses, warn and go on.

        An array of the entry is those of the ``batches`` under its name, end to end; none is held longer than it takes
        to write it. ``values`` are looked at after the last one. Raises what ``batches`` raises; then nothing is there.
        """
        if (self.folder / key).exists():
            # Another process has written the same entry.
            return
        try:
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                with whole_folder(self.folder / key) as work:
                    # The entry holds private records, and other users may be able to read the folder around it.
                    work.chmod(0o700)
                    _write(work, key, batches, values)
                self._prune(key)
        except TrainError as error:
            if error.code != WRITE_FAILED:
                raise
            # A cache only saves time, so a full disk is no reason to end a run.
            console.info(f"warning: nothing is cached: {error.message}")

    def _prune(self, newest: str) -> None:
        folders, total = sorted(self.folder.iterdir(), key=lambda folder: -folder.stat().st_mtime_ns), 0
        # The newest entry always stays: the caller maps its arrays now.
        for folder in sorted(folders, key=lambda folder: folder.name != newest):
            if folder.name.startswith("."):
                # Left behind by a killed process, or being written by another one now.
                if time.time() - folder.stat().st_mtime > _DAY:
                    shutil.rmtree(folder, ignore_errors=True)
            elif (folder / _MANIFEST).is_file():
                total += sum(file.stat().st_size for file in folder.iterdir())
                if total > self.most_bytes and folder.name != newest:
                    shutil.rmtree(folder)
                    console.info(f"cache: {folder} is removed; the limit is {self.most_bytes / 1e6:,.0f} MB")


def open_cache() -> Cache | None:
    """Return the cache that TRAIN_CACHE names; None where it is turned off or the user has no home folder."""
    setting = os.environ.get(VARIABLE, "")
    if setting == "off":
        return None
    if setting:
        return Cache(Path(setting))
    home = cache_home()
    return Cache(home / "train") if home else None


def cache_home() -> Path | None:
    """Return the folder that holds all caches of this user; None where the user has no home folder."""
    # The XDG specification says that a relative path is to be ignored.
    setting = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(setting) if setting.startswith("/") else Path.home() / ".cache") / "pairsmith"
    except RuntimeError:
        return None


def _write(work: Path, key: str, batches: Iterable[Mapping[str, Any]], values: Mapping[str, Any]) -> None:
    parts: dict[str, dict[str, Any]] = {}
    for arrays in batches:
        for name, array in arrays.items():
            flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            assert flat.dtype.str in _TYPES, flat.dtype
            part = parts.setdefault(name, {"type": flat.dtype.str, "shape": [0, *flat.shape[1:]]})
            part["shape"][0] += len(flat)
            with (work / f"{name}.bin").open("ab") as file:
                file.write(flat.reshape(-1).view(np.uint8).data)
    for name, part in parts.items():
        part["sha256"] = sha256_of(work / f"{name}.bin")
    about = json.dumps({"version": _VERSION, "key": key, "parts": parts, "values": values}).encode()
    # The manifest comes last and vouches for all the rest, itself included.
    (work / _MANIFEST).write_bytes(hashlib.sha256(about).hexdigest().encode() + b"\n" + about)


def _read(folder: Path, key: str) -> Entry:
    digest, _, about = read_file(folder / _MANIFEST, most=MOST_DOCUMENT).partition(b"\n")
    if digest.decode() != hashlib.sha256(about).hexdigest():
        raise ValueError("the SHA-256 of the manifest itself differs")
    manifest, arrays = json.loads(about), {}
    if (manifest["version"], manifest["key"]) != (_VERSION, key):
        raise ValueError("the manifest belongs to another entry")
    for name, part in manifest["parts"].items():
        dtype, shape, file = np.dtype(part["type"]), tuple(part["shape"]), folder / f"{name}.bin"
        if part["type"] not in _TYPES or Path(name).name != name:
            raise ValueError(f"the part {name!r} has the unknown type {dtype}")
        # Not through the map, which would hold all of it in memory; and before it, since reading beyond the end of a
        # mapped file kills the process.
        if sha256_of(file) != part["sha256"] or file.stat().st_size != dtype.itemsize * math.prod(shape):
            raise ValueError(f"{file.name} is not what was written")
        # An empty file cannot be mapped.
        with open_file(file) as opened:
            array = np.memmap(opened, dtype, "r", shape=shape) if math.prod(shape) else np.empty(shape, dtype)
        arrays[name] = np.asarray(array)
    return Entry(arrays, manifest["values"])
