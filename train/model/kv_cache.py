"""The keys and values of rows that were read, and the steps by which each of them grows.

On a GPU a step is recorded once for a shape and then replayed, since small models wait for their launches. Tests hold
that on a CPU, with a recorder of their own; it was not run on a GPU.

B rows, N tokens of all examples, K key heads, H query heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from train.model.attention import packing, to_device, unread_mask, working_dtype


class StepShapes(NamedTuple):
    """How often the steps of decoding change their shapes."""

    span_tokens: int
    """The fewest tokens of a span: one of less would cost more by its calls than it saves."""
    reach: int
    """What a step reads of a row grows by so many tokens at once."""
    num_blind: int
    """Steps from one look for rows that are done to the next."""
    open_share: float
    """Rows that are done leave where this share of all rows, or less, goes on."""


def step_shapes(device: torch.device | str) -> StepShapes:
    """Return what is best on ``device``: a step of a CPU costs what it reads, one of a GPU its launches and waits.

    On a CPU each new reach has its matrix products compiled anew.
    """
    return StepShapes(1024, 32, 1, 1.0) if torch.device(device).type == "cpu" else StepShapes(16_384, 256, 16, 0.5)


_SIMILAR = 0.8


class KVCache:
    """Rows that were read end to end as one packed row and now grow by one token a step each.

    Give the rows that may grow longest first. A row that is full writes over its last token.
    """

    # Runs of like length share a right-padded store (a "span"), whose longest row is all that a step reads of it, and
    # reading is what a step costs on a CPU. Stores of a layer lie in one tensor [slots, D], so that a copy is one call
    # for all of them: of a row that begins at b and has room for r, token t of key head k is at b * K + k * r + t.
    # Slots come from positions on the device, and nothing but the reach hangs on how long a row is.
    def __init__(self, lengths: Sequence[int], capacity: Sequence[int], device: torch.device | str = "cpu") -> None:
        """``lengths`` of the packed row's examples, and the ``capacity`` of each in tokens, falling."""
        self.lengths = list(lengths)
        self.device = device
        self.shapes = step_shapes(device)
        self._capacity = list(capacity)
        edges = _spans(capacity, self.shapes.span_tokens)
        self._spans = [(slice(*edge), capacity[edge[0]]) for edge in pairwise(edges)]
        self._room = np.repeat([room for _, room in self._spans], np.diff(edges))
        self._begins = self._room.cumsum() - self._room
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._of_step: dict[Any, torch.Tensor] = {}
        self._put_rows()

    def _put_rows(self) -> None:
        # Begin anew on the device, with the rows as they are now.
        num = len(self.lengths)
        columns = (self.lengths, np.asarray(self._capacity) - 1, self._room[:num], self._begins[:num])
        self.positions, self._last, self._rooms, self._firsts = (
            to_device(torch.from_numpy(np.asarray(column, dtype=np.int64))[:, None], self.device) for column in columns
        )
        self.forget_step()
        self._find_reaches()

    def _slots(self, groups: int, rows: np.ndarray, tokens: np.ndarray) -> torch.Tensor:
        # Where ``tokens`` [N] of ``rows`` [N] lie, [K * N].
        heads = np.arange(groups)[:, None]
        slots = self._begins[rows] * groups + heads * self._room[rows] + tokens
        return to_device(torch.from_numpy(slots.ravel()), self.device)

    def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store the keys and values [K, N, D] of a packed row."""
        groups, name = len(key), ("read", len(key))
        if name not in self._of_step:
            rows = np.repeat(np.arange(len(self.lengths)), self.lengths)
            tokens = np.concatenate([np.arange(length) for length in self.lengths])
            self._of_step[name] = self._slots(groups, rows, tokens)
        num, slots = int(self._room.sum()) * groups, self._of_step[name]

        def stored(given: torch.Tensor) -> torch.Tensor:
            given = given.to(working_dtype(given)).reshape(-1, given.shape[-1])
            # What was never written is read with a weight of zero, so it may not be NaN.
            return given.new_zeros(num, given.shape[-1]).index_copy_(0, slots, given)

        self._layers[layer] = stored(key), stored(value)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int | None
    ) -> torch.Tensor:
        """Add one token to each of B rows and return what it sees, [B, 1, H, D]."""
        num, heads, _, width = query.shape
        groups = key.shape[1]
        stores = self._layers[layer]
        dtype = stores[0].dtype
        scaled = (query * scale).to(dtype).view(num, groups, heads // groups, width).transpose(2, 3)
        if groups not in self._of_step:
            slots = self._firsts * groups + torch.arange(groups, device=self.device) * self._rooms + self.positions
            self._of_step[groups] = slots.flatten()
        mixed = []
        with torch.autocast(query.device.type, enabled=False):
            for store, new in zip(stores, (key, value), strict=True):
                store.index_copy_(0, self._of_step[groups], new.reshape(-1, new.shape[-1]).to(dtype))
            for rows, room, reach in self._reaches:
                begin, shape = int(self._begins[rows.start]) * groups, (rows.stop - rows.start, groups, room, -1)
                part = slice(begin, begin + shape[0] * groups * room)
                keys, values = (store[part].view(shape)[:, :, :reach] for store in stores)
                # Heads of one group ask the same keys, so those are never repeated. On a CPU keys times queries takes,
                # in bfloat16, a third of the time of queries times keys.
                scores = (keys @ scaled[rows]).transpose(2, 3).contiguous()
                mixed.append(torch.softmax(scores.add_(self._mask(rows, reach, window, dtype)), -1) @ values)
        return torch.cat(mixed).view(num, 1, heads, -1)

    def _find_reaches(self) -> None:
        # Of each span that still has rows: those, their room, and what a step reads of it.
        num, step = len(self.lengths), self.shapes.reach
        spans = [(slice(rows.start, min(rows.stop, num)), room) for rows, room in self._spans if rows.start < num]
        self._reaches = [(rows, room, min(max(self.lengths[rows]) // step * step + step, room)) for rows, room in spans]

    def _mask(self, rows: slice, reach: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """Return [rows, 1, 1, reach]: -inf where a row has not come to, or where its window has left behind, else 0."""
        name = rows.start, window
        if name not in self._of_step:
            positions, index = self.positions[rows], torch.arange(reach, device=self.device)[None]
            hidden = index > positions
            if window is not None:
                hidden |= index <= positions - window
            mask = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(hidden, -torch.inf)
            self._of_step[name] = mask[:, None, None]
        return self._of_step[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """What the shapes of a step hang on: the number of rows, and the reach of each span."""
        return len(self.lengths), *(reach for _, _, reach in self._reaches)

    def advance(self) -> None:
        """End a step on the device: each row has read the token that `attend` added."""
        torch.minimum(self.positions + 1, self._last, out=self.positions)
        self.forget_step()

    def forget_step(self) -> None:
        """Forget what the layers of a step share."""
        self._of_step.clear()

    def grow(self) -> None:
        """End a step for what is known of it here, also where a graph of it was replayed."""
        self.lengths = [min(length + 1, most - 1) for length, most in zip(self.lengths, self._capacity, strict=True)]
        self._find_reaches()

    def select(self, rows: Sequence[int]) -> list[int]:
        """Let all but ``rows`` leave, and return those in their new order."""
        order = list(range(len(self.lengths)))
        if len(rows) == len(order):
            return order
        # The last row takes the place of a row that left, so that nothing else is moved; it has room for as much.
        wanted = set(rows)
        row, moves = 0, list[tuple[int, int]]()
        while row < len(order):
            if order[row] in wanted:
                row += 1
                continue
            last = order.pop()
            if row < len(order):
                order[row] = last
                if last in wanted:
                    moves.append((last, row))
        if moves:
            self._move(*(np.asarray(side) for side in zip(*moves, strict=True)))
        self.lengths = [self.lengths[row] for row in order]
        self._capacity = [self._capacity[row] for row in order]
        self._put_rows()
        return order

    def _move(self, sources: np.ndarray, targets: np.ndarray) -> None:
        # Copy rows to others, of which none is a source.
        sizes = np.asarray(self.lengths)[sources]
        tokens = np.concatenate([np.arange(size) for size in sizes])
        slots: dict[int, list[torch.Tensor]] = {}
        for stores in self._layers.values():
            groups = len(stores[0]) // int(self._room.sum())
            if groups not in slots:
                slots[groups] = [self._slots(groups, np.repeat(side, sizes), tokens) for side in (sources, targets)]
            source, target = slots[groups]
            for store in stores:
                store.index_copy_(0, target, store.index_select(0, source))


def _spans(capacity: Sequence[int], fewest: int) -> list[int]:
    edges = [0]
    for row, tokens in enumerate(capacity):
        longest = capacity[edges[-1]]
        assert tokens <= longest, "rows come the longest first"
        if tokens < _SIMILAR * longest and (row - edges[-1]) * longest >= fewest:
            edges.append(row)
    return [*edges, len(capacity)]


class TokenSteps:
    """Reads one token of each row at a time, after those that ``kv_cache`` holds.

    ``read`` gets what a model is called with, and returns a tensor [B, ..], which is good until the next step.
    """

    def __init__(self, read: Callable[[dict[str, Any]], torch.Tensor], kv_cache: KVCache) -> None:
        self._read, self.kv_cache = read, kv_cache
        self._shape: tuple[int, ...] = ()
        self._replay: Callable[[], torch.Tensor] | None = None
        self._ids = torch.empty(0)

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what is read of ``tokens`` [B]."""
        if self.kv_cache.shape != self._shape:
            # The first step of a shape is run as it is written: libraries set themselves up by it.
            self._shape, self._replay = self.kv_cache.shape, None
            self._ids = tokens[:, None].clone()
            out = self._run()
        else:
            self._ids.copy_(tokens[:, None])
            if self._replay is None:
                self._replay = self._record() if can_record(self._ids.device) else self._run
            out = self._replay()
        self.kv_cache.grow()
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
        with packing(None, self.kv_cache):
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
