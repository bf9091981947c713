"""What rows become: token ids, and which of them are trained.

`Example` is one as the loop and the measures know it, `Record` one as ids and runs, and `Examples` are many as flat
arrays: all token ids end to end, and per record how many it has and which runs are trained. Arrays of some records
after those of others are those of both, so a file of them grows batch by batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from train.base.console import join_names
from train.data.rendering.encode import Ints

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
class PreferenceExample(Example):
    """Texts that are trained together; ids and mask are theirs, end to end.

    ``parts``: of a pair the better and the worse; of an answer with a verdict that answer, and one to another prompt;
    of replayed text that text alone. ``sign`` is -1 for an answer that was not liked, else 1. The tokens have no
    weights of their own, ``row_weight`` is what the record counts.
    """

    parts: tuple[Example, ...] = ()
    sign: int = 1
    row_weight: float = 1.0

    @property
    def num_chosen(self) -> int:
        """Number of trained tokens of the first part."""
        return self.parts[0].num_supervised

    @property
    def weight(self) -> float:
        """What the record counts."""
        return self.row_weight


@dataclass(frozen=True)
class Prompt:
    """What is generated from: all before the last answer, and that answer as the reference."""

    id: str
    ids: list[int]
    reference: str


class Record(NamedTuple):
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
    key: int = 0
    """Digest of the row that it was rendered from; 0 for none."""
    second: tuple[int, int] | None = None
    """Of a `PreferenceExample` where its second part begins, and the bytes of that."""
    sign: int = 1
    row_weight: float = 1.0
    is_replay: bool = False

    @property
    def num_supervised(self) -> int:
        """Number of trained tokens."""
        return sum(stop - start for start, stop in self.runs)

    def example(self) -> Example:
        """Return the record as the loop and the measures know it."""
        mask = [False] * len(self.ids)
        weights = None if self.weights is None else [0.0] * len(mask)
        for (start, stop), weight in zip(self.runs, self.weights or [1.0] * len(self.runs), strict=True):
            mask[start:stop] = [True] * (stop - start)
            if weights is not None:
                weights[start:stop] = [weight] * (stop - start)
        values = (*self.name, self.ids.tolist(), mask, self.num_bytes, weights, self.is_replay)
        if self.second is None:
            return Example(*values)
        texts = tuple(text.example() for text in self._texts())
        return PreferenceExample(*values, texts, self.sign, self.row_weight)

    def _texts(self) -> Iterator[Record]:
        assert self.second is not None, "only what is compared has texts"
        middle, num_bytes = self.second
        for start, stop, size in ((0, middle, self.num_bytes), (middle, len(self.ids), num_bytes)):
            own = [n for n, run in enumerate(self.runs) if start <= run[0] < stop]
            if start < stop:
                yield Record(
                    self.name, self.ids[start:stop], [(a - start, b - start) for a, b in (self.runs[n] for n in own)],
                    size, -1, is_replay=self.is_replay,
                )  # fmt: skip

    def paired_with(self, second: Record, sign: int, weight: float) -> Record:
        """Return this text and ``second`` as what a `PreferenceExample` is made of."""
        size = len(self.ids)
        return self._replace(
            ids=np.concatenate([self.ids, second.ids]), weights=None, second=(size, second.num_bytes), sign=sign,
            runs=[*self.runs, *((start + size, stop + size) for start, stop in second.runs)], row_weight=weight,
        )  # fmt: skip

    def replayed(self, *, is_compared: bool) -> Record:
        """Return general text as a record among those of a run, ``is_compared`` where they compare answers."""
        return self._replace(is_replay=True, second=(len(self.ids), 0) if is_compared else None)

    def shorten(self, length: int) -> Record:
        """Return the record cut to ``length`` tokens; it may have no trained one."""
        runs = [(start, min(stop, length)) for start, stop in self.runs if start < length]
        num_supervised = sum(stop - start for start, stop in runs)
        # The lost part's bytes: in proportion to its trained tokens, which decode to no whole characters.
        num_bytes = round(self.num_bytes * (num_supervised / self.num_supervised))
        weights = self.weights and self.weights[: len(runs)]
        return self._replace(ids=self.ids[:length], runs=runs, num_bytes=num_bytes, weights=weights)


def arrays_of(records: Sequence[Record]) -> dict[str, Any]:
    """Return records as the arrays of `Examples`."""
    names = [part.encode("utf-8", "surrogatepass") for record in records for part in record.name]
    weights = [record.weights or [1.0] * len(record.runs) for record in records]
    numbers = [(record.key, record.num_bytes, len(record.ids)) for record in records]
    kinds = [(len(r.runs), r.num_prompt, *(r.second or (-1, 0)), r.sign, r.is_replay) for r in records]
    return {
        "ids": np.concatenate([np.empty(0, np.int32), *(record.ids for record in records)]).astype(np.int32),
        "runs": np.array([run for record in records for run in record.runs], np.int32).reshape(-1, 2),
        "weights": np.array([weight for each in weights for weight in each], np.float64),
        "numbers": np.array(numbers, np.int64).reshape(-1, 3),
        "kinds": np.array(kinds, np.int32).reshape(-1, 6),
        "row_weights": np.array([record.row_weight for record in records], np.float64),
        "names": np.frombuffer(b"".join(names), np.uint8),
        "name_lengths": np.array([len(name) for name in names], np.int32).reshape(-1, 3),
    }


class Examples(Sequence[Example]):
    """A sequence of examples that are made when they are asked for, from flat arrays.

    ``arrays`` has "ids" [tokens]; of each run of trained tokens "runs" [runs, 2] counted from the record's first token
    and "weights" [runs]; of each record "numbers" [n, 3]: key, bytes and tokens, "kinds" [n, 6]: number of runs, tokens
    of the prompt, begin and bytes of the second part (-1 and 0 without one), sign, 1 for replayed text, "row_weights"
    [n], and in UTF-8 "names" with "name_lengths" [n, 3]: id, category and cluster.
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        # Python lists take some thirty bytes a token; the arrays take four, and may lie in a file that is only mapped.
        self.arrays = arrays
        self.lengths: Ints = arrays["numbers"][:, 2]
        """Tokens of each record [n]."""
        run_counts, seconds = arrays["kinds"][:, 0], arrays["kinds"][:, 2]
        self._begins, self._run_begins = _starts(self.lengths), _starts(run_counts)
        self._name_begins = _starts(arrays["name_lengths"])
        sizes = np.diff(arrays["runs"], axis=1)[:, 0]
        self.supervised: Ints = np.diff(_starts(sizes)[self._run_begins])
        """Trained tokens of each record [n]."""
        # Of many runs at once: a loop over them would cost more than reading the file.
        owners = np.repeat(np.arange(len(self)), run_counts)
        is_second = (seconds[owners] >= 0) & (arrays["runs"][:, 0] >= seconds[owners])
        self.chosen: Ints = np.bincount(owners, sizes * ~is_second, len(self)).astype(np.int64)
        """Trained tokens that are to become likelier [n]."""
        summed = np.bincount(owners, sizes * arrays["weights"], len(self))
        self.weights: npt.NDArray[np.floating] = np.where(seconds < 0, summed, arrays["row_weights"])
        """The weights of the trained tokens in sum, or what a record that compares answers counts [n]."""

    @classmethod
    def of(cls, records: Sequence[Record]) -> Examples:
        """Return records in memory."""
        return cls(arrays_of(records))

    @classmethod
    def joined(cls, batches: Sequence[Mapping[str, Any]]) -> Examples:
        """Return the records of all ``batches`` of arrays, in memory."""
        return cls({name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]})

    def take(self, indices: Sequence[int]) -> Examples:
        """Return the records at ``indices``, in memory."""
        parts = (indices[start : start + BATCH] for start in range(0, len(indices) or 1, BATCH))
        return Examples.joined([arrays_of([self.record(index) for index in part]) for part in parts])

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        chosen = range(len(self))[index]
        return self.record(chosen).example() if isinstance(chosen, int) else [self.record(n).example() for n in chosen]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905 - of one length

    __hash__ = None  # type: ignore[assignment]

    def name(self, index: int) -> tuple[str, str, str]:
        """Return id, category and cluster of record ``index`` (from 0)."""
        edges = self._name_begins[3 * index : 3 * index + 4].tolist()
        text = self.arrays["names"][edges[0] : edges[3]].tobytes()
        parts = [text[start - edges[0] : end - edges[0]] for start, end in pairwise(edges)]
        one, two, three = (part.decode("utf-8", "surrogatepass") for part in parts)
        return one, two, three

    def record(self, index: int) -> Record:
        """Return record ``index`` (from 0) as ids and runs."""
        arrays = self.arrays
        start, stop = self._begins[index : index + 2].tolist()
        first, last = self._run_begins[index : index + 2].tolist()
        weights = arrays["weights"][first:last].tolist()
        key, num_bytes, _ = arrays["numbers"][index].tolist()
        _, num_prompt, second, second_bytes, sign, is_replay = arrays["kinds"][index].tolist()
        return Record(
            self.name(index), arrays["ids"][start:stop], arrays["runs"][first:last].tolist(), num_bytes, num_prompt,
            weights if any(weight != 1 for weight in weights) else None, key,
            None if second < 0 else (second, second_bytes), sign, float(arrays["row_weights"][index]), bool(is_replay),
        )  # fmt: skip

    def find(self, keys: Ints) -> Ints:
        """Return the index of the record of each key [m], -1 where there is none."""
        order, ordered = self._order
        if not len(ordered):
            return np.full(len(keys), -1)
        index = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
        return np.where(ordered[index] == keys, order[index], -1)

    @cached_property
    def _order(self) -> tuple[Ints, Ints]:
        keys = self.arrays["numbers"][:, 0]
        order = np.argsort(keys, kind="stable")
        return order, keys[order]


@dataclass(frozen=True)
class Rendered:
    """The examples of many rows, and what happened to the others; nothing goes without being counted."""

    examples: Examples = field(default_factory=lambda: Examples.of([]))
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


def _starts(lengths: Any) -> Ints:
    # Where each of some things end to end begins, and where the last one ends.
    return np.append(0, np.cumsum(lengths, dtype=np.int64))
