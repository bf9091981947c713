"""What decides a result besides its inputs: versions of packages, and our sources, which change within a version."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from train.base.storage import sha256_of


def installed_version(name: str) -> str:
    """Return the version of a package, "" where it is not installed as one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def sources_digest(folder: Path) -> str:
    """Return a SHA-256 over the names and digests of all Python files under ``folder``."""
    hashed = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        hashed.update(f"{file.relative_to(folder)} {sha256_of(file)}\n".encode())
    return hashed.hexdigest()
