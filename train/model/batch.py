"""Which examples an epoch is made of, which of them make which step, and how a step is laid out in memory.

All of it is a pure function of (seed, epoch, step): step n is computed without the steps and epochs before it, and a
resumed run sees the same batches. A step's examples are sorted by length into micro-batches; how many there are never
changes the gradient.

B examples, T tokens of the longest of them, N tokens of all, S supervised tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from train.base import console
from train.base.errors import TrainError
from train.data.rendering import Example, Examples
from train.model.distributed import shard_by_tokens
from train.recipe import MixingRecipe, Recipe

if TYPE_CHECKING:
    import torch

    from train.model.attention import Packed


MICRO_BATCH_TOKENS = 2048
TARGET_STEP_TOKENS, FEWEST_STEPS, MIN_STEP_RECORDS = 32_768, 100, 4
_MOST_PADDING, _LITTLE = 0.25, 1024
"""The share of padding that a batch may have, and the tokens up to which it does not matter."""


@dataclass(frozen=True)
class Step:
    """One optimizer step: its epoch from 0, its micro-batches as indices in the list of examples, and its target
    count.
    """

    epoch: int
    micro_batches: list[list[int]]
    num_supervised: int
    weight: float
    """The weights of its targets in sum: what the loss of the step is divided by."""

    @property
    def indices(self) -> list[int]:
        """The indices of all its examples."""
        return [index for indices in self.micro_batches for index in indices]


@dataclass(frozen=True)
class Batch:
    """Ids, right-padded [B, T] or end to end [1, N], and of each supervised token [S]: the flat index of the logits
    that predict it, its id, its example and, unless all are 1, its weight. ``packed`` describes a row end to end.
    """

    ids: torch.Tensor
    logit_indices: torch.Tensor
    targets: torch.Tensor
    example_indices: torch.Tensor
    packed: Packed | None = None
    weights: torch.Tensor | None = None


class BatchSampler:
    """All optimizer steps of a run over ``examples``, as ``recipe`` asks; ``len()`` is their number, ``[n]`` the n-th
    from 0.

    ``is_packed``: examples of a micro-batch lie end to end, so it holds as many as its tokens allow. ``num_ranks`` is
    the number of devices, of which each has per_device_train_batch_size.
    """

    def __init__(
        self, examples: Sequence[Example], recipe: Recipe, *, is_packed: bool = False, num_ranks: int = 1
    ) -> None:
        assert examples, "a run needs at least one example"
        self.examples, self.recipe, self.is_packed, self.num_ranks = examples, recipe, is_packed, num_ranks
        columns = examples if isinstance(examples, Examples) else Examples.of(examples)
        self.lengths, self.supervised, self.first_supervised, self.weights = (
            columns.lengths, columns.supervised, columns.first_supervised, columns.weights,
        )  # fmt: skip
        self.mixture = Mixture(examples, recipe.mixing, recipe.seed)
        first = self.mixture.epoch(0)
        self.epoch_tokens, self.epoch_supervised = int(self.lengths[first].sum()), int(self.supervised[first].sum())
        """Tokens of the first epoch, and how many of them are trained; without mixing, of each."""
        self.global_batch_size = _records_of_a_step(self.lengths[first], recipe, num_ranks)
        self.steps_per_epoch = -(-len(self.mixture) // self.global_batch_size)
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def with_recipe(self, recipe: Recipe) -> BatchSampler:
        """Return the steps of the same examples under another recipe."""
        return BatchSampler(self.examples, recipe, is_packed=self.is_packed, num_ranks=self.num_ranks)

    def __len__(self) -> int:
        return self.recipe.max_steps or self.recipe.num_train_epochs * self.steps_per_epoch

    def __getitem__(self, number: int) -> Step:
        if not 0 <= number < len(self):
            raise IndexError(number)
        epoch, place = divmod(number, self.steps_per_epoch)
        indices = self._order(epoch)[place * self.global_batch_size :][: self.global_batch_size].tolist()
        return Step(
            epoch, self._micro_batches(indices), int(self.supervised[indices].sum()), float(self.weights[indices].sum())
        )

    def shard(self, step: Step, num_ranks: int) -> list[list[list[int]]]:
        """Return each rank's micro-batches of a step; with fewer examples than ranks some get none."""
        if num_ranks == 1:
            return [step.micro_batches]
        indices = step.indices
        shares = shard_by_tokens(self.lengths[indices].tolist(), num_ranks)
        return [self._micro_batches([indices[n] for n in share]) for share in shares]

    def _micro_batches(self, indices: list[int]) -> list[list[int]]:
        lengths = self.lengths[indices].tolist()
        at_least = self.recipe.gradient_accumulation_steps
        groups = batch_by_length(lengths, self.micro_batch_tokens, at_least=at_least, is_packed=self.is_packed)
        return [[indices[n] for n in group] for group in groups]

    @property
    def micro_batch_tokens(self) -> int:
        """Most tokens of a micro-batch."""
        most = self.recipe.micro_batch_tokens
        return MICRO_BATCH_TOKENS if most == "auto" else most

    @property
    def step_size(self) -> str:
        """The size of a step in words, with what it was converted from."""
        recipe, size = self.recipe, f"{self.global_batch_size} records a step"
        if recipe.per_device_train_batch_size is None:
            return size
        each = (
            f"{recipe.per_device_train_batch_size} per device x {recipe.gradient_accumulation_steps} accumulation steps"
        )
        return f"{each} x {self.num_ranks} device{'s' * (self.num_ranks > 1)} = {size}"

    def num_tokens(self) -> int:
        """Return the tokens of the whole run."""
        whole, steps_left = divmod(len(self), self.steps_per_epoch)
        epochs = [*map(self.mixture.epoch, range(whole)), self._order(whole)[: steps_left * self.global_batch_size]]
        return sum(int(self.lengths[indices].sum()) for indices in epochs)

    def digest(self) -> str:
        """Return a SHA-256 of what decides the whole order: lengths, seed, sizes of steps and of categories.

        The first epoch itself is in it too, since the generator's algorithm is a library's.
        """
        sizes = (self.recipe.seed, self.global_batch_size, len(self), self.mixture.sizes)
        columns = (self.lengths, self.supervised, self.weights, self._order(0))
        hashed = hashlib.sha256(b"".join(column.astype("<f8").tobytes() for column in columns))
        hashed.update(repr(sizes).encode())
        return hashed.hexdigest()

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.recipe.seed, epoch]).permutation(self.mixture.epoch(epoch))


