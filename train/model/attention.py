"""Causal attention over examples that lie end to end in one row, and the keys and values that they go on from.

Each example sees itself alone, without padding or a mask; a dense mask over the row would cost its length squared. On a
CPU the work is done by blocks of queries as plain matrix products, which gain from bfloat16 where torch's own kernels
do not; on a GPU by torch's `varlen_attn`; elsewhere example by example. Grouped heads are never copied.

B rows, N tokens of all examples, M tokens of the longest row, H query heads, K key heads, D width of a head.
"""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

NAME = "pairsmith"
"""What transformers knows this attention by."""
QUERIES = 128
"""Queries of a block: their scores against the keys of one example stay in the cache of a core."""


def working_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Return the format of products with ``tensor``: that of autocast where it is on, else its own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return ``tensor``, which is the CPU's, on ``device``.

    From pinned memory the copy runs beside the computation, which a step ahead of it is still busy with.
    """
    is_cuda = torch.device(device).type == "cuda"
    return (tensor.pin_memory() if is_cuda else tensor).to(device, non_blocking=True)


@dataclass(frozen=True)
class Packed:
    """How long the examples of a row are, in its order; on its device, where each begins ([number + 1], int32) and the
    position of each token in its own example ([1, N]).

    ``branches`` are, for each example, the lengths of the texts that its last tokens are: each goes on from what stands
    before all of them, and sees none of the others.
    """

    lengths: tuple[int, ...]
    starts: torch.Tensor
    positions: torch.Tensor
    branches: tuple[tuple[int, ...], ...] = ()

    @property
    def longest(self) -> int:
        """Length of the longest example."""
        return max(self.lengths)

    def arguments(self) -> dict[str, Any]:
        """Return what a model is called with so that it reads its row as this says, besides the ids and `packing`."""
        placed: dict[str, Any] = {"position_ids": self.positions}
        if not self.branches and has_varlen(self.starts.device):
            # By these names transformers hands them down to the attention, and a compiled layer sees plain arguments.
            # Each other number is one more shape to compile: so the longest is rounded up, and empty examples follow
            # the last; neither changes what is computed.
            starts = functional.pad(self.starts, (0, -len(self.lengths) % _EXAMPLES), value=sum(self.lengths))
            longest = max(QUERIES, 1 << (self.longest - 1).bit_length())
            # Without a mask transformers looks into the positions for the examples, and waits for the device to do so;
            # a mask of four dimensions it hands down as it is. Nothing reads this one.
            unread = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=starts.device)
            placed |= {"cu_seq_lens_q": starts, "max_length_q": longest, "attention_mask": unread}
        return placed


_EXAMPLES = 64
"""Examples of a row are rounded up to a multiple of so many where layers may be compiled."""


class _Reading(NamedTuple):
    packed: Packed | None
    kv_cache: KVCache | None


_NOTHING = _Reading(None, None)
_reading: ContextVar[_Reading] = ContextVar("reading", default=_NOTHING)


def pack(lengths: Sequence[int], device: torch.device | str = "cpu", branches: Sequence[Sequence[int]] = ()) -> Packed:
    """Return the description of a row of examples of ``lengths``, which end in ``branches`` where they have some."""
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.concatenate([[0], sizes.cumsum()])
    positions = _branched(lengths, branches) if branches else np.arange(starts[-1]) - np.repeat(starts[:-1], sizes)
    return Packed(
        tuple(lengths),
        to_device(torch.from_numpy(starts.astype(np.int32)), device),
        to_device(torch.from_numpy(positions)[None], device),
        tuple(map(tuple, branches)),
    )


def _branched(lengths: Sequence[int], branches: Sequence[Sequence[int]]) -> np.ndarray:
    # Positions of examples whose branches each go on from what stands before all of them.
    counted = []
    for length, parts in zip(lengths, branches, strict=True):
        trunk = length - sum(parts)
        counted += [np.arange(trunk), *(np.arange(trunk, trunk + part) for part in parts)]
    return np.concatenate(counted)


@contextmanager
def packing(packed: Packed | None, kv_cache: KVCache | None = None) -> Iterator[None]:
    """Within, a model that uses this attention reads its row as ``packed`` says; with None as any other model does.

    ``kv_cache`` stores what the row's examples were read as; with it alone, each row of a batch is one token that goes
    on from there.
    """
    token = _reading.set(_NOTHING if packed is None and kv_cache is None else _Reading(packed, kv_cache))
    try:
        yield
    finally:
        _reading.reset(token)


def packed_now() -> Packed | None:
    """Return what `packing` says here and now."""
    return _reading.get().packed


@cache
def register() -> None:
    """Make this attention known to transformers, by `NAME`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attention(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
        scaling: float | None = None, sliding_window: int | None = None, cu_seq_lens_q: torch.Tensor | None = None,
        max_length_q: int = 0, **others: Any,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        if cu_seq_lens_q is None or working_dtype(query) == torch.float32:
            mixed: tuple[torch.Tensor, None] = by_lengths(
                module, query, key, value, attention_mask, scaling, sliding_window, **others
            )
            return mixed
        # One node of the graph of a compiled layer, without a break in it.
        refuse_others(others)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        q, k, v = (tensor[0].to(working_dtype(query)) for tensor in (query, key, value))
        return _varlen_attend(q, k, v, cu_seq_lens_q, max_length_q, scale, sliding_window).transpose(0, 1)[None], None

    # A compiled layer leaves it alone: what it does depends on the lengths, and each set of them would be a new shape.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def by_lengths(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
        scaling: float | None, sliding_window: int | None, **others: Any,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        packed, kv_cache = _reading.get()
        if packed is None and kv_cache is None:
            plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
                module, query, key, value, attention_mask, scaling=scaling, **others
            )
            return plain
        refuse_others(others)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        if packed is None:
            assert kv_cache is not None, "one of the two is there"
            return kv_cache.attend(module.layer_idx, query, key, value, scale, sliding_window), None
        if kv_cache is not None:
            kv_cache.store(module.layer_idx, key[0], value[0])
        mixed = attend(query[0], key[0], value[0], packed, scale, sliding_window)
        return mixed.transpose(0, 1)[None], None

    def refuse_others(others: dict[str, Any]) -> None:
        if others.get("softcap") is not None or others.get("s_aux") is not None:
            raise NotImplementedError("attention with soft caps or sinks")

    def mask(*arguments: Any, **named: Any) -> Any:
        # transformers would notice the packing by the positions, and build a dense mask for it.
        return sdpa_mask(*arguments, **named) if _reading.get() is _NOTHING else None

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packed: Packed, scale: float, window: int | None
) -> torch.Tensor:
    """Return [H, N, D] of queries [H, N, D], keys and values [K, N, D]."""
    kind, dtype = query.device.type, working_dtype(query)
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    is_windowed = window is not None and window < packed.longest
    with torch.autocast(kind, enabled=False):
        if dtype != torch.float32 and not packed.branches and has_varlen(query.device):
            return _varlen_attend(query, key, value, packed.starts, packed.longest, scale, window)
        if kind == "cpu" or is_windowed or packed.branches:
            apply: Callable[..., torch.Tensor] = _Blocks.apply
            return apply(query, key, value, _blocks(packed, window if is_windowed else None), scale)
        each = zip(*(torch.split(tensor[None], list(packed.lengths), 2) for tensor in (query, key, value)), strict=True)
        is_grouped, alone = len(query) != len(key), functional.scaled_dot_product_attention
        mixed = [alone(q, k, v, is_causal=True, scale=scale, enable_gqa=is_grouped) for q, k, v in each]
        return torch.cat(mixed, 2)[0]


