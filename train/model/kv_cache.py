"""The keys and values of rows that were read, and the steps by which each of them grows.

On a GPU a step is recorded once for a shape and then replayed, since small models wait for their launches. Tests hold
that on a CPU, with a recorder of their own; it was not run on a GPU.

B rows, N tokens of all examples, K key heads, H query heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from train.model.attention import Attend, Packed, attending, to_device, unread_mask, working_dtype


class StepShapes(NamedTuple):
    """How often the steps of decoding change their shapes."""

    reach: int
    """Tokens by which the part of a row that a step reads grows."""
    num_blind: int
    """Steps from one look for rows that are done to the next."""
    open_share: float
    """Share of unfinished rows at which those that are done leave."""


def step_shapes(device: torch.device | str) -> StepShapes:
    """Return what is best on ``device``: a step of a CPU costs what it reads, one of a GPU its launches and waits.

    On a CPU each new reach has its matrix products compiled anew.
    """
    return StepShapes(32, 1, 1.0) if torch.device(device).type == "cpu" else StepShapes(256, 16, 0.5)


class KVCache:
    """Rows that were read end to end as one packed row and now grow by one token a step each.

    Where there is no room left, a row writes over its last token.
    """

    def __init__(self, lengths: Sequence[int], room: int, device: torch.device | str = "cpu") -> None:
        """``lengths`` of the packed row's examples, and the most tokens that one of them can have."""
        self.lengths, self.room, self.device, self.shapes = list(lengths), room, device, step_shapes(device)
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
        step = self.shapes.reach
        return min((max(self.lengths) + self.num_steps) // step * step + step, self.room)

    def advance(self) -> None:
        """End a step on the device: each row has read the token that `attend` added."""
        torch.clamp(self.positions + 1, max=self.room - 1, out=self.positions)
        self.forget_step()

    def forget_step(self) -> None:
        """Forget what the layers of a step share."""
        self._masks.clear()

    def select(self, rows: Sequence[int]) -> Sequence[int]:
        """Let all but ``rows`` leave, and return those."""
        if len(rows) < len(self.lengths):
            index = to_device(torch.tensor(rows), self.device)
            self.lengths, self.positions = [self.lengths[row] for row in rows], self.positions[index]
            self._layers = {layer: (keys[index], values[index]) for layer, (keys, values) in self._layers.items()}
            self.forget_step()
        return rows


class TokenSteps:
    """Reads one token of each row at a time, after those that ``kv_cache`` holds.

    ``read`` gets what a model is called with, and returns a tensor [B, ..], which is good until the next step.
    """

    def __init__(self, read: Callable[[dict[str, Any]], torch.Tensor], kv_cache: KVCache) -> None:
        self._read, self.kv_cache = read, kv_cache
        self._shape = 0, 0
        self._replay: Callable[[], torch.Tensor] | None = None
        self._ids = torch.empty(0)

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what is read of ``tokens`` [B]."""
        if (shape := (len(tokens), self.kv_cache.reach)) != self._shape:
            # The first step of a shape is run as it is written: libraries set themselves up by it.
            self._shape, self._replay = shape, None
            self._ids = tokens[:, None].clone()
            out = self._run()
        else:
            self._ids.copy_(tokens[:, None])
            if self._replay is None:
                self._replay = self._record() if can_record(self._ids.device) else self._run
            out = self._replay()
        self.kv_cache.num_steps += 1
        return out

    def _record(self) -> Callable[[], torch.Tensor]:
        try:
            return recorded(self._run)
        except RuntimeError:
            # A model that waits for a number of the device, as rotary embeddings do that change with the length. What
            # was made on the way was never computed.
            self.kv_cache.forget_step()
            return self._run

    def _run(self) -> torch.Tensor:
        arguments = {"input_ids": self._ids, "position_ids": self.kv_cache.positions, "use_cache": False}
        with attending(self.kv_cache.attend):
            out = self._read(arguments | {"attention_mask": unread_mask(self._ids.device)})
        self.kv_cache.advance()
        return out


def can_record(device: torch.device) -> bool:
    """Return whether launches on ``device`` can be recorded."""
    return device.type == "cuda"


def recorded(function: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Return what repeats ``function`` on the same memory, without running it; its result is overwritten each time."""
    graph = torch.cuda.CUDAGraph()
    # Another thread may go on using the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        out = function()

    def replay() -> torch.Tensor:
        graph.replay()
        return out

    return replay
