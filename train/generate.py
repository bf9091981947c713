"""Greedy completions of many prompts at once, token for token those that one prompt at a time would give.

B rows of a batch, T tokens so far. Rows are sorted by length, so a batch has little padding, and a batch holds as many
rows as a budget of tokens allows, because padding and cache cost tokens, not rows. A row that has ended leaves its
batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from train.batch import by_length


@dataclass(frozen=True, slots=True)
class Generated:
    """New token ids without the stop token, and whether one was reached before the limit."""

    ids: list[int]
    stopped: bool


@torch.inference_mode()
def generate(
    model: Any, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, stop_ids: Collection[int], batch_tokens: int
) -> list[Generated]:
    """Return the greedy continuation of each prompt, in the order of ``prompts``.

    A prompt is never cut. Where prompt and new tokens together would pass the positions that the model has, fewer
    tokens are generated, down to none; such a completion has not ``stopped``. The model is put into evaluation mode
    meanwhile.

    Raises:
        ValueError: a prompt is empty.
    """
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    limits = [min(max_new_tokens, _room(model) - len(prompt)) for prompt in prompts]
    found = [Generated([], False) for _ in prompts]
    able = [place for place, limit in enumerate(limits) if limit > 0]
    was_training = model.training
    model.eval()
    try:
        for group in by_length([len(prompts[place]) + limits[place] for place in able], batch_tokens):
            batch = [able[number] for number in group]
            chosen = [(prompts[place], limits[place]) for place in batch]
            done = _decode(model, [prompt for prompt, _ in chosen], [limit for _, limit in chosen], set(stop_ids))
            for place, generated in zip(batch, done, strict=True):
                found[place] = generated
    finally:
        model.train(was_training)
    return found


def _decode(model: Any, prompts: Sequence[Sequence[int]], limits: Sequence[int], stop_ids: set[int]) -> list[Generated]:
    device = next(model.parameters()).device
    longest = max(len(prompt) for prompt in prompts)
    # Padding stands on the left, so that the last position of every row is its newest token; the mask hides it.
    ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    # Loaded late: a report is rebuilt from predictions without transformers.
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    extra = _arguments(model, cache)
    new: list[list[int]] = [[] for _ in prompts]
    stopped = [False] * len(prompts)
    live = list(range(len(prompts)))
    while True:
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **extra)
        tokens = out.logits[:, -1].argmax(dim=-1)
        keep = []
        for row, token in enumerate(tokens.tolist()):
            place = live[row]
            if token in stop_ids:
                stopped[place] = True
                continue
            new[place].append(token)
            if len(new[place]) < limits[place]:
                keep.append(row)
        if not keep:
            return [Generated(tokens, end) for tokens, end in zip(new, stopped, strict=True)]
        positions = positions[:, -1:] + 1
        if len(keep) < len(live):
            chosen = torch.tensor(keep, device=device)
            cache.batch_select_indices(chosen)
            tokens, mask, positions = tokens[chosen], mask[chosen], positions[chosen]
            live = [live[row] for row in keep]
        ids = tokens[:, None]
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)


def _room(model: Any) -> int:
    """Return how many positions the model has; learned positions end there with an index error."""
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31)


def _arguments(model: Any, cache: Any) -> dict[str, Any]:
    """Return the cache by its name in this version of transformers, and "last position only" where known."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = inspect.signature(inner.forward).parameters
    arguments: dict[str, Any] = {"cache" if "cache" in names else "past_key_values": cache}
    if "logits_to_keep" in names:
        arguments["logits_to_keep"] = 1
    return arguments
