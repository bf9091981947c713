"""What a finding is about, in 64 bits that survive moving lines, renaming nothing and rewording messages.

A fingerprint is a digest: a baseline of them holds no value of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from curate.base.record import Json, canonical

_NO_CONTENT = "x-ignore"


def of_value(value: Mapping[str, Json]) -> int:
    """Return the fingerprint of a line's object: spacing and the order of keys do not count, nor what it excuses."""
    return _digest(b"v", canonical({key: item for key, item in value.items() if key != _NO_CONTENT}))


def of_raw(raw: bytes) -> int:
    """Return the fingerprint of a line that is no object."""
    return _digest(b"r", raw.strip())


def of_file(name: str) -> int:
    """Return the fingerprint of what is wrong with a whole file, by its name relative to the workspace."""
    return _digest(b"f", name.encode("utf-8", "surrogatepass"))


def of_group(common: bytes) -> int:
    """Return the fingerprint of records that are at odds, by what they have in common."""
    return _digest(b"g", common)


def of_set(category: str) -> int:
    """Return the fingerprint of what is wrong with the data set as a whole, or with one category of it."""
    return _digest(b"s", category.encode("utf-8", "surrogatepass"))


def _digest(kind: bytes, content: bytes) -> int:
    return int.from_bytes(blake2b(content, digest_size=8, person=kind).digest(), "big")
