"""What rows become: token ids, and which of them are trained.

`Example` is one as the loop and the measures know it, `Record` one as ids and runs, and `Examples` are many as flat
arrays: all token ids end to end, and per record where it begins and which runs are trained.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from train.base.console import join_names
from train.data.rendering.encode import Ints


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
    def num_chosen(self) -> int:
        """Number of trained tokens that are to become likelier."""
        return self.num_supervised

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

    examples: Sequence[Example] = ()
    left_out: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Id of a record without an example -> the code of its fault, and the reason in words."""
    cut: dict[str, int] = field(default_factory=dict)
    """Id of a record that was cut to max_length -> how many of its tokens were lost."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Id of an example's record -> what of the record is in no token, in words."""

    def warnings(self, split: str) -> list[str]:
        """Return a sentence with the records of ``split`` for each reason by which they are no whole examples."""
        ids: dict[tuple[str, str], list[str]] = defaultdict(list)
        for record, (_, reason) in self.left_out.items():
            ids["skipped", reason].append(record)
        lost = f"{sum(self.cut.values()):,} tokens in all"
        for record in self.cut:
            ids["cut to max_length", lost].append(record)
        for record, notes in self.notes.items():
            for note in notes:
                ids["rendered in part", note].append(record)
        return [
            f"{len(names):,} {split} record{'' if len(names) == 1 else 's'} {state}, {reason}: {join_names(names)}"
            for (state, reason), names in ids.items()
        ]


@dataclass(frozen=True)
class Record:
    """One rendered record: ids, the [start, stop) of each run of trained tokens, and what `Example` says besides.

    Tokens of one run count the same.
    """

    name: tuple[str, str, str]
    """Id, category and cluster."""
    ids: Ints
    runs: Sequence[tuple[int, int]]
    num_bytes: int
    num_prompt: int
    """How many ids stand before the last answer, -1 for raw text."""
    weights: Sequence[float] | None = None
    """What a token of each run counts in the loss; None where that is 1 for all."""

    @property
    def num_supervised(self) -> int:
        """Number of trained tokens."""
        return sum(stop - start for start, stop in self.runs)

    def example(self) -> Example:
        """Return the record as the loop and the measures know it."""
        mask = [False] * len(self.ids)
        for start, stop in self.runs:
            mask[start:stop] = [True] * (stop - start)
        weights = None
        if self.weights is not None:
            weights = [0.0] * len(mask)
            for (start, stop), weight in zip(self.runs, self.weights, strict=True):
                weights[start:stop] = [weight] * (stop - start)
        return Example(*self.name, self.ids.tolist(), mask, self.num_bytes, weights)

    def shorten(self, length: int) -> Record:
        """Return the record cut to ``length`` tokens; it may have no trained one."""
        runs = [(start, min(stop, length)) for start, stop in self.runs if start < length]
        num_supervised = sum(stop - start for start, stop in runs)
        # The lost part's bytes: in proportion to its trained tokens, which decode to no whole characters.
        num_bytes = round(self.num_bytes * (num_supervised / self.num_supervised))
        weights = self.weights and self.weights[: len(runs)]
        return replace(self, ids=self.ids[:length], runs=runs, num_bytes=num_bytes, weights=weights)


class Examples(Sequence[Example]):
    """A sequence of examples that are made when they are asked for.

    ``arrays`` has "ids" [tokens], "starts" [n + 1], "runs" [number of runs, 2] counted from the record's first token,
    "run_starts" [n + 1], "bytes" [n], "prompts" [n] and, unless every token counts 1, "weights" [number of runs];
    ``names`` has (id, category, cluster) of each record.
    """

    def __init__(self, arrays: dict[str, Any], names: Sequence[Sequence[str]]) -> None:
        # Python lists take some thirty bytes a token; the arrays take four, and may lie in a file that is only mapped.
        self.arrays, self.names = arrays, names
        self.lengths: Ints = np.diff(arrays["starts"])
        """Tokens of each record [n]."""
        sizes = np.diff(arrays["runs"], axis=1)[:, 0]
        self.supervised: Ints = np.diff(np.append(0, np.cumsum(sizes))[arrays["run_starts"]])
        """Trained tokens of each record [n]."""
        self.chosen = self.supervised
        """Trained tokens that are to become likelier: all of them."""
        self.weights: npt.NDArray[np.floating] = self.supervised.astype(np.float64)
        """Their weights in sum [n]."""
        if "weights" in arrays:
            # Of many runs at once: a loop over them would cost more than reading the file.
            owners = np.repeat(np.arange(len(names)), np.diff(arrays["run_starts"]))
            self.weights = np.bincount(owners, sizes * arrays["weights"], len(names)).astype(np.float64)

    @staticmethod
    def of(records: Sequence[Record]) -> Examples:
        """Return records in memory."""
        arrays: dict[str, Any] = {
            "ids": np.concatenate([np.empty(0, np.int32), *(record.ids for record in records)]),
            "starts": _starts([len(record.ids) for record in records]),
            "runs": np.array([run for record in records for run in record.runs], np.int32).reshape(-1, 2),
            "run_starts": _starts([len(record.runs) for record in records]),
            "bytes": np.array([record.num_bytes for record in records], np.int64),
            "prompts": np.array([record.num_prompt for record in records], np.int32),
        }
        if any(record.weights is not None for record in records):
            every = [[1.0] * len(record.runs) if record.weights is None else record.weights for record in records]
            arrays["weights"] = np.array([weight for each in every for weight in each], np.float64)
        return Examples(arrays, [record.name for record in records])

    def take(self, indices: Sequence[int]) -> Examples:
        """Return the records at ``indices``, in memory."""
        return Examples.of([self.record(index) for index in indices])

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self.record(number).example() for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.record(index % len(self)).example()

    def __iter__(self) -> Iterator[Example]:
        return (self.record(index).example() for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905 - of one length

    __hash__ = None  # type: ignore[assignment]

    def record(self, index: int) -> Record:
        """Return record ``index`` (from 0) as ids and runs."""
        arrays, name = self.arrays, self.names[index]
        start, stop = arrays["starts"][index : index + 2].tolist()
        first, last = arrays["run_starts"][index : index + 2].tolist()
        counted = arrays["weights"][first:last].tolist() if "weights" in arrays else []
        return Record(
            (name[0], name[1], name[2]), arrays["ids"][start:stop], arrays["runs"][first:last].tolist(),
            int(arrays["bytes"][index]), int(arrays["prompts"][index]),
            counted if any(weight != 1 for weight in counted) else None,
        )  # fmt: skip


def _starts(lengths: Sequence[int]) -> Ints:
    return np.cumsum([0, *lengths], dtype=np.int64)
