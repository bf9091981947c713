"""Greedy completions of many prompts at once, token for token those that one prompt at a time would give."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from train.evaluate.generate import packed, padded
from train.model.batch import by_length
from train.model.compute import evaluating


@dataclass(frozen=True, slots=True)
class Generated:
    """New token ids without the stop token, and whether one was reached before the limit."""

    ids: list[int]
    stopped: bool


def generate(
    model: Any, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, stop_ids: Collection[int], batch_tokens: int
) -> list[Generated]:
    """Return the greedy continuation of each prompt, in the order of ``prompts``.

    A batch holds as many prompts, the longest first, as ``batch_tokens`` allow, because cache costs tokens, not rows. A
    prompt is never cut. Where prompt and new tokens together would pass the positions that the model has, fewer tokens
    are generated, down to none; such a completion has not ``stopped``. The model is put into evaluation mode meanwhile.

    Raises:
        ValueError: a prompt is empty.
    """
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    limits = [min(max_new_tokens, _room(model) - len(prompt)) for prompt in prompts]
    completions = [Generated([], False) for _ in prompts]
    answerable = [index for index, limit in enumerate(limits) if limit > 0]
    with evaluating(model):
        is_packed = packed.can_decode(model)
        decode = packed.decode if is_packed else padded.decode
        lengths = [len(prompts[index]) + limits[index] for index in answerable]
        for group in by_length(lengths, batch_tokens, is_packed=is_packed):
            batch = [answerable[number] for number in group]
            done = decode(model, [prompts[index] for index in batch], [limits[index] for index in batch], set(stop_ids))
            for index, (ids, is_stopped) in zip(batch, done, strict=True):
                completions[index] = Generated(ids, is_stopped)
    return completions


def _room(model: Any) -> int:
    """Return how many positions the model has; learned positions end there with an index error."""
    return int(getattr(model.config, "max_position_embeddings", None) or 2**31)
