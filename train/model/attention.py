"""Causal attention over examples that lie end to end in one row.

Each example sees itself alone, without padding or a mask; a dense mask over the row would cost its length squared. On a
CPU the work is done by blocks of queries (`blocks`), on a GPU by torch's `varlen_attn`, elsewhere example by example.

N tokens of all examples, H query heads, K key heads, D width of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional

from train.model.blocks import blocked_attention

NAME = "pairsmith"
"""What transformers knows this attention by."""


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


class Pieces(NamedTuple):
    """A row with branches as texts of which the last tokens alone are asked: what stands before the branches of an
    example, and each branch after it.
    """

    starts: torch.Tensor
    """Where the queries of each piece begin, [pieces + 1], int32."""
    key_starts: torch.Tensor
    keys: torch.Tensor
    """The tokens whose keys the pieces see, one piece after another."""
    longest: int
    longest_key: int


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

    @cached_property
    def pieces(self) -> Pieces:
        """A row with branches as pieces."""
        sizes, keys = list[int](), list[np.ndarray]()
        begin = 0
        for length, parts in zip(self.lengths, self.branches, strict=True):
            trunk = np.arange(begin, begin + length - sum(parts))
            edges = np.cumsum([begin + len(trunk), *parts])
            sizes += [len(trunk), *parts]
            keys += [trunk, *(np.concatenate([trunk, np.arange(*edge)]) for edge in pairwise(edges))]
            begin += length
        counts, device = [len(tokens) for tokens in keys], self.starts.device
        starts = [
            to_device(torch.from_numpy(np.cumsum([0, *each]).astype(np.int32)), device) for each in (sizes, counts)
        ]
        tokens = to_device(torch.from_numpy(np.concatenate(keys)), device)
        return Pieces(starts[0], starts[1], tokens, max(sizes), max(counts))

    def arguments(self) -> dict[str, Any]:
        """Return what a model is called with so that it reads its row as this says, besides the ids and `packing`."""
        placed: dict[str, Any] = {"position_ids": self.positions}
        if not self.branches and has_varlen(self.starts.device):
            # By these names transformers hands them down to the attention, and a compiled layer sees plain arguments.
            placed |= {"cu_seq_lens_q": self.starts, "max_length_q": self.longest}
            placed["attention_mask"] = unread_mask(self.starts.device)
        return placed


def unread_mask(device: torch.device) -> torch.Tensor:
    """Return the mask that a model is called with within `packing` where nothing may wait for the device."""
    # Without a mask transformers looks into the positions for the examples, and waits for them; a mask of four
    # dimensions it hands down as it is. Nothing reads this one.
    return torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device)


class TokenStore(Protocol):
    """What a row that was read is stored in, and goes on from."""

    def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store the keys and values [K, N, D] of a packed row."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Add one token to each of B rows and return what it sees, [B, 1, H, D]."""


class _Reading(NamedTuple):
    packed: Packed | None
    kv_cache: TokenStore | None


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
def packing(packed: Packed | None, kv_cache: TokenStore | None = None) -> Iterator[None]:
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
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        if cu_seq_lens_q is not None and working_dtype(query) != torch.float32:
            # One node of the graph of a compiled layer, without a break in it.
            refuse_others(others)
            q, k, v = (tensor[0].to(working_dtype(query)) for tensor in (query, key, value))
            mixed = _varlen_attend(q, k, v, cu_seq_lens_q, max_length_q, scale, sliding_window)
            return mixed.transpose(0, 1)[None], None
        packed, kv_cache = _reading.get()
        if packed is None and kv_cache is None:
            plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
                module, query, key, value, attention_mask, scaling=scaling, **others
            )
            return plain
        refuse_others(others)
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
        if dtype != torch.float32 and has_varlen(query.device):
            if not packed.branches:
                return _varlen_attend(query, key, value, packed.starts, packed.longest, scale, window)
            pieces = packed.pieces
            key, value = (tensor.index_select(1, pieces.keys) for tensor in (key, value))
            return _varlen_attend(
                query, key, value, pieces.starts, pieces.longest, scale, window, pieces.key_starts, pieces.longest_key
            )
        if kind == "cpu" or is_windowed or packed.branches:
            nearest = window if is_windowed else None
            return blocked_attention(query, key, value, packed.lengths, packed.branches, scale, nearest)
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
    window: int | None, key_starts: torch.Tensor | None = None, longest_key: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Return [H, N, D] of queries [H, N, D], keys and values [K, N, D] by torch's own kernel, as this version takes it.

    ``longest`` may be more than the longest example has. Where keys begin elsewhere, the last of them are the queries'.
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
    key_starts = starts if key_starts is None else key_starts
    mixed = varlen_attn(q, k, v, starts, key_starts, longest, longest_key or longest, **named)
    assert isinstance(mixed, torch.Tensor), "only a request for more returns more"
    return mixed.transpose(0, 1)
