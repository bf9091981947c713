"""Which examples make which step, and how a step is laid out in memory.

The order is a pure function of (seed, epoch), so step n is found without the steps before it, and a resumed run sees
the same batches. A step's examples are sorted by length into micro-batches; how many there are never changes the
gradient.

B examples, T tokens of the longest of them, N tokens of all, S supervised tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from train.recipe import Recipe
from train.render import Example

if TYPE_CHECKING:
    import torch

    from train.compute import Packed

MICRO_BATCH_TOKENS = 2048
TOKENS_OF_A_STEP, FEWEST_STEPS, SMALLEST_STEP = 32_768, 100, 4
MOST_PADDING = 0.25
"""The share of padding that a batch may have, unless it is asked for more."""
_LITTLE = 1024


@dataclass(frozen=True)
class Step:
    """One optimizer step: its epoch from 0, its micro-batches as places in the list of examples, and its target
    count.
    """

    epoch: int
    micro_batches: list[list[int]]
    num_supervised: int


@dataclass(frozen=True)
class Batch:
    """Ids, right-padded [B, T] or end to end [1, N], and of each supervised token: the flat place that predicts it, its
    id, its example. ``packed`` and ``positions`` [1, N] tell where the examples of a row end to end begin.
    """

    ids: torch.Tensor
    rows: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor
    positions: torch.Tensor | None = None
    packed: Packed | None = None


class Steps:
    """All optimizer steps of a run over ``examples``; ``len()`` is their number, ``[n]`` the n-th from 0.

    ``is_packed``: examples of a micro-batch lie end to end, so it holds as many as its tokens allow.
    """

    def __init__(self, examples: Sequence[Example], recipe: Recipe, *, is_packed: bool = False) -> None:
        assert examples, "a run needs at least one example"
        self.recipe, self.is_packed = recipe, is_packed
        self.lengths = np.array([len(example.ids) for example in examples])
        self.supervised = np.array([example.num_supervised for example in examples])
        self.batch_size = _batch_size(self.lengths, recipe)
        self._epoch = lru_cache(maxsize=4)(self._make_epoch)
        self.starts = np.cumsum([0] + [len(self._epoch(epoch)) for epoch in range(self._num_epochs())])

    def __len__(self) -> int:
        total = int(self.starts[-1])
        return min(total, self.recipe.max_steps) if self.recipe.max_steps else total

    def __getitem__(self, number: int) -> Step:
        if not 0 <= number < len(self):
            raise IndexError(number)
        epoch = int(np.searchsorted(self.starts, number, side="right")) - 1
        places = self._epoch(epoch)[number - int(self.starts[epoch])]
        lengths = [int(self.lengths[place]) for place in places]
        most = self.recipe.micro_batch_tokens
        most = MICRO_BATCH_TOKENS if most == "auto" else most
        groups = by_length(lengths, most, at_least=self.recipe.accumulation, is_packed=self.is_packed)
        micro_batches = [[places[n] for n in group] for group in groups]
        return Step(epoch, micro_batches, int(self.supervised[places].sum()))

    def digest(self) -> str:
        """Return a SHA-256 of the whole order: the same for the same examples, seed and sizes of steps."""
        hashed = hashlib.sha256(self.lengths.tobytes() + self.supervised.tobytes())
        for epoch in range(len(self.starts) - 1):
            hashed.update(repr(self._epoch(epoch)).encode())
        return hashed.hexdigest()

    def _num_epochs(self) -> int:
        """With max_steps, as many epochs as it takes; else those of the recipe."""
        if not self.recipe.max_steps:
            return self.recipe.epochs
        num_epochs = num_steps = 0
        while num_steps < self.recipe.max_steps:
            num_steps += len(self._epoch(num_epochs))
            num_epochs += 1
        return num_epochs

    def _make_epoch(self, epoch: int) -> list[list[int]]:
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self.lengths))
        if self.recipe.batch_tokens is None:
            return [order[n : n + self.batch_size].tolist() for n in range(0, len(order), self.batch_size)]
        owner = (np.cumsum(self.lengths[order]) - 1) // self.recipe.batch_tokens
        edges = np.flatnonzero(np.diff(owner)) + 1
        return [part.tolist() for part in np.split(order, edges)]


def _batch_size(lengths: np.ndarray, recipe: Recipe) -> int:
    """Records of a step; "auto" aims at many tokens, but small data rather gets enough steps to learn in."""
    if recipe.batch_size != "auto":
        return recipe.batch_size
    enough = max(1, round(TOKENS_OF_A_STEP / float(lengths.mean())))
    seen = len(lengths) * recipe.epochs
    return max(SMALLEST_STEP, min(enough, seen // FEWEST_STEPS))


def by_length(
    lengths: Sequence[int], most_tokens: int, *, at_least: int = 1, is_packed: bool = False,
    most_padding: float = MOST_PADDING,
) -> list[list[int]]:  # fmt: skip
    """Group places 0..n-1 into batches, longest first, each at most ``most_tokens`` with its padding.

    A single item over ``most_tokens`` is a batch of its own. ``at_least`` is the wanted number of batches (or n if
    fewer). Packed batches have no padding; in others it is at most the share ``most_padding``.
    """
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    most_items = -(-len(order) // max(1, at_least))
    groups: list[list[int]] = []
    tokens = 0
    for place in order:
        if groups:
            group = groups[-1]
            area = tokens + lengths[place] if is_packed else lengths[group[0]] * (len(group) + 1)
            is_wasteful = tokens > _LITTLE and area - tokens - lengths[place] > most_padding * area
            if area <= most_tokens and len(group) < most_items and not is_wasteful:
                group.append(place)
                tokens += lengths[place]
                continue
        groups.append([place])
        tokens = lengths[place]
    return groups


def collate(examples: Sequence[Example], device: torch.device | str = "cpu", *, is_packed: bool = False) -> Batch:
    """Return the examples as one batch: right-padded, or end to end for a model that `train.attention.can_pack`.

    There is no attention mask: under causal attention no token sees what stands to its right, so padding on the right
    changes nothing before it, and the plain causal kernel stays usable.
    """
    # torch is slow to import, and plans and previews do without.
    import torch

    lengths = np.array([len(example.ids) for example in examples])
    width = int(lengths.max())
    begins = np.cumsum(lengths) - lengths if is_packed else np.arange(len(examples)) * width
    ids = np.zeros(int(lengths.sum()) if is_packed else len(examples) * width, dtype=np.int64)
    trained = [np.flatnonzero(example.mask) for example in examples]
    for begin, example in zip(begins, examples, strict=True):
        ids[begin : begin + len(example.ids)] = example.ids
    targets = np.concatenate([places + begin for begin, places in zip(begins, trained, strict=True)])
    owners = np.repeat(np.arange(len(examples)), [len(places) for places in trained])

    def put(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    parts = (put(targets - 1), put(ids[targets]), put(owners))
    if not is_packed:
        return Batch(put(ids.reshape(len(examples), width)), *parts)
    from train.compute import pack

    positions = np.arange(len(ids)) - np.repeat(begins, lengths)
    return Batch(put(ids[None]), *parts, positions=put(positions[None]), packed=pack(lengths.tolist(), device))
