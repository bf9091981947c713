"""What rows become: token ids, and which of them are trained.

`Example` is one, and `Examples` are many as flat arrays: all tokens end to end, and what else is said of each. Arrays
of some examples after those of others are those of both, so a file of them grows batch by batch.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, overload

import numpy as np

BATCH = 1024
"""Examples that are held as objects before they become arrays."""


@dataclass(frozen=True)
class Example:
    """One record as token ids; ``mask[t]`` says that token t is a training target (never token 0).

    Where answers are compared, two texts stand end to end: of a pair the better and the worse, of an answer with a
    verdict that answer and one to another prompt, of replayed text that text alone.
    """

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
    num_prompt: int = field(default=-1, compare=False)
    """How many ids stand before the last answer, -1 for raw text."""
    second: tuple[int, int] | None = None
    """Where answers are compared, the token at which the second text begins, and the bytes of that text."""
    sign: int = 1
    """-1 for an answer that was not liked."""
    row_weight: float = 1.0
    """What a record counts that compares answers; its tokens have no weights."""

    @property
    def num_supervised(self) -> int:
        """Number of trained tokens."""
        return sum(self.mask)

    @property
    def num_chosen(self) -> int:
        """Number of trained tokens that are to become likelier: those of the first text."""
        return self.num_supervised if self.second is None else sum(self.mask[: self.second[0]])

    @property
    def weight(self) -> float:
        """The weights of the trained tokens in sum; where answers are compared, what the record counts."""
        if self.second is not None:
            return self.row_weight
        if self.weights is None:
            return float(self.num_supervised)
        return math.fsum(weight for weight, is_trained in zip(self.weights, self.mask, strict=True) if is_trained)

    @cached_property
    def parts(self) -> tuple[Example, ...]:
        """The texts that are compared, none where none are."""
        if self.second is None:
            return ()
        middle, num_bytes = self.second
        parts = ((slice(0, middle), self.num_bytes), (slice(middle, None), num_bytes))
        return tuple(
            replace(self, ids=self.ids[own], mask=self.mask[own], num_bytes=size, second=None, sign=1, row_weight=1.0)
            for own, size in parts
            if self.ids[own]
        )

    def paired_with(self, other: Example, sign: int, weight: float) -> Example:
        """Return this text and another as they are compared."""
        return replace(
            self, ids=self.ids + other.ids, mask=self.mask + other.mask, weights=None,
            second=(len(self.ids), other.num_bytes), sign=sign, row_weight=weight,
        )  # fmt: skip

    def shorten(self, length: int) -> Example:
        """Return the example cut to ``length`` tokens; it may have no trained one."""
        mask = self.mask[:length]
        # The lost part's bytes: in proportion to its trained tokens, which decode to no whole characters.
        num_bytes = round(self.num_bytes * (sum(mask) / self.num_supervised))
        weights = self.weights and self.weights[:length]
        return replace(self, ids=self.ids[:length], mask=mask, num_bytes=num_bytes, weights=weights)


class Prompt(NamedTuple):
    """What is generated from: all before the last answer, and that answer as the reference."""

    id: str
    ids: list[int]
    reference: str
    text: str
    """The text of the ids, without a beginning-of-text token that only the tokenizer adds."""


def arrays_of(examples: Sequence[Example]) -> dict[str, Any]:
    """Return examples as the arrays of `Examples`."""
    heads = [
        json.dumps([
            one.id, one.category, one.cluster, one.num_bytes, one.is_replay, one.num_prompt, one.second, one.sign,
            one.row_weight,
        ]).encode()
        for one in examples
    ]  # fmt: skip
    sizes = [
        (len(one.ids), one.num_supervised, one.num_chosen, len(one.weights or ()), len(head))
        for one, head in zip(examples, heads, strict=True)
    ]
    return {
        "ids": np.fromiter(chain.from_iterable(one.ids for one in examples), np.int32),
        "mask": np.frombuffer(b"".join(bytes(one.mask) for one in examples), np.uint8),
        "weights": np.fromiter(chain.from_iterable(one.weights or () for one in examples), np.float64),
        "sizes": np.array(sizes, np.int64).reshape(-1, 5),
        "totals": np.array([one.weight for one in examples], np.float64),
        "heads": np.frombuffer(b"".join(heads), np.uint8),
    }


class Examples(Sequence[Example]):
    """A sequence of examples that are made when they are asked for, from flat arrays.

    ``arrays`` has of all tokens "ids" and "mask", of those of the examples that have some "weights"; of each example
    "sizes" [n, 5], "totals" [n] and in JSON "heads" as `arrays_of` says.
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        # Python lists take some thirty bytes a token; the arrays take five, and may lie in a file that is only mapped.
        self.arrays = arrays
        self.lengths, self.supervised, self.chosen, weights, heads = arrays["sizes"].T
        """Tokens, trained tokens, and those of them that are to become likelier [n]."""
        self.weights = arrays["totals"]
        """The weights of the trained tokens in sum, or what a record that compares answers counts [n]."""
        # Where each one's part begins, and where the last one's ends.
        self._begins, self._weight_begins, self._head_begins = (
            np.append(0, np.cumsum(sizes)) for sizes in (self.lengths, weights, heads)
        )

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Examples:
        """Return examples in memory."""
        return cls(arrays_of(examples))

    @classmethod
    def joined(cls, batches: Sequence[Mapping[str, Any]]) -> Examples:
        """Return the examples of all ``batches`` of arrays, in memory."""
        return cls({name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]})

    def take(self, indices: Sequence[int]) -> Examples:
        """Return the examples at ``indices``, in memory."""
        parts = (indices[start : start + BATCH] for start in range(0, len(indices) or 1, BATCH))
        return Examples.joined([arrays_of([self[index] for index in part]) for part in parts])

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        chosen = range(len(self))[index]
        if not isinstance(chosen, int):
            return [self[number] for number in chosen]
        own, weighed = (slice(*begins[chosen : chosen + 2]) for begins in (self._begins, self._weight_begins))
        name, category, cluster, num_bytes, is_replay, num_prompt, second, sign, row_weight = self._head(chosen)
        return Example(
            name, category, cluster, self.arrays["ids"][own].tolist(), self.arrays["mask"][own].astype(bool).tolist(),
            num_bytes, self.arrays["weights"][weighed].tolist() or None, is_replay, num_prompt,
            second and tuple(second), sign, row_weight,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905 - of one length

    __hash__ = None  # type: ignore[assignment]

    def name(self, index: int) -> tuple[str, str, str]:
        """Return id, category and cluster of example ``index`` (from 0)."""
        one, two, three, *_ = self._head(index)
        return one, two, three

    def _head(self, index: int) -> list[Any]:
        head: list[Any] = json.loads(self.arrays["heads"][slice(*self._head_begins[index : index + 2])].tobytes())
        return head


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

    @property
    def counts(self) -> dict[str, Any]:
        """How many records were cut, and how many skipped by the reason."""
        return {"cut": len(self.cut), "skipped": Counter(reason for _, reason in self.left_out.values())}

    def told(self, split: str) -> dict[str, list[str]]:
        """Return a sentence for each reason by which records of ``split`` are no whole examples, and their ids."""
        ids: dict[tuple[str, str], list[str]] = defaultdict(list)
        for record, (_, reason) in self.left_out.items():
            ids["skipped", reason].append(record)
        lost = f"{sum(self.cut.values()):,} tokens in all"
        for record in self.cut:
            ids["cut to max_length", lost].append(record)
        for record, notes in self.notes.items():
            for note in notes:
                ids["rendered in part", note].append(record)
        return {
            f"{len(names):,} {split} record{'' if len(names) == 1 else 's'} {state}, {reason}": names
            for (state, reason), names in ids.items()
        }
