"""Examples as flat arrays: all token ids end to end, and per record where it begins and which runs are trained.

A list of Python lists takes some thirty bytes a token; this takes four, and may lie in a file that is only mapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from train.render.example import Example

Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Made:
    """One rendered record: ids, the [start, stop) of each run of trained tokens, and what `Example` says besides.

    Tokens of one run count the same.

    ``num_prompt`` is how many ids stand before the last answer, -1 for raw text.
    """

    name: tuple[str, str, str]
    """Id, category and cluster."""
    ids: Sequence[int] | Ints
    runs: Sequence[tuple[int, int]]
    num_bytes: int
    num_prompt: int
    weights: Sequence[float] | None = None
    """What a token of each run counts in the loss; None where that is 1 for all."""
    notes: Sequence[str] = ()
    """What of the record is in no token, in words; `Rendered.notes` tells it, arrays do not keep it."""

    def example(self) -> Example:
        """Return the record as the loop and the measures know it."""
        ids = self.ids.tolist() if isinstance(self.ids, np.ndarray) else list(self.ids)
        mask = [False] * len(ids)
        for start, stop in self.runs:
            mask[start:stop] = [True] * (stop - start)
        if self.weights is None:
            return Example(*self.name, ids, mask, self.num_bytes)
        weights = [0.0] * len(ids)
        for (start, stop), weight in zip(self.runs, self.weights, strict=True):
            weights[start:stop] = [weight] * (stop - start)
        return Example(*self.name, ids, mask, self.num_bytes, weights)


def made(example: Example, num_prompt: int) -> Made:
    """Return an example as ids and runs."""
    mask = np.array(example.mask)
    counted = np.where(mask, 1.0 if example.weights is None else example.weights, 0.0)
    # A run ends where the mask does, or where another weight begins; a weight may be 0.
    changes = np.diff(mask, prepend=False) | (np.diff(counted, prepend=0.0) != 0)
    starts = np.flatnonzero(changes & mask)
    stops = [int(start + np.argmax(np.append(changes[start + 1 :], True)) + 1) for start in starts]
    runs = list(zip(starts.tolist(), stops, strict=True))
    weights = None if example.weights is None else [float(counted[start]) for start in starts]
    name = (example.id, example.category, example.cluster)
    return Made(name, example.ids, runs, example.num_bytes, num_prompt, weights)


class Examples(Sequence[Example]):
    """A sequence of examples that are made when they are asked for.

    ``arrays`` has "ids" [tokens], "starts" [n + 1], "runs" [number of runs, 2] counted from the record's first token,
    "run_starts" [n + 1], "bytes" [n], "prompts" [n] and, unless every token counts 1, "weights" [number of runs];
    ``names`` has (id, category, cluster) of each record.
    """

    def __init__(self, arrays: dict[str, Any], names: Sequence[Sequence[str]]) -> None:
        self.arrays, self.names = arrays, names
        self.lengths: Ints = np.diff(arrays["starts"])
        """Tokens of each record [n]."""
        sizes = np.diff(arrays["runs"], axis=1)[:, 0]
        self.supervised: Ints = np.diff(np.append(0, np.cumsum(sizes))[arrays["run_starts"]])
        """Trained tokens of each record [n]."""
        self.weights: npt.NDArray[np.floating] = self.supervised.astype(np.float64)
        """Their weights in sum [n]."""
        if "weights" in arrays:
            owners = np.repeat(np.arange(len(names)), np.diff(arrays["run_starts"]))
            self.weights = np.bincount(owners, sizes * arrays["weights"], len(names)).astype(np.float64)

    @staticmethod
    def of(records: Sequence[Made]) -> Examples:
        """Return records in memory."""
        arrays: dict[str, Any] = {
            "ids": np.concatenate([np.empty(0, np.int32), *(np.asarray(one.ids, np.int32) for one in records)]),
            "starts": _starts([len(one.ids) for one in records]),
            "runs": np.array([run for one in records for run in one.runs], np.int32).reshape(-1, 2),
            "run_starts": _starts([len(one.runs) for one in records]),
            "bytes": np.array([one.num_bytes for one in records], np.int64),
            "prompts": np.array([one.num_prompt for one in records], np.int32),
        }
        if any(one.weights is not None for one in records):
            every = [[1.0] * len(one.runs) if one.weights is None else one.weights for one in records]
            arrays["weights"] = np.array([weight for each in every for weight in each], np.float64)
        return Examples(arrays, [one.name for one in records])

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        if isinstance(place, slice):
            return [self.record(number).example() for number in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return self.record(place % len(self)).example()

    def __iter__(self) -> Iterator[Example]:
        return (self.record(place).example() for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905 - of one length

    __hash__ = None  # type: ignore[assignment]

    def record(self, place: int) -> Made:
        """Return record ``place`` (from 0) as ids and runs."""
        arrays, name = self.arrays, self.names[place]
        start, stop = arrays["starts"][place : place + 2].tolist()
        first, last = arrays["run_starts"][place : place + 2].tolist()
        counted = arrays["weights"][first:last].tolist() if "weights" in arrays else []
        return Made(
            (name[0], name[1], name[2]), arrays["ids"][start:stop], arrays["runs"][first:last].tolist(),
            int(arrays["bytes"][place]), int(arrays["prompts"][place]),
            counted if any(weight != 1 for weight in counted) else None,
        )  # fmt: skip


def _starts(lengths: Sequence[int]) -> Ints:
    return np.cumsum([0, *lengths], dtype=np.int64)
