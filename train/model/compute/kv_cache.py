"""Keys and values of what rows have read so far, in every layer, without a copy a step.

B rows, M tokens of the longest of them, H query heads, K key heads, D width of a head.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import torch

from train.model.compute.tensors import working_dtype

SPAN_TOKENS = 1024
"""The fewest tokens of a span: one of less would cost more by its calls than it saves."""
_SIMILAR, _REACH = 0.8, 32


class KVCache:
    """Rows that were read end to end as one packed row and now grow by one token a step each.

    Rows may leave; the last one then takes the place of one that left, so that nothing else is moved. Give the rows
    that may grow longest first: runs of like length then share a right-padded store (a "span"), whose longest row is
    all that a step reads of it, and reading is what a step costs on a CPU.
    """

    def __init__(self, lengths: Sequence[int], capacity: Sequence[int], device: torch.device | str = "cpu") -> None:
        """``lengths`` of the packed row's examples, and the ``capacity`` of each in tokens, falling."""
        self.lengths = list(lengths)
        self.device = device
        self._edges, self._capacity = _spans(capacity), capacity
        self._layers: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._masks: dict[tuple[int, int | None], torch.Tensor] = {}
        self._prepare_step()

    def _prepare_step(self) -> None:
        """Prepare what all layers of the next step share."""
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
        """Copy a row to an earlier one, which has room for at least as many tokens."""
        length = self.lengths[source]
        (from_span, from_row), (to_span, to_row) = self._find(source), self._find(target)
        for spans in self._layers.values():
            for given, store in zip(spans[from_span], spans[to_span], strict=True):
                store[to_row, :, :length] = given[from_row, :, :length]

    def _find(self, row: int) -> tuple[int, int]:
        span = bisect_right(self._edges, row) - 1
        return span, row - self._edges[span]


def _spans(capacity: Sequence[int]) -> list[int]:
    """Return the edges of runs of rows of similar capacity."""
    edges = [0]
    for row, tokens in enumerate(capacity):
        longest = capacity[edges[-1]]
        assert tokens <= longest, "rows come the longest first"
        if tokens < _SIMILAR * longest and (row - edges[-1]) * longest >= SPAN_TOKENS:
            edges.append(row)
    return [*edges, len(capacity)]