def has_varlen(device: torch.device) -> bool:
    """Return whether torch has an attention over examples of different lengths on ``device``; not for float32."""
    return device.type == "cuda" and _varlen_names() is not None


@cache
def _varlen_names() -> frozenset[str] | None:
    """Return the names of the arguments of torch's `varlen_attn`; None where this version of torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return frozenset(inspect.signature(varlen_attn).parameters)


def _varlen_attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: torch.Tensor, longest: int, scale: float,
    window: int | None,
) -> torch.Tensor:  # fmt: skip
    """Return [H, N, D] of queries [H, N, D], keys and values [K, N, D] by torch's own kernel, as this version takes it.

    ``longest`` may be more than the longest example has.
    """
    from torch.nn.attention.varlen import varlen_attn

    known = _varlen_names() or frozenset()
    named: dict[str, Any] = {"scale": scale}
    if "window_size" in known:
        named["window_size"] = (-1 if window is None else window - 1, 0)
    elif window is not None:
        raise NotImplementedError("this version of torch has no windows in it")
    else:
        named["is_causal"] = True
    if len(query) != len(key):
        if "enable_gqa" in known:
            named["enable_gqa"] = True
        else:
            key, value = (t.repeat_interleave(len(query) // len(t), 0) for t in (key, value))
    q, k, v = (tensor.transpose(0, 1) for tensor in (query, key, value))
    mixed = varlen_attn(q, k, v, starts, starts, longest, longest, **named)
    assert isinstance(mixed, torch.Tensor), "only a request for more returns more"
    return mixed.transpose(0, 1)


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


def _blocks(packed: Packed, window: int | None) -> list[Block]:
    blocks: list[Block] = []
    begin = 0
    for length, branches in zip(packed.lengths, packed.branches or ((),) * len(packed.lengths), strict=True):
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


SPAN_TOKENS = 1024
"""The fewest tokens of a span: one of less would cost more by its calls than it saves."""
_SIMILAR, _REACH = 0.8, 32


class KVCache:
    """Rows that were read end to end as one packed row and now grow by one token a step each.

    Give the rows that may grow longest first.
    """

    # Runs of like length share a right-padded store (a "span"), whose longest row is all that a step reads of it, and
    # reading is what a step costs on a CPU.
    def __init__(self, lengths: Sequence[int], capacity: Sequence[int], device: torch.device | str = "cpu") -> None:
        """``lengths`` of the packed row's examples, and the ``capacity`` of each in tokens, falling."""
        self.lengths = list(lengths)
        self.device = device
        self._edges, self._capacity = _spans(capacity), capacity
        self._layers: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._masks: dict[tuple[int, int | None], torch.Tensor] = {}
        self._prepare_step()

    def _prepare_step(self) -> None:
        num = len(self.lengths)
        self.positions = torch.tensor(self.lengths, device=self.device)[:, None]
        self._rows = [slice(first, min(stop, num)) for first, stop in pairwise(self._edges) if first < num]
        self._numbers = torch.arange(num, device=self.device)
        self._masks.clear()

    def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store the keys and values [K, N, D] of a packed row."""
        key, value = (tensor.to(working_dtype(tensor)) for tensor in (key, value))
        begin = 0
        self._layers[layer] = []
        for rows in self._rows:
            stores = tuple(
                t.new_zeros(rows.stop - rows.start, len(t), self._capacity[rows.start], t.shape[-1])
                for t in (key, value)
            )
            for row, length in enumerate(self.lengths[rows]):
                for store, given in zip(stores, (key, value), strict=True):
                    store[row, :, :length] = given[:, begin : begin + length]
                begin += length
            self._layers[layer].append((stores[0], stores[1]))

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Add one token to each of B rows and return what it sees, [B, 1, H, D]."""
        num, heads, _, width = query.shape
        groups = key.shape[1]
        dtype = self._layers[layer][0][0].dtype
        scaled = (query * scale).to(dtype).view(num, groups, heads // groups, width).transpose(2, 3)
        key, value = key[:, :, 0].to(dtype), value[:, :, 0].to(dtype)
        mixed = []
        with torch.autocast(query.device.type, enabled=False):
            for rows, (keys, values) in zip(self._rows, self._layers[layer], strict=False):
                num = rows.stop - rows.start
                index = self._numbers[:num], slice(None), self.positions[rows, 0]
                keys[index], values[index] = key[rows], value[rows]
                mask = self._mask(rows, window, dtype)
                reach = mask.shape[-1]
                # Heads of one group ask the same keys, so those are never repeated. On a CPU keys times queries takes,
                # in bfloat16, a third of the time of queries times keys.
                scores = (keys[:num, :, :reach] @ scaled[rows]).transpose(2, 3).contiguous()
                mixed.append(torch.softmax(scores.add_(mask), -1) @ values[:num, :, :reach])
        return torch.cat(mixed).view(len(query), 1, heads, -1)

    def _mask(self, rows: slice, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Return [rows, 1, 1, M]: -inf where a row has not come to, or where its window has left behind, else 0."""
        key = rows.start, window
        if key not in self._masks:
            positions = self.positions[rows]
            # In steps, because each new shape has its matrix products compiled anew on a CPU.
            reach = min(-(-(max(self.lengths[rows]) + 1) // _REACH) * _REACH, self._capacity[rows.start])
            index = torch.arange(reach, device=self.device)[None]
            hidden = index > positions
            if window is not None:
                hidden |= index <= positions - window
            self._masks[key] = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(
                hidden, -torch.inf
            )[:, None, None]
        return self._masks[key]

    def grow(self) -> None:
        """End a step: each row has read the token that `attend` added."""
        self.lengths = [length + 1 for length in self.lengths]
        self._prepare_step()

    def select(self, rows: Sequence[int]) -> list[int]:
        """Let all but ``rows`` leave, and return those in their new order."""
        order = list(range(len(self.lengths)))
        if len(rows) == len(order):
            return order
        # The last row takes the place of a row that left, so that nothing else is moved.
        wanted = set(rows)
        row = 0
        while row < len(order):
            if order[row] in wanted:
                row += 1
                continue
            last = order.pop()
            if row < len(order):
                order[row] = last
                if last in wanted:
                    self._move(last, row)
        self.lengths = [self.lengths[row] for row in order]
        self._prepare_step()
        return order

    def _move(self, source: int, target: int) -> None:
        # Copy a row to an earlier one, which has room for at least as many tokens.
        length = self.lengths[source]
        (from_span, from_row), (to_span, to_row) = self._find(source), self._find(target)
        for spans in self._layers.values():
            for given, store in zip(spans[from_span], spans[to_span], strict=True):
                store[to_row, :, :length] = given[from_row, :, :length]

    def _find(self, row: int) -> tuple[int, int]:
        span = bisect_right(self._edges, row) - 1
        return span, row - self._edges[span]


def _spans(capacity: Sequence[int]) -> list[int]:
    edges = [0]
    for row, tokens in enumerate(capacity):
        longest = capacity[edges[-1]]
        assert tokens <= longest, "rows come the longest first"
        if tokens < _SIMILAR * longest and (row - edges[-1]) * longest >= SPAN_TOKENS:
            edges.append(row)
    return [*edges, len(capacity)]
