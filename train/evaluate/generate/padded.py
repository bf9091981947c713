"""Decoding of any model with its own cache: rows padded on the left, a mask, and rows that end leave the batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from train.evaluate.generate.answers import Answers
from train.model.compute import inner_of


def decode(
    model: Any, prompts: Sequence[Sequence[int]], limits: Sequence[int], stop_ids: set[int]
) -> list[tuple[list[int], bool]]:
    """Return the greedy continuation of each prompt, up to its limit, and whether a stop token ended it."""
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
    answers = Answers(limits, stop_ids)
    while True:
        out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, **extra)
        tokens = out.logits[:, -1].argmax(dim=-1)
        open_rows = answers.take(tokens.tolist())
        if not open_rows:
            return answers.done()
        positions = positions[:, -1:] + 1
        if len(open_rows) < len(tokens):
            chosen = torch.tensor(open_rows, device=device)
            cache.batch_select_indices(chosen)
            tokens, mask, positions = tokens[chosen], mask[chosen], positions[chosen]
            answers.keep(open_rows)
        ids = tokens[:, None]
        mask = torch.cat([mask, mask.new_ones(len(tokens), 1)], dim=1)


def _arguments(model: Any, cache: Any) -> dict[str, Any]:
    """Return the cache by its name in this version of transformers, and "last position only" where known."""
    names = inspect.signature(inner_of(model).forward).parameters
    arguments: dict[str, Any] = {"cache" if "cache" in names else "past_key_values": cache}
    if "logits_to_keep" in names:
        arguments["logits_to_keep"] = 1
    return arguments
