"""What an epoch is made of: how many records of each category, which ones, and replayed general text.

Sizes: a category of n records counts min(n, cap)^(1/T) (temperature mixing of T5, Raffel et al. 2020, arXiv:1910.10683,
section 3.5.2), and an epoch keeps the number of records that it has without a temperature. No category passes its cap;
what it may not take goes to the others.

Choice: the records of a category stand in a ring, shuffled by (seed, category), and epoch e reads its e-th stretch.
So an epoch repeats a record only where it needs more than there are, over the epochs each record comes equally often,
and an epoch is computed without the ones before it. The order within an epoch is shuffled anew each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from train.base import console
from train.base.errors import TrainError
from train.data.rendering import Example
from train.recipe import MixingRecipe


class Mixture:
    """The epochs of a run over ``examples``; ``sizes`` says how many records of each category an epoch has.

    Raises TrainError "E920 bad-recipe" where a cap names no category of the examples.
    """

    def __init__(self, examples: Sequence[Example], recipe: MixingRecipe, seed: int) -> None:
        self.is_plain, self.number = recipe.is_plain, len(examples)
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
                f"the categories are {console.join_names(sorted(groups), 20)}",
            )
        counts = {name: len(groups[name]) for name in sorted(groups)}
        self.sizes = epoch_sizes(counts, recipe.temperature, recipe.caps)
        rings = [(_ring(groups[name], seed, name), size) for name, size in self.sizes.items()]
        share = recipe.replay_share / (1 - recipe.replay_share)
        self.num_replayed = max(1, round(sum(self.sizes.values()) * share)) if replay else 0
        self._rings = [*rings, (_ring(replay, seed, None), self.num_replayed)] if replay else rings

    def __len__(self) -> int:
        return self.number if self.is_plain else sum(self.sizes.values()) + self.num_replayed

    def epoch(self, number: int) -> np.ndarray:
        """Return the indices of the examples of epoch ``number`` (from 0), by category, not yet shuffled."""
        if self.is_plain:
            return np.arange(self.number)
        return np.concatenate(
            [ring[np.arange(number * size, (number + 1) * size) % len(ring)] for ring, size in self._rings]
        )

    def sentence(self) -> str:
        """Return which category has how many of an epoch's records; "" where each record comes once."""
        if self.is_plain:
            return ""
        available = [len(ring) for ring, _ in self._rings]
        names = [*(name or "(no category)" for name in self.sizes), *(["replayed text"] if self.num_replayed else [])]
        wanted = [size for _, size in self._rings]
        order = sorted(range(len(names)), key=lambda index: (-wanted[index], names[index]))
        return console.join_names((f"{names[n]} {wanted[n]:,} of {available[n]:,}" for n in order), 20)


def _ring(indices: Sequence[int], seed: int, name: str | None) -> np.ndarray:
    # Shuffle the indices of a category; the name None stands for replayed text, as no category has that name.
    key = [0] if name is None else [1, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")]
    return np.random.default_rng([seed, *key]).permutation(indices)


def epoch_sizes(counts: Mapping[str, int], temperature: float, caps: Mapping[str, int]) -> dict[str, int]:
    """Return the records of each category in an epoch: whole numbers of the same sum as the capped ``counts``."""
    capped = {name: min(count, caps.get(name, count)) for name, count in counts.items()}
    if temperature == 1:
        return capped
    left, rest = sum(capped.values()), dict(capped)
    sizes: dict[str, int] = {}
    while True:
        whole = sum(count ** (1 / temperature) for count in rest.values())
        wanted = {name: left * count ** (1 / temperature) / whole for name, count in rest.items()}
        full = [name for name, size in wanted.items() if size > caps.get(name, size)]
        if not full:
            break
        for name in full:
            sizes[name] = caps[name]
            left -= caps[name]
            del rest[name]
    # Largest remainders, so that the sum stays; a category never loses its last record.
    sizes |= {name: max(1, int(size)) for name, size in wanted.items()}
    order = sorted(rest, key=lambda name: (int(wanted[name]) - wanted[name], name))
    for name in order[: max(0, left - sum(sizes[name] for name in rest))]:
        sizes[name] += 1
    return {name: sizes[name] for name in counts}