def _records_of_a_step(lengths: np.ndarray, recipe: Recipe, num_ranks: int) -> int:
    """Records of a step; "auto" aims at many tokens, but small data rather gets enough steps to learn in."""
    if recipe.per_device_train_batch_size is not None:
        return recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * num_ranks
    if recipe.global_batch_size != "auto":
        return recipe.global_batch_size
    enough = max(1, round(TARGET_STEP_TOKENS / float(lengths.mean())))
    num_records = len(lengths) * recipe.num_train_epochs
    return max(MIN_STEP_RECORDS, min(enough, num_records // FEWEST_STEPS))


def batch_by_length(
    lengths: Sequence[int], max_tokens: int, *, at_least: int = 1, is_packed: bool = False
) -> list[list[int]]:
    """Group indices 0..n-1 into batches, longest first, each at most ``max_tokens`` with its padding.

    A single item over ``max_tokens`` is a batch of its own. ``at_least`` is the wanted number of batches (or n if
    fewer). Packed batches have no padding; in larger others it is at most a quarter.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    most_items = -(-len(order) // max(1, at_least))
    groups: list[list[int]] = []
    tokens = 0
    for index in order:
        if groups:
            group = groups[-1]
            area = tokens + lengths[index] if is_packed else lengths[group[0]] * (len(group) + 1)
            is_wasteful = tokens > _LITTLE and area - tokens - lengths[index] > _MOST_PADDING * area
            if area <= max_tokens and len(group) < most_items and not is_wasteful:
                group.append(index)
                tokens += lengths[index]
                continue
        groups.append([index])
        tokens = lengths[index]
    return groups


def pad_multiple(device: torch.device) -> int:
    """Return the ``round_to`` that `collate` should have on ``device``.

    On a CPU oneDNN compiles each product for each new shape: half a millisecond, and half a megabyte that it keeps.
    """
    return 64 if device.type == "cpu" else 1


def collate(
    examples: Sequence[Example], device: torch.device | str = "cpu", *, is_packed: bool = False, round_to: int = 1
) -> Batch:
    """Return the examples as one batch: right-padded, or end to end for a model that can be packed.

    There is no attention mask: under causal attention no token sees what stands to its right, so padding on the right
    changes nothing before it, and the plain causal kernel stays usable. A row end to end is filled up to a multiple of
    ``round_to`` by an example of its own that nothing is trained on, see `pad_multiple`.
    """
    # torch is slow to import, and plans and previews do without.
    import torch

    from train.model.attention import pack, to_device

    lengths = np.array([len(example.ids) for example in examples])
    width = int(lengths.max())
    begins = np.cumsum(lengths) - lengths if is_packed else np.arange(len(examples)) * width
    total = -(-int(lengths.sum()) // round_to) * round_to
    ids = np.zeros(total if is_packed else len(examples) * width, dtype=np.int64)
    trained = [np.flatnonzero(example.mask) for example in examples]
    for begin, example in zip(begins, examples, strict=True):
        ids[begin : begin + len(example.ids)] = example.ids
    targets = np.concatenate([indices + begin for begin, indices in zip(begins, trained, strict=True)])
    example_indices = np.repeat(np.arange(len(examples)), [len(indices) for indices in trained])

    def put(array: np.ndarray) -> torch.Tensor:
        return to_device(torch.from_numpy(array), device)

    parts = (put(targets - 1), put(ids[targets]), put(example_indices))
    weights = None
    if any(example.weights is not None for example in examples):
        each = [
            np.ones(len(indices)) if example.weights is None else np.asarray(example.weights)[indices]
            for example, indices in zip(examples, trained, strict=True)
        ]
        weights = put(np.concatenate(each).astype(np.float32))
    if not is_packed:
        return Batch(put(ids.reshape(len(examples), width)), *parts, weights=weights)
    tail = total - int(lengths.sum())
    packed = pack([*lengths.tolist(), tail] if tail else lengths.tolist(), device)
    return Batch(put(ids[None]), *parts, packed=packed, weights=weights)


class Mixture:
    """The epochs of a run over ``examples``; ``sizes`` says how many records of each category an epoch has.

    Raises TrainError "E920 bad-recipe" where a cap names no category of the examples.
    """

    def __init__(self, examples: Sequence[Example], recipe: MixingRecipe, seed: int) -> None:
        self.is_plain, self.num_examples = recipe.is_plain, len(examples)
        self.sizes: dict[str, int] = {}
        self.num_replayed = 0
        if self.is_plain:
            # Examples of a mapped file are not built only to be counted.
            return
        groups: dict[str, list[int]] = {}
        replay: list[int] = []
        for index, example in enumerate(examples):
            (replay if example.is_replay else groups.setdefault(example.category, [])).append(index)
        if unknown := sorted(recipe.caps.keys() - groups.keys()):
            raise TrainError(
                "E920 bad-recipe",
                f"mixing.caps names {console.join_names(unknown)}, which no training record has as its category",
                f"Name some of {console.join_names(sorted(groups), 20)}.",
            )
        counts = {name: len(groups[name]) for name in sorted(groups)}
        self.sizes = epoch_sizes(counts, recipe.temperature, recipe.caps)
        rings = [(_ring(groups[name], seed, name), size) for name, size in self.sizes.items()]
        share = recipe.replay_share / (1 - recipe.replay_share)
        self.num_replayed = max(1, round(sum(self.sizes.values()) * share)) if replay else 0
        self._rings = [*rings, (_ring(replay, seed, None), self.num_replayed)] if replay else rings

    def __len__(self) -> int:
        return self.num_examples if self.is_plain else sum(self.sizes.values()) + self.num_replayed

    def epoch(self, number: int) -> np.ndarray:
        """Return the indices of the examples of epoch ``number`` (from 0), by category, not yet shuffled."""
        if self.is_plain:
            return np.arange(self.num_examples)
        # The records of a category stand in a ring, and epoch e reads its e-th stretch. So an epoch repeats a record
        # only where it needs more than there are, and over the epochs each record comes equally often.
        return np.concatenate(
            [ring[np.arange(number * size, (number + 1) * size) % len(ring)] for ring, size in self._rings]
        )

    def describe(self) -> str:
        """Return which category has how many of an epoch's records; "" where each record comes once."""
        if self.is_plain:
            return ""
        available = [len(ring) for ring, _ in self._rings]
        names = [*(name or "(no category)" for name in self.sizes), *(["replayed text"] if self.num_replayed else [])]
        targets = [size for _, size in self._rings]
        order = sorted(range(len(names)), key=lambda index: (-targets[index], names[index]))
        return console.join_names((f"{names[n]} {targets[n]:,} of {available[n]:,}" for n in order), 20)


def _ring(indices: Sequence[int], seed: int, name: str | None) -> np.ndarray:
    # Shuffle the indices of a category; the name None stands for replayed text, as no category has that name.
    key = [0] if name is None else [1, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")]
    return np.random.default_rng([seed, *key]).permutation(indices)


def epoch_sizes(counts: Mapping[str, int], temperature: float, caps: Mapping[str, int]) -> dict[str, int]:
    """Return the records of each category in an epoch: whole numbers of the same sum as the capped ``counts``."""
    # A category of n records counts min(n, cap)^(1/T): temperature mixing of T5, Raffel et al. 2020, arXiv:1910.10683,
    # section 3.5.2. No category passes its cap; what it may not take goes to the others.
    capped = {name: min(count, caps.get(name, count)) for name, count in counts.items()}
    if temperature == 1:
        return capped
    left, uncapped = sum(capped.values()), dict(capped)
    sizes: dict[str, int] = {}
    while True:
        whole = sum(count ** (1 / temperature) for count in uncapped.values())
        targets = {name: left * count ** (1 / temperature) / whole for name, count in uncapped.items()}
        full = [name for name, size in targets.items() if size > caps.get(name, size)]
        if not full:
            break
        for name in full:
            sizes[name] = caps[name]
            left -= caps[name]
            del uncapped[name]
    # Largest remainders, so that the sum stays; a category never loses its last record.
    sizes |= {name: max(1, int(size)) for name, size in targets.items()}
    order = sorted(uncapped, key=lambda name: (int(targets[name]) - targets[name], name))
    for name in order[: max(0, left - sum(sizes[name] for name in uncapped))]:
        sizes[name] += 1
    return {name: sizes[name] for name in counts}
