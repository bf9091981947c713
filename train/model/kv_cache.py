"""The keys and values of rows that were read, and the steps by which each of them grows.

B rows, N tokens of all examples, K key heads, H query heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from train.model.attention import Attend, Packed, attending, to_device, unread_mask, working_dtype

REACH = 32
"""Tokens by which the part of a row that a step reads grows: on a CPU each new size has its products compiled anew."""


class KVCache:
    """Rows that were read end to end as one packed row and now grow by one token a step each.

    Where there is no room left, a row writes over its last token.
    """

    def __init__(self, lengths: Sequence[int], room: int, device: torch.device | str = "cpu") -> None:
        """``lengths`` of the packed row's examples, and the most tokens that one of them can have."""
        self.lengths, self.room, self.device = list(lengths), room, device
        self.num_steps = 0
        self.positions = to_device(torch.tensor(self.lengths)[:, None], device)
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._masks: dict[int | None, torch.Tensor] = {}

    def prompts(self, packed: Packed) -> Attend:
        """Return how a packed row is read so that its keys and values are stored."""
        room = self.room
        rows = torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths))
        slots = to_device(rows * room, self.device) + packed.positions[0]

        def attend(layer: int, query: torch.Tensor, *pair: Any) -> torch.Tensor:
            dtype = working_dtype(query)

            def stored(tensor: torch.Tensor) -> torch.Tensor:
                groups, _, width = tensor[0].shape
                # What was never written is read with a weight of zero, so it may not be NaN.
                store = tensor.new_zeros(len(self.lengths) * room, groups, width, dtype=dtype)
                store.index_copy_(0, slots, tensor[0].transpose(0, 1).to(dtype))
                # Keys of one head lie together: a step reads them so.
                return store.view(-1, room, groups, width).transpose(1, 2).contiguous()

            self._layers[layer] = stored(pair[0]), stored(pair[1])
            return packed.attend(layer, query, *pair)

        return attend

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Add one token to each of B rows and return what it sees, [B, 1, H, D]."""
        num, heads, _, width = query.shape
        keys, values = self._layers[layer]
        groups, dtype, reach = keys.shape[1], keys.dtype, self.reach
        rows = torch.arange(num, device=query.device)
        for store, new in ((keys, key), (values, value)):
            # Not by scatter_(), which takes forty times as long in bfloat16 on a CPU.
            store[rows, :, self.positions[:, 0]] = new[:, :, 0].to(dtype)
        with torch.autocast(query.device.type, enabled=False):
            # Heads of one group ask the same keys, so those are never repeated.
            mixed = functional.scaled_dot_product_attention(
                query.to(dtype).reshape(num, groups, heads // groups, width), keys[:, :, :reach],
                values[:, :, :reach], self._mask(window, dtype), scale=scale,
            )  # fmt: skip
        return mixed.reshape(num, 1, heads, -1)

    def _mask(self, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Return [B, 1, 1, reach]: -inf beyond the end of a row or behind its window, else 0."""
        if window not in self._masks:
            index = torch.arange(self.reach, device=self.device)[None]
            hidden = index > self.positions
            if window is not None:
                hidden |= index <= self.positions - window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(hidden, -torch.inf)
            self._masks[window] = mask[:, None, None]
        return self._masks[window]

    @property
    def reach(self) -> int:
        """The tokens of each row that a step reads."""
        return min((max(self.lengths) + self.num_steps) // REACH * REACH + REACH, self.room)

    def read(self, model: Callable[..., torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
        """Return what ``model`` makes of ``tokens`` [B], each of which follows what its row holds and is then in it."""
        with attending(self.attend):
            out = model(input_ids=tokens[:, None], position_ids=self.positions, use_cache=False,
                        attention_mask=unread_mask(tokens.device))  # fmt: skip
        torch.clamp(self.positions + 1, max=self.room - 1, out=self.positions)
        self.num_steps += 1
        self._masks.clear()
        return out

    def select(self, rows: Sequence[int]) -> None:
        """Let all but ``rows`` leave."""
        index = to_device(torch.tensor(rows), self.device)
        self.lengths, self.positions = [self.lengths[row] for row in rows], self.positions[index]
        self._layers = {layer: (keys[index], values[index]) for layer, (keys, values) in self._layers.items()}
        self._masks.clear()
