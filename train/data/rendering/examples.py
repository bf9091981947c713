"""What rows become: token ids, and which of them are trained.

`Example` is one as the loop and the measures know it, `Record` one as ids and runs, and `Examples` are many as flat
arrays: all token ids end to end, and per record how many it has and which runs are trained. Arrays of some records
after those of others are those of both, so a file of them grows batch by batch.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from train.base.console import join_names
from train.data.rendering.encode import Ints

T = TypeVar("T")
BATCH = 1024
"""Records that are held as objects before they become arrays."""


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


def arrays_of(records: Sequence[Record]) -> dict[str, Any]:
    """Return records as the arrays of `Examples`."""
    names = [part.encode("utf-8", "surrogatepass") for record in records for part in record.name]
    weights = [record.weights or [1.0] * len(record.runs) for record in records]
    return {
        "ids": np.concatenate([np.empty(0, np.int32), *(record.ids for record in records)]).astype(np.int32),
        "lengths": np.array([len(record.ids) for record in records], np.int64),
        "runs": np.array([run for record in records for run in record.runs], np.int32).reshape(-1, 2),
        "run_counts": np.array([len(record.runs) for record in records], np.int32),
        "weights": np.array([weight for each in weights for weight in each], np.float64),
        "bytes": np.array([record.num_bytes for record in records], np.int64),
        "prompts": np.array([record.num_prompt for record in records], np.int32),
        "names": np.frombuffer(b"".join(names), np.uint8),
        "name_lengths": np.array([len(name) for name in names], np.int32).reshape(-1, 3),
    }


class LazySequence(Sequence[T]):
    """A sequence whose values are made by `at` when they are asked for."""

    @abstractmethod
    def at(self, index: int) -> T:
        """Return value ``index``, from 0 and below the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        numbers = range(len(self))[index]
        return self.at(numbers) if isinstance(numbers, int) else [self.at(number) for number in numbers]

    def __iter__(self) -> Iterator[T]:
        return map(self.at, range(len(self)))


class Examples(LazySequence[Example]):
    """A sequence of examples that are made when they are asked for.

    ``arrays`` has "ids" [tokens], "lengths" [n], "runs" [number of runs, 2] counted from the record's first token,
    "run_counts" [n], "weights" [number of runs], "bytes" [n], "prompts" [n], and in UTF-8 "names" with "name_lengths"
    [n, 3]: id, category and cluster of each record.
    """

    def __init__(self, arrays: dict[str, Any]) -> None:
        # Python lists take some thirty bytes a token; the arrays take four, and may lie in a file that is only mapped.
        self.arrays = arrays
        self.lengths: Ints = arrays["lengths"]
        """Tokens of each record [n]."""
        self._begins, self._run_begins = _starts(self.lengths), _starts(arrays["run_counts"])
        self._name_begins = _starts(arrays["name_lengths"])
        sizes = np.diff(arrays["runs"], axis=1)[:, 0]
        self.supervised: Ints = np.diff(_starts(sizes)[self._run_begins])
        """Trained tokens of each record [n]."""
        self.chosen = self.supervised
        """Trained tokens that are to become likelier: all of them."""
        # Of many runs at once: a loop over them would cost more than reading the file.
        owners = np.repeat(np.arange(len(self.lengths)), arrays["run_counts"])
        self.weights: npt.NDArray[np.floating] = np.bincount(
            owners, sizes * arrays["weights"], len(self.lengths)
        ).astype(np.float64)
        """Their weights in sum [n]."""

    @staticmethod
    def of(records: Sequence[Record]) -> Examples:
        """Return records in memory."""
        return Examples(arrays_of(records))

    @staticmethod
    def joined(batches: Sequence[dict[str, Any]]) -> Examples:
        """Return the records of all ``batches`` of arrays, in memory."""
        return Examples({name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]})

    def take(self, indices: Sequence[int]) -> Examples:
        """Return the records at ``indices``, in memory."""
        chosen = (indices[n : n + BATCH] for n in range(0, len(indices), BATCH))
        return Examples.joined([arrays_of([self.record(index) for index in part]) for part in chosen])

    def __len__(self) -> int:
        return len(self.lengths)

    def at(self, index: int) -> Example:
        """Return example ``index``, counted from 0."""
        return self.record(index).example()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905 - of one length

    __hash__ = None  # type: ignore[assignment]

    def name(self, index: int) -> tuple[str, str, str]:
        """Return id, category and cluster of record ``index`` (from 0)."""
        first, second, third, end = self._name_begins[3 * index : 3 * index + 4].tolist()
        text, spans = self.arrays["names"][first:end].tobytes(), ((first, second), (second, third), (third, end))
        one, two, three = (text[a - first : b - first].decode("utf-8", "surrogatepass") for a, b in spans)
        return one, two, three

    def record(self, index: int) -> Record:
        """Return record ``index`` (from 0) as ids and runs."""
        arrays = self.arrays
        start, stop = self._begins[index : index + 2].tolist()
        first, last = self._run_begins[index : index + 2].tolist()
        weights = arrays["weights"][first:last].tolist()
        return Record(
            self.name(index), arrays["ids"][start:stop], arrays["runs"][first:last].tolist(),
            int(arrays["bytes"][index]), int(arrays["prompts"][index]),
            weights if any(weight != 1 for weight in weights) else None,
        )  # fmt: skip


class JoinedExamples(LazySequence[Example]):
    """The examples of ``parts``, one part after another, each made when it is asked for if its part does so."""

    def __init__(self, *parts: Sequence[Example]) -> None:
        self.parts, self._ends = parts, list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def at(self, index: int) -> Example:
        """Return example ``index``, counted from 0."""
        part = bisect_right(self._ends, index)
        return self.parts[part][index - self._ends[part] + len(self.parts[part])]


def _starts(lengths: Any) -> Ints:
    # Where each of some things end to end begins, and where the last one ends.
    return np.append(0, np.cumsum(lengths, dtype=np.int64))
