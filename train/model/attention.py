"""Causal attention over examples that lie end to end in one row.

Each example sees itself alone, without padding; a dense mask over the row would cost its length squared. On a GPU it is
torch's `varlen_attn` over the whole row, elsewhere torch's attention example by example.

Rows that were read so grow by a token a step in a `KVCache`.

N tokens of all examples, B rows, H query heads, K key heads, D width of a head.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

NAME = "pairsmith"
"""Name of this attention in transformers' registry."""
VISIBLE_STEP = 32
"""Tokens by which the part of a row that a step reads grows: on a CPU each new size has its products compiled anew."""

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor, float, int | None], torch.Tensor]
"""(layer, queries [B, H, N, D], keys and values [B, K, N, D], scale, window) -> [B, N, H, D]."""
_attend: ContextVar[Attend | None] = ContextVar("attend", default=None)


def compute_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Return the dtype of matrix products with ``tensor``: that of autocast where it is on, else its own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return ``tensor``, which is the CPU's, on ``device``; to a GPU the copy runs beside the computation."""
    is_cuda = torch.device(device).type == "cuda"
    return (tensor.pin_memory() if is_cuda else tensor).to(device, non_blocking=True)


@dataclass(frozen=True)
class Packed:
    """The examples of a row: their lengths, and on its device where each begins ([number + 1], int32) and the position
    of each token in its own example ([1, N]).

    ``branches`` are, for each example, the lengths of the texts that its last tokens are: each continues what stands
    before all of them, and sees none of the others.
    """

    lengths: tuple[int, ...]
    starts: torch.Tensor
    positions: torch.Tensor
    branches: tuple[tuple[int, ...], ...] = ()
    _masks: dict[tuple[Any, ...], torch.Tensor] = field(default_factory=dict)

    def model_kwargs(self) -> dict[str, Any]:
        """Return the arguments of a model that reads the row, besides the ids; call it within `packing`."""
        arguments: dict[str, Any] = {"position_ids": self.positions}
        if not self.branches and has_varlen(self.starts.device):
            # transformers hands them down to the attention by these names, so a compiled layer sees plain arguments.
            arguments |= {"cu_seq_lens_q": self.starts, "max_length_q": max(self.lengths)}
            arguments["attention_mask"] = placeholder_mask(self.starts.device)
        return arguments

    def attend(
        self, _layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Return [1, N, H, D]; see `Attend`."""
        dtype = compute_dtype(query)
        q, k, v = (tensor.to(dtype) for tensor in (query, key, value))
        if dtype != torch.float32 and not self.branches and has_varlen(query.device):
            return varlen_attend(q, k, v, self.starts, max(self.lengths), scale, window)
        if query.device.type == "cpu":
            # Its backward pass takes a third longer in bfloat16.
            q, k, v = q.float(), k.float(), v.float()
        mixed = []
        parts = zip(*(torch.split(tensor, list(self.lengths), 2) for tensor in (q, k, v)), strict=True)
        with torch.autocast(query.device.type, enabled=False):
            for number, (q, k, v) in enumerate(parts):
                mask = self._visible(q.shape[2], self.branches[number] if self.branches else (), window)
                mixed.append(
                    functional.scaled_dot_product_attention(
                        q, k, v, mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
                    )
                )
        return torch.cat(mixed, 2).transpose(1, 2).to(dtype)

    def _visible(self, length: int, branches: tuple[int, ...], window: int | None) -> torch.Tensor | None:
        """Return which keys each query of one example sees, [length, length]; None where that is all before it."""
        if not any(branches) and (window is None or window >= length):
            return None
        # The layers share it, and so do examples of one form.
        key = length, branches, window
        if key not in self._masks:
            index, positions = torch.arange(length), torch.from_numpy(_positions(length, branches))
            branch = torch.repeat_interleave(torch.tensor([length - sum(branches), *branches]))
            visible = (index[:, None] >= index) & ((branch == 0) | (branch[:, None] == branch))
            if window is not None:
                visible &= positions[:, None] - positions < window
            self._masks[key] = to_device(visible, self.starts.device)
        return self._masks[key]


def _positions(length: int, branches: Sequence[int]) -> np.ndarray:
    stem = length - sum(branches)
    return np.concatenate([np.arange(stem), *(np.arange(stem, stem + size) for size in branches)])


def pack(lengths: Sequence[int], device: torch.device | str = "cpu", branches: Sequence[Sequence[int]] = ()) -> Packed:
    """Return the description of a row of examples of ``lengths``, which end in ``branches`` where they have some."""
    starts = np.cumsum([0, *lengths], dtype=np.int32)
    positions = np.concatenate([*map(_positions, lengths, branches or [()] * len(lengths))])
    return Packed(
        tuple(lengths),
        to_device(torch.from_numpy(starts), device),
        to_device(torch.from_numpy(positions)[None], device),
        tuple(map(tuple, branches)) if any(map(any, branches)) else (),
    )


def placeholder_mask(device: torch.device) -> torch.Tensor:
    """Return the mask that a model is called with within `use_attention` where nothing may wait for the device."""
    # Without a mask transformers looks into the positions for the examples, and waits for them; a mask of four
    # dimensions it hands down as it is. Nothing reads this one.
    return torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device)


@contextmanager
def use_attention(attend: Attend | None) -> Iterator[None]:
    """Within, models that use this attention call ``attend``; with None they attend as transformers' own would."""
    token = _attend.set(attend)
    try:
        yield
    finally:
        _attend.reset(token)


def packing(packed: Packed | None) -> AbstractContextManager[None]:
    """Return a context within which a model reads its row as ``packed`` says."""
    return use_attention(None if packed is None else packed.attend)


def current_attention() -> Attend | None:
    """Return the attention that `use_attention` was last entered with."""
    return _attend.get()


@cache
def register_attention() -> None:
    """Make this attention known to transformers, by `NAME`."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def attention(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
        scaling: float | None = None, sliding_window: int | None = None, cu_seq_lens_q: torch.Tensor | None = None,
        max_length_q: int = 0, **others: Any,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        # First, so that a compiled layer never asks for the context variable, which would break its graph.
        is_varlen = cu_seq_lens_q is not None and compute_dtype(query) != torch.float32
        attend = None if is_varlen else _attend.get()
        if not is_varlen and attend is None:
            plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
                module, query, key, value, attention_mask, scaling=scaling, **others
            )
            return plain
        if others.get("softcap") is not None or others.get("s_aux") is not None:
            raise NotImplementedError("attention with soft caps or sinks")
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        if attend is not None:
            return attend(module.layer_idx, query, key, value, scale, sliding_window), None
        q, k, v = (tensor.to(compute_dtype(query)) for tensor in (query, key, value))
        return varlen_attend(q, k, v, cu_seq_lens_q, max_length_q, scale, sliding_window), None

    def mask(*arguments: Any, **named: Any) -> Any:
        # transformers would notice the packing by the positions, and build a dense mask for it.
        return sdpa_mask(*arguments, **named) if _attend.get() is None else None

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)


def has_varlen(device: torch.device) -> bool:
    """Return whether torch has an attention over examples of different lengths on ``device``; not for float32."""
    return device.type == "cuda" and _has_varlen()


@cache
def _has_varlen() -> bool:
    # Older ones have no windows or no grouped heads.
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"window_size", "enable_gqa"} <= inspect.signature(varlen_attn).parameters.keys()


def varlen_attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, starts: Any, longest: int, scale: float,
    window: int | None,
) -> torch.Tensor:  # fmt: skip
    """Return [1, N, H, D] of queries [1, H, N, D], keys and values [1, K, N, D], by torch's own kernel."""
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    mixed = varlen_attn(
        q, k, v, starts, starts, longest, longest, scale=scale, enable_gqa=q.shape[1] != k.shape[1],
        window_size=(-1 if window is None else window - 1, 0),
    )  # fmt: skip
    assert isinstance(mixed, torch.Tensor), "only a request for more returns more"
    return mixed[None]


class KVCache:
    """Rows that were read end to end as one packed row and now grow by one token a step each.

    Where there is no room left, a row writes over its last token.
    """

    def __init__(self, lengths: Sequence[int], capacity: int, device: torch.device | str = "cpu") -> None:
        """``lengths`` [B] are the tokens of the packed row's examples, ``capacity`` the most that one can have."""
        self.lengths, self.capacity, self.device = list(lengths), capacity, device
        self.num_steps = 0
        self.positions = to_device(torch.tensor(self.lengths)[:, None], device)
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._masks: dict[int | None, torch.Tensor] = {}

    def prefill(self, packed: Packed) -> Attend:
        """Return the attention of a packed row that stores the row's keys and values."""
        capacity = self.capacity
        rows = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths))
        slots = to_device(rows * capacity, self.device) + packed.positions[0]

        def attend(layer: int, query: torch.Tensor, *pair: Any) -> torch.Tensor:
            dtype = compute_dtype(query)

            def stored(tensor: torch.Tensor) -> torch.Tensor:
                groups, _, width = tensor[0].shape
                # What was never written is read with a weight of zero, so it may not be NaN.
                store = tensor.new_zeros(len(self.lengths) * capacity, groups, width, dtype=dtype)
                store.index_copy_(0, slots, tensor[0].transpose(0, 1).to(dtype))
                # Keys of one head lie together: a step reads them so.
                return store.view(-1, capacity, groups, width).transpose(1, 2).contiguous()

            self._layers[layer] = stored(pair[0]), stored(pair[1])
            return packed.attend(layer, query, *pair)

        return attend

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Add one token to each of B rows and return what it sees, [B, 1, H, D]."""
        num, heads, _, width = query.shape
        keys, values = self._layers[layer]
        groups, dtype, visible_length = keys.shape[1], keys.dtype, self.visible_length
        rows = torch.arange(num, device=query.device)
        for store, new in ((keys, key), (values, value)):
            # Not by scatter_(), which takes forty times as long in bfloat16 on a CPU.
            store[rows, :, self.positions[:, 0]] = new[:, :, 0].to(dtype)
        with torch.autocast(query.device.type, enabled=False):
            # Heads of one group ask the same keys, so those are never repeated.
            mixed = functional.scaled_dot_product_attention(
                query.to(dtype).reshape(num, groups, heads // groups, width), keys[:, :, :visible_length],
                values[:, :, :visible_length], self._mask(window, dtype), scale=scale,
            )  # fmt: skip
        return mixed.reshape(num, 1, heads, -1)

    def _mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Return [B, 1, 1, reach]: -inf beyond the end of a row or behind its window, else 0."""
        if window not in self._masks:
            index = torch.arange(self.visible_length, device=self.device)[None]
            hidden = index > self.positions
            if window is not None:
                hidden |= index <= self.positions - window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(hidden, -torch.inf)
            self._masks[window] = mask[:, None, None]
        return self._masks[window]

    @property
    def visible_length(self) -> int:
        """The tokens of each row that a step reads."""
        return min((max(self.lengths) + self.num_steps) // VISIBLE_STEP * VISIBLE_STEP + VISIBLE_STEP, self.capacity)

    def decode_step(self, model: Callable[..., torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
        """Return what ``model`` makes of ``tokens`` [B], each of which follows what its row holds and is then in it."""
        with use_attention(self.attend):
            out = model(input_ids=tokens[:, None], position_ids=self.positions, use_cache=False,
                        attention_mask=placeholder_mask(tokens.device))  # fmt: skip
        torch.clamp(self.positions + 1, max=self.capacity - 1, out=self.positions)
        self.num_steps += 1
        self._masks.clear()
        return out

    def select(self, rows: Sequence[int]) -> None:
        """Let all but ``rows`` leave."""
        index = to_device(torch.tensor(rows), self.device)
        self.lengths, self.positions = [self.lengths[row] for row in rows], self.positions[index]
        self._layers = {layer: (keys[index], values[index]) for layer, (keys, values) in self._layers.items()}
        self._masks.clear()
