"""What agreement is measured on: the answers to one question, and when two of them are the same."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from curate.base.record import Json, canonical

Answers = Mapping[str, Mapping[str, Json]]
"""By record id, what each annotator answered to one question; who has not answered is not there, or has None."""

Moments = Mapping[str, Mapping[str, str]]
"""By record id and annotator, when the answer was given: ISO 8601 in UTC, and after it what orders the same second."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two values that were given to the same records, how many pairs of answers say so, and some of the records."""

    left: Json
    right: Json
    num_pairs: int
    records: tuple[str, ...] = ()


def key_of(value: Json) -> Hashable:
    """Return what is equal for answers that are the same JSON value, and for no others: 1, true and "1" differ."""
    return value if type(value) is str else canonical(value)


def order_of(value: Json) -> tuple[bool, bytes]:
    """Return the sort key of a value: texts in the order of their code points, then everything else."""
    return (False, value.encode("utf-8", "surrogatepass")) if type(value) is str else (True, canonical(value))
