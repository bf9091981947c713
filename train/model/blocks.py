"""Causal attention by blocks of queries, as plain matrix products.

On a CPU those gain from bfloat16 where torch's own kernels do not. Examples lie end to end, each sees itself alone, and
the texts at an example's end may each go on from what stands before all of them. Grouped heads are never copied.

N tokens of all examples, H query heads, K key heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch

QUERIES = 128
"""Queries of a block: their scores against the keys of one example stay in the cache of a core."""


def blocked_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int],
    branches: Sequence[tuple[int, ...]], scale: float, window: int | None,
) -> torch.Tensor:  # fmt: skip
    """Return [H, N, D] of queries [H, N, D], keys and values [K, N, D] of examples of ``lengths``.

    ``branches`` are those of `Packed`; () where no example has some.
    """
    apply: Callable[..., torch.Tensor] = _Blocks.apply
    return apply(query, key, value, _blocks(lengths, branches, window), scale)


class _Blocks(torch.autograd.Function):
    """(queries [H, N, D], keys and values [K, N, D], blocks, scale) -> [H, N, D]; softmax in their format."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, blocks: list[Block], scale: float
    ) -> torch.Tensor:
        heads, tokens, width = query.shape
        groups = len(key)
        # Heads of one group share their keys, so they are one matrix product.
        scaled = (query * scale).view(groups, heads // groups, tokens, width)
        mixed = torch.empty(groups, heads // groups, tokens, value.shape[-1], dtype=query.dtype, device=query.device)
        weights = []
        for first, start, stop, hidden in blocks:
            num, reach = stop - start, stop - first
            part = scaled[:, :, start:stop].reshape(groups, -1, width)
            scores = (part @ key[:, first:stop].transpose(1, 2)).view(groups, -1, num, reach)
            scores[..., reach - hidden.shape[1] :].masked_fill_(hidden.to(scores.device), -torch.inf)
            share = torch.softmax(scores, -1)
            mixed[:, :, start:stop] = (share.view(groups, -1, reach) @ value[:, first:stop]).view(
                groups, -1, num, value.shape[-1]
            )
            weights.append(share)
        ctx.save_for_backward(scaled, key, value, mixed, *weights)
        ctx.blocks, ctx.scale = blocks, scale
        return mixed.view(heads, tokens, -1)

    @staticmethod
    def backward(ctx: Any, d_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scaled, key, value, mixed, *weights = ctx.saved_tensors
        groups, per_group, tokens, width = scaled.shape
        d_mixed = d_out.reshape(groups, per_group, tokens, -1)
        # d scores = weights * (d weights - delta): the row sums of a softmax's gradient (FlashAttention, section 3.1).
        delta = (d_mixed * mixed).sum(-1, keepdim=True)
        d_query, d_key, d_value = torch.empty_like(scaled), torch.zeros_like(key), torch.zeros_like(value)
        for share, (first, start, stop, _) in zip(weights, ctx.blocks, strict=True):
            num, reach = stop - start, stop - first
            flat = share.view(groups, -1, reach)
            part = d_mixed[:, :, start:stop].reshape(groups, per_group * num, -1)
            d_value[:, first:stop] += flat.transpose(1, 2) @ part
            d_share = (part @ value[:, first:stop].transpose(1, 2)).view(groups, per_group, num, reach)
            d_scores = d_share.sub_(delta[:, :, start:stop]).mul_(share).view(groups, -1, reach)
            d_query[:, :, start:stop] = (d_scores @ key[:, first:stop]).view(groups, per_group, num, width)
            d_key[:, first:stop] += d_scores.transpose(1, 2) @ scaled[:, :, start:stop].reshape(groups, -1, width)
        return d_query.mul_(ctx.scale).view(-1, tokens, width), d_key, d_value, None, None


Block = tuple[int, int, int, torch.Tensor]
"""Of a block of queries: its first key, its first query, where both end, and which of the last keys are hidden."""


def _blocks(lengths: Sequence[int], branches_of: Sequence[tuple[int, ...]], window: int | None) -> list[Block]:
    blocks: list[Block] = []
    begin = 0
    for length, branches in zip(lengths, branches_of or ((),) * len(lengths), strict=True):
        trunk = length - sum(branches)
        for start in range(begin, begin + trunk, QUERIES):
            stop = min(start + QUERIES, begin + trunk)
            first = begin if window is None else max(begin, start - window + 1)
            blocks.append(
                (first, start, stop, _hidden(stop - start, stop - (start if window is None else first), window))
            )
        for start, stop, hidden in _branch_blocks(trunk, branches, window, QUERIES):
            blocks.append((begin, begin + start, begin + stop, hidden))
        begin += length
    return blocks


@lru_cache(maxsize=QUERIES * 2)
def _hidden(num: int, reach: int, window: int | None) -> torch.Tensor:
    """Return which of its last ``reach`` keys each of ``num`` queries may not see: later ones, or too far back."""
    query = torch.arange(reach - num, reach)[:, None]
    key = torch.arange(reach)[None]
    return key > query if window is None else (key > query) | (key <= query - window)


@lru_cache(maxsize=256)
def _branch_blocks(
    trunk: int, branches: tuple[int, ...], window: int | None, queries: int
) -> tuple[tuple[int, int, torch.Tensor], ...]:
    """Return, counted from the beginning of the ``trunk``, blocks of at most ``queries`` tokens of the ``branches``:
    texts that each go on from the trunk, such as the answers that a question offers.

    Each is its first query, where it ends, and which of the last keys up to there its queries may not see: [number of
    queries, those keys]. A branch's tokens count their distance to the trunk as if the others were not there, so a
    ``window`` reaches from each branch as far back.
    """
    if not any(branches):
        return ()
    lengths = torch.tensor(branches)
    owner = torch.repeat_interleave(torch.arange(len(branches)), lengths)
    begin = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    index = torch.arange(sum(branches))
    position = trunk + index - begin
    blocks = []
    for start in range(0, len(index), queries):
        stop = min(start + queries, len(index))
        asking = slice(start, stop)
        hidden = (owner[None, :stop] != owner[asking, None]) | (index[None, :stop] > index[asking, None])
        if window is not None:
            hidden |= position[None, :stop] <= position[asking, None] - window
            far = torch.arange(trunk)[None] <= position[asking, None] - window
            hidden = torch.cat([far, hidden], 1)
        blocks.append((trunk + start, trunk + stop, hidden))
    return tuple(blocks)
