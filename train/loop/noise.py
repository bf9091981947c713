"""Noise on the input embeddings while training: NEFTune (Jain et al. 2023, arXiv:2310.05914)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def noisy_embeddings(model: Any, lengths: Sequence[int], alpha: float) -> Iterator[None]:
    """Within, each example's embeddings [L, H] get uniform noise in (-1, 1) * alpha / sqrt(L * H); 0 adds none.

    ``lengths`` are those of the examples of the batch, in its order: one a row of a padded batch, or end to end. L is
    the example's own length, so neither padding nor packing changes how loud its noise is. The noise comes from torch's
    generator of the device, which each step begins anew (`train.ranks.seed_stream`), so a resumed run draws the same.
    What the model can do must be known before (`capabilities_of`): with noise it looks like another model.
    """
    if not alpha:
        yield
        return

    def add(_module: Any, _given: Any, embedded: torch.Tensor) -> torch.Tensor:
        return embedded + _noise(embedded, lengths, alpha)

    # On the embedding itself and not on the model: peft's wrapper of new tokens is one too.
    hook = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _noise(embedded: torch.Tensor, lengths: Sequence[int], alpha: float) -> torch.Tensor:
    rows, tokens, width = embedded.shape
    each = torch.tensor(lengths, dtype=torch.float32)
    loudness = (alpha / math.sqrt(width) * each.rsqrt()).to(embedded.device)
    if rows == len(lengths):
        # Padding gets noise as well, which no token sees.
        loudness = loudness[:, None, None]
    else:
        assert (rows, tokens) == (1, sum(lengths)), "examples lie in rows of their own or end to end in one"
        loudness = loudness.repeat_interleave(torch.tensor(lengths, device=embedded.device))[None, :, None]
    noise = torch.empty_like(embedded, dtype=torch.float32).uniform_(-1, 1)
    return (noise * loudness).to(embedded.dtype)
