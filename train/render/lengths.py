"""How long an example is, and which of its tokens are trained: what `train measure` says of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from train.render.example import Example


@dataclass(frozen=True)
class Lengths:
    """One line of `train measure`; ``schemas/lengths.schema.json`` says what each number counts."""

    id: str
    tokens: int = 0
    supervised: int = 0
    supervised_left: int = 0
    prompt_tokens: int = 0
    runs: tuple[tuple[int, int], ...] = ()
    fault: str = ""


def lengths_of(example: Example, max_length: int | None) -> Lengths:
    """Return the lengths of an uncut example; ``max_length`` decides what is left of its trained tokens."""
    runs = tuple(_runs(example.mask))
    return Lengths(
        example.id,
        len(example.ids),
        example.num_supervised,
        sum(example.mask[:max_length]),
        runs[0][0] if runs else len(example.ids),
        runs,
    )


def _runs(mask: Sequence[bool]) -> list[tuple[int, int]]:
    """Return the [start, stop) of each run of trained tokens."""
    edges = [
        place for place, (before, here) in enumerate(zip([False, *mask], [*mask, False], strict=True)) if before != here
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))
