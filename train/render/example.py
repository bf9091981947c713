"""What a row becomes: token ids, and which of them are trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


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
    weights: list[float] | None = None
    """What each token counts in the loss while training, None where that is 1 for all; evaluation weighs nothing."""
    is_replay: bool = False
    """True for general text that is trained along against forgetting."""

    @property
    def num_supervised(self) -> int:
        """Number of trained tokens."""
        return sum(self.mask)

    @property
    def weight(self) -> float:
        """The weights of the trained tokens in sum."""
        if self.weights is None:
            return float(self.num_supervised)
        return math.fsum(weight for weight, is_trained in zip(self.weights, self.mask, strict=True) if is_trained)


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
    silent: list[str] = field(default_factory=list)
    """Ids of records in which no answer may be trained: each has "train": false or a weight of 0."""
    refused: dict[str, str] = field(default_factory=dict)
    """Id of a record that was left out as it cannot be rendered -> why; empty unless the recipe skips such records."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Id of an example's record -> what of the record is in no token, in words."""
