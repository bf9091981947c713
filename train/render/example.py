"""What a row becomes: token ids, and which of them are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One record as token ids; ``mask[t]`` says that token t is a training target (never token 0)."""

    id: str
    category: str
    cluster: str
    ids: list[int]
    mask: list[bool]
    num_bytes: int
    """UTF-8 bytes of the supervised text, end tokens not counted; the unit of bits per byte."""

    @property
    def num_supervised(self) -> int:
        """Number of trained tokens."""
        return sum(self.mask)


@dataclass(frozen=True)
class Prompt:
    """What is generated from: all before the last answer, and that answer as the reference."""

    id: str
    ids: list[int]
    reference: str


@dataclass(frozen=True)
class Rendered:
    """The examples of many rows, and what happened to the others; nothing goes without being counted."""

    examples: Sequence[Example]
    skipped: list[str]
    """Ids of records over max_length that were left out."""
    cut: dict[str, int]
    """Id of a record that was cut -> how many of its tokens were lost."""
